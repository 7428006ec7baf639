"""`policyfs run`: run a command with an app's own mount in place of the store.

The mount is made for the command, and ends with the command. The command and the daemon run in mount
namespaces of their own. So no other process sees the mount, and the daemon still sees the store at its path.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import pwd
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from policyfs.cli import mount
from policyfs.cli.serve import fork_daemon
from policyfs.cli.start import Start
from policyfs.daemon import control
from policyfs.errors import PolicyfsError, UsageError
from policyfs.linux import seccomp
from policyfs.linux.identity import become
from policyfs.linux.keyring import leave_session_keyring
from policyfs.linux.namespaces import bind, enter_own_mounts
from policyfs.linux.private_files import make_private

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
"""Exit codes of policyfs if the command cannot be started (POSIX, Shell Command Language, 2.8.2)."""
_BY_SIGNAL: Final = 128
_END_S: Final = 30.0
_POLL_S: Final = 0.02
_NO_DESCRIPTOR: Final = (1 << 31) - 1
"""A number above every file descriptor, to close all descriptors up to it. RLIMIT_NOFILE is not such a
number: it may have been lowered after a descriptor with a higher number was opened."""
_PLACES: Final = 1000
"""The maximum number of mounts of one app that `policyfs run` can make at the same time."""
_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP)
_OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
_CAUGHT: Final = (*_FORWARDED, *_OF_THE_TERMINAL)
"""Signals that this process catches. A terminal sends the signals of _OF_THE_TERMINAL to the command, too. So
this process passes on only the signals of _FORWARDED.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command line."""
    run = subparsers.add_parser(
        "run",
        help="run a command with an app's mount in place of the store",
        description="Run COMMAND as the app. COMMAND finds a mount of its own at the path of STORE.",
    )
    add = run.add_argument
    add("--app", required=True, metavar="NAME", help="the app that runs the command")
    mount.add_options(run)
    add("--at", metavar="DIR", help="show the mount at this directory (default: STORE)")
    add("store", metavar="STORE")
    add("words", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    run.set_defaults(run=run_run, any_uid=False, clear_dead=False, log=None)


@dataclass(frozen=True, slots=True)
class _Identity:
    """The user and group under which the command runs: a user of the app."""

    uid: int
    gid: int

    def take(self) -> None:
        """Make this process run under the user, with the groups of the user's account.

        Without an account, the process has only the group *gid*.
        """
        account = _account(self.uid)
        groups = os.getgrouplist(account.pw_name, self.gid) if account is not None else [self.gid]
        become(self.uid, self.gid, groups)
        os.environ["HOME"] = account.pw_dir if account is not None else "/"
        for name in ("USER", "LOGNAME"):
            os.environ[name] = account.pw_name if account is not None else str(self.uid)


def run_run(args: argparse.Namespace) -> int:
    """Mount the store for the app, run the command, and unmount. Return the command's exit code.

    If a signal has ended the command, return 128 plus the signal's number.
    """
    command = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not command:
        raise UsageError("write the command behind `--`, such as: policyfs run ... STORE -- ls -l STORE")
    if os.geteuid() != 0:
        raise PolicyfsError("running as an app needs root; run this command with sudo")
    at = os.path.realpath(args.at or args.store)
    if not os.path.isdir(at):
        raise PolicyfsError(f"{args.at or args.store} is not a directory; create it, or choose another --at")
    args.mountpoint, lock = _claimed_place(args.app)
    start = Start.of(args)
    try:
        return _mounted(args, start, command, at)
    except PolicyfsError as error:
        start.failed(str(error))
        raise
    finally:
        os.close(lock)


def _mounted(args: argparse.Namespace, start: Start, command: Sequence[str], at: str) -> int:
    try:
        enter_own_mounts()
    except OSError as error:
        raise PolicyfsError(
            f"cannot make a mount namespace: {error.strerror}; run this command outside of a container"
        ) from error
    options, loader = mount.prepared(args, start)
    if options.user_id is None:
        raise UsageError(f"the app {args.app} has no uid: add --uid UID")
    lifeline = os.pipe()
    daemon = fork_daemon(options, loader, None, start, lifeline=lifeline)
    try:
        identity = _Identity(options.user_id, options.group_ids[0])
        return _run(command, identity, options.mountpoint, at)
    finally:
        _end(daemon, options.trail / "daemon.log")
        for fd in lifeline:
            os.close(fd)


def _claimed_place(app: str) -> tuple[str, int]:
    """Return an empty directory in which an app's mount can be made, and a descriptor that keeps it locked.

    The directory is the first free one of a series. The trail of a mount is named after the mountpoint. So a
    command that runs every night continues the same trail.
    """
    row = control.runtime_dir() / "run"
    try:
        for directory in (row.parent, row):
            make_private(directory)
        for number in range(_PLACES):
            place = row / f"{app}-{number}"
            place.mkdir(mode=0o755, exist_ok=True)
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return str(place), fd
    except OSError as error:
        raise PolicyfsError(
            f"cannot make a mountpoint in {row}: {error.strerror};"
            " set POLICYFS_RUNTIME_DIR to a writable directory"
        ) from error
    raise PolicyfsError(f"{_PLACES} commands run as {app} already; wait until a command has ended")


def _run(command: Sequence[str], identity: _Identity, mountpoint: str, at: str) -> int:
    """Start the command, pass signals on to it, and return its exit code.

    at: the directory at which the command finds the mount. Signals are blocked until the handlers are set:
    without a handler, a signal would end policyfs and not the command.
    """
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)
    child = os.fork()
    if child == 0:
        _become(command, identity, mountpoint, at)
    for number in _OF_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)

    def hand_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # the command may have ended, by the same signal
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)
    status = _ended(child)
    for number in _CAUGHT:
        signal.signal(number, signal.SIG_IGN)  # ignore further signals: the mount is ending
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _BY_SIGNAL - code


def _ended(child: int) -> int:
    """Wait for the end of the command, and return its wait status.

    If the command stops itself and its process group (Ctrl-Z in an editor), the signal does not reach this
    process, which is root's. So this process stops, too. Otherwise the shell would wait for this process.
    """
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return status
        if _is_at_terminal():
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)  # not reaped yet, so no other process has this pid


def _is_at_terminal() -> bool:
    """Return True if this process is in the foreground of its terminal: the shell waits for it."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    finally:
        os.close(fd)


