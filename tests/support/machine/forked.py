"""A daemon forked off a process that has imported everything: it serves half a second earlier.

`daemon_of` is a preexec_fn that never returns: subprocess has forked and connected the standard
streams, and in place of another program this process becomes the daemon. What it runs is the same
as `python -m MODULE WORDS`; what it inherits of the tests is put aside or undone here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import grp
import importlib
import itertools
import os
import pwd
import resource
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NoReturn

from policyfs.content.workers import execution, uids
from policyfs.linux.code_digest import code_digest
from policyfs.linux.memory import mapped_bytes
from tests.support.machine.launchers import attach
from tests.support.machine.namespace import die_with_parent

_DESCRIPTORS: Final = 1 << 16
_MODULES: Final = (
    *("policyfs.daemon.daemon", "policyfs.cli.mounts.mount", "policyfs.cli.mounts.umount"),
    *("policyfs.kernel.probe", "policyfs.journal.sealing.keys", "policyfs.journal.sealing.sealer"),
    *("policyfs.policy.analysis.invariants", "encodings.ascii", "encodings.latin_1"),
)
"""What a daemon imports on its way to a mount, as far as nothing of it is imported by another here."""
_kept: list[Any] = []
"""What must not be finalised in the daemon: descriptors that these objects close are others' there."""


def prepare(program: Sequence[str]) -> None:
    """Do once, in the process of the tests, what each daemon that is forked off it would do again."""
    for module in (*_MODULES, program[0]):
        importlib.import_module(module)
    _numbers_of_accounts()
    code_digest()


@functools.cache
def _numbers_of_accounts() -> frozenset[int]:
    """The uids and gids that have accounts. A daemon looks up each of the 64 that its workers may get, which
    opens 1,300 files where libnss-systemd is installed: a tenth of the processor time of a mount."""
    return frozenset([user.pw_uid for user in pwd.getpwall()] + [group.gr_gid for group in grp.getgrall()])


class _UidsOfProcesses:
    """The uids of processes, asked of the kernel one by one. An executed daemon (Mount.executed) reads the
    status of every process: 5 ms of each mount, beside all the processes of a run of tests."""

    def isdisjoint(self, block: range) -> bool:
        """Return True if no process has one of these uids as its real uid, as workers have theirs."""
        return not any(map(_has_processes, block))


def _has_processes(uid: int) -> bool:
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    return True


def daemon_of(
    program: Sequence[str],
    words: Sequence[str],
    environment: Mapping[str, str],
    launchers: str,
    most_descriptors: int = 0,
    kept: Sequence[int] = (),
    answered: int = -1,
    process: Callable[[], int] | None = None,
) -> NoReturn:
    """Run a module as a program, as `python -X faulthandler -m` does, and end with its exit code.

    program: the module and its leading arguments; words: the others. launchers: the socket of the prepared
    interpreter (launchers.py). most_descriptors: see Mount. kept: descriptors to hand on, beside the standard
    streams. answered: one that closes once the mount answers. process: the function that the module, which is
    imported, calls when it runs as a program; None: the module is executed. Only in a forked child.
    """
    status = 1
    try:
        gc.freeze()  # what is alive now stays shared with the parent: no collector writes to it
        gc.enable()  # subprocess switches it off for as long as preexec_fn runs, which is here for good
        _kept.extend((sys.stdin, sys.stdout, sys.stderr))
        handed_on = sorted({*kept, answered} - {-1})
        for below, above in itertools.pairwise([2, *handed_on, _DESCRIPTORS]):
            os.closerange(below + 1, above)
        if answered >= 0:
            _close_once_it_answers(answered)
        if most_descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most_descriptors, most_descriptors))
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout, sys.stderr = (
            os.fdopen(fd, "w", buffering=1, closefd=False, errors="backslashreplace") for fd in (1, 2)
        )
        faulthandler.enable(file=2)
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)
        die_with_parent(signal.SIGTERM)
        warnings.resetwarnings()
        os.environ.update(environment)
        attach(launchers)
        _fork_commands(launchers)
        uids._has_account = _numbers_of_accounts().__contains__
        uids._uids_of_processes = _UidsOfProcesses
        sys.argv = [program[0], *program[1:], *words]
        if process is None:
            sys.modules.pop(program[0], None)  # imported for what it imports; it runs as __main__
        status = _run(process or partial(_execute, program[0]))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _fork_commands(launchers: str) -> None:
    """Make `policyfs up` and `down` fork the commands that they execute: each would import for 0.5 s.

    The launchers that `up` forks map what the tests map: the room of workers counts from there."""
    if (site := sys.modules.get("policyfs.cli.site.site")) is None:
        return
    execution.worker_limits.__kwdefaults__["address_space"] += mapped_bytes()

    def run(line: Sequence[str], *, env: Mapping[str, str], check: bool, **named: Any) -> Any:
        _, isolated, as_module, program, *words = line
        assert (isolated, as_module) == ("-I", "-m")

        def command() -> NoReturn:
            os.environ.clear()
            daemon_of((program,), words, env, launchers)

        return subprocess.run(["/nonexistent"], check=check, preexec_fn=command, **named)  # never reached

    site.subprocess = SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)


def _close_once_it_answers(answered: int) -> None:
    from policyfs.cli.mounts import serve as module

    serve = module.serve

    def serve_and_tell(options: Any, loader: Any, ready: Callable[[], None], *, as_json: bool) -> int:
        def tell() -> None:
            ready()
            os.close(answered)

        return serve(options, loader, tell, as_json=as_json)

    module.serve = serve_and_tell


def _execute(module: str) -> int:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _run(process: Callable[[], int]) -> int:
    """What the end of a program means as an exit code, as the interpreter has it."""
    try:
        return process()
    except SystemExit as leave:
        if leave.code is None or isinstance(leave.code, int):
            return leave.code or 0
        print(leave.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
