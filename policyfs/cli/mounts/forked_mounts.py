"""A program that runs several commands `policyfs mount`: ``python -m policyfs.cli.mounts.forked_mounts``.

It imports once what the workers, commands and daemons of all mounts need, and then forks their launchers and
the commands. So they share this memory. It reads no policy and no site file: the memory that they share has
none.

Standard input: JSON, a list of commands, each a list of the words after `policyfs mount`. Standard output:
JSON, for each command its exit code and its standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from policyfs.cli.common.colour import print_error
from policyfs.cli.common.commands import CommandLine
from policyfs.cli.mounts.mount import add_mount, run_mount
from policyfs.cli.mounts.serve import import_daemon
from policyfs.content.workers.execution import ForkedLauncher
from policyfs.content.workers.zygote import prepared
from policyfs.errors import EXIT_REFUSED, PolicyfsError
from policyfs.linux.child import close_others
from policyfs.linux.confinement.prctl import name_process
from policyfs.linux.interpreter import UNUSED, load_late, load_libraries_by_name
from policyfs.linux.threads import tells_of_threads

_PIECE: Final = 1 << 16

Outcome = tuple[int, str]


def run_side_by_side(commands: Sequence[Sequence[str]]) -> list[Outcome]:
    """Run commands `policyfs mount` in forks of this process, as many at a time as there are processors.
    Return the exit code and standard error of each.

    INVARIANT: this process has one thread.
    """
    worker = prepared()
    import_daemon()
    gc.collect()
    gc.freeze()  # so that no collector copies pages that a process shares with others
    # without such a kernel a launcher must be the daemon's child, to hear of its end
    launchers = [ForkedLauncher(worker) for _ in commands] if tells_of_threads() else []
    waiting = list(enumerate(commands))
    running: dict[int, _Command] = {}
    found: dict[int, Outcome] = {}
    poll = select.poll()
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            command = _Command(*waiting.pop(0), launchers)
            running[command.stderr] = command
            poll.register(command.stderr, select.POLLIN)
        for fd, _ in poll.poll():
            if not running[fd].read():
                poll.unregister(fd)
                command = running.pop(fd)
                found[command.at] = command.ended()
    return [found[at] for at in range(len(commands))]


class _Command:
    """A running command. at: its index. stderr: the pipe with its standard error."""

    def __init__(self, at: int, words: Sequence[str], launchers: list[ForkedLauncher]) -> None:
        """launchers: its own is taken from it, if there is one; the others are those of other commands."""
        self.at = at
        self._text = b""
        self.stderr, theirs = os.pipe()
        launcher = launchers.pop(0) if launchers else None
        self._pid = os.fork()
        if self._pid == 0:
            _run(words, theirs, launcher, launchers)
        os.close(theirs)
        if launcher is not None:
            launcher.leave()

    def read(self) -> bool:
        """Read more of its standard error. Return False at its end."""
        piece = os.read(self.stderr, _PIECE)
        self._text += piece
        return bool(piece)

    def ended(self) -> Outcome:
        """Wait for its end."""
        os.close(self.stderr)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status), self._text.decode(errors="replace")


def _run(
    words: Sequence[str], stderr: int, launcher: ForkedLauncher | None, others: Sequence[ForkedLauncher]
) -> NoReturn:
    """Run a command in the forked process, without descriptors of the others, and end."""
    code: object = EXIT_REFUSED
    try:
        for other in others:
            other.leave()
        null = os.open(os.devnull, os.O_RDWR)
        for number, fd in enumerate((null, null, stderr)):
            os.dup2(fd, number)
        close_others(0, 1, 2, *([] if launcher is None else launcher.descriptors()))
        code = run_mount(_options(words), launcher)
    except SystemExit as ended:
        code = ended.code
    except PolicyfsError as error:
        print_error(error)
        code = error.exit_code
    except BaseException:  # noqa: BLE001 - no exception may reach the code of the other process
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else EXIT_REFUSED)


def _options(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line. Ends with SystemExit(2) if they are wrong."""
    parser = CommandLine("policyfs mount")
    add_mount(parser)
    return parser.parse_args(words, argparse.Namespace(command="mount"))


def main() -> None:
    """Import, read the commands, run them, and write what they said."""
    load_libraries_by_name()
    load_late(*UNUSED)
    name_process("policyfs")
    json.dump(run_side_by_side(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