def _become(command: Sequence[str], identity: _Identity, mountpoint: str, at: str) -> NoReturn:
    """Become the app's user in the namespace with the mount, and execute the command (in the forked child).

    at: the directory at which the command finds the mount.
    """
    code = _NOT_EXECUTABLE
    try:
        here = os.getcwd()
        enter_own_mounts()
        bind(mountpoint, at)
        identity.take()
        leave_session_keyring()
        _leave_terminal()
        _stand_at(here)
        _close_others()
        for number in (*_CAUGHT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)
        os.execvp(command[0], list(command))  # noqa: S606 - a shell would parse the words again
    except FileNotFoundError as error:
        code = _NOT_FOUND
        _say(f"{command[0]}: {error.strerror}")
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
    finally:
        os._exit(code)


def _leave_terminal() -> None:
    """Forbid the command to type into the terminal (TIOCSTI), in which the caller may work as root.

    On a machine for which policyfs has no system call filter, the command loses the terminal, and so job
    control.
    """
    machine = platform.machine()
    program = seccomp.terminal_program(machine)
    if program is None or not seccomp.install(machine, program):
        os.setsid()


def _stand_at(path: str) -> None:
    """Change to a directory, with the rights of the app. If the app may not enter the directory, change to /.

    INVARIANT: the caller's working directory is entered again by its path, which may now lead into the mount.
    The present working directory may be in the store itself, where the app could open files by relative
    names.
    """
    try:
        os.chdir(path)
    except OSError:
        os.chdir("/")


def _close_others() -> None:
    """Close all descriptors except standard input, output and error. One of the closed descriptors may be a
    directory of the store.

    Standard input, output and error are no directories: the Python interpreter does not start with a
    directory as one of them.
    """
    os.closerange(3, _NO_DESCRIPTOR)


def _say(message: str) -> None:
    os.write(2, f"policyfs: {message}\n".encode("utf-8", "replace"))


def _end(daemon: int, log_file: Path) -> None:
    """End the mount and its daemon. Processes that the command has started and that still run lose the mount.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGTERM)
    until = time.monotonic() + _END_S
    while True:
        found, status = os.waitpid(daemon, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until:
            raise PolicyfsError(f"the daemon (pid {daemon}) did not end within {_END_S:g} s; see {log_file}")
        time.sleep(_POLL_S)
    if os.waitstatus_to_exitcode(status):
        _say(f"the daemon of the mount ended with an error; see {log_file}")


def _account(uid: int) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid)
    return None
