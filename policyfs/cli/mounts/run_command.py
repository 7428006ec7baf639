"""The command of `policyfs run`: in its own namespaces and session, as the app's user, watched to its end.

Three processes take part. The first process of a PID namespace is root's: it starts the command, passes
signals on to the command, and ends with it. Then the kernel kills all that the command has started. The
caller's process waits, and relays the terminal (run_terminal.py).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from policyfs.cli.layers.overlay import overlay
from policyfs.cli.mounts.run_terminal import Terminal, terminal_for
from policyfs.errors import EXIT_REFUSED, PolicyfsError
from policyfs.kernel import mount_api
from policyfs.linux.child import close_others
from policyfs.linux.confinement.identity import become, become_root_of_namespace
from policyfs.linux.confinement.keyring import leave_session_keyring
from policyfs.linux.confinement.namespaces import enter_own_mounts, fork_first_process, mount_own_proc
from policyfs.linux.confinement.prctl import request_parent_death_signal
from policyfs.linux.confinement.user_namespaces import enter
from policyfs.linux.interpreter import PATH

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
"""Exit codes of policyfs if the command cannot be started (POSIX, Shell Command Language, 2.8.2)."""
_BY_SIGNAL: Final = 128
_OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these signals to a process group."""
CAUGHT: Final = (signal.SIGTERM, signal.SIGHUP, *_OF_THE_TERMINAL)
"""Signals that policyfs passes on to the command."""
_WAITED: Final = {*CAUGHT, signal.SIGCHLD, signal.SIGCONT}
_KEPT: Final = re.compile(r"TERM|COLORTERM|NO_COLOR|LANG|LANGUAGE|LC_\w+|TZ")


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group under which the command runs: a user of the app."""

    uid: int
    gid: int

    def take(self) -> None:
        """Make this process run under the user, with the groups of the user's account. Without an account,
        the process has only the group *gid*. Raises OSError."""
        account = _account(self.uid)
        groups = os.getgrouplist(account.pw_name, self.gid) if account is not None else [self.gid]
        become(self.uid, self.gid, groups)

    @property
    def account(self) -> pwd.struct_passwd | None:
        """The account whose name, home and shell the command has."""
        return _account(self.uid)

    def show(self, shown: int, mountpoint: str, at: str) -> None:  # noqa: ARG002 - others show the mount, too
        """Attach a detached mount to the command's directory, in this process's own mount namespace. Raises
        OSError."""
        mount_api.attach(shown, at)

    def environment(self) -> dict[str, str]:
        """Return the variables of the command: those of the account, and of the caller only the settings of
        terminal, language and time zone."""
        account = self.account
        name = str(self.uid) if account is None else account.pw_name
        return {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)} | {
            "PATH": PATH, "USER": name, "LOGNAME": name,
            "HOME": "/" if account is None else account.pw_dir,
            "SHELL": "/bin/sh" if account is None else account.pw_shell,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """A layer over the view, for a command or for a task of policyfs. top: the layer's directory. namespace:
    the user namespace whose root is the command's user.

    task: called in place of a command, by root of the namespace, with descriptors of the layer's upper
    directory and of the view. Its result is the exit code. after: called so after a command. kept: their
    descriptors.
    """

    top: str
    namespace: int
    task: Callable[[int, int], int] | None = None
    after: Callable[[int, int], int] | None = None
    kept: tuple[int, ...] = ()


def run(
    command: Sequence[str], identity: Identity, mountpoint: str, at: str, trial: Trial | None = None
) -> int:
    """Start the command, pass signals on to it, and return its exit code.

    at: the directory at which the command finds the mount. trial: the layer that gets its changes. Signals
    are blocked until the handlers are set: without a handler, a signal would end policyfs and not the
    command. Raises OSError.
    """
    sys.stdout.flush()
    terminal = terminal_for(identity.uid)
    heard, told = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    first = fork_first_process()
    if first == 0:
        os.close(heard)
        _serve(command, identity, mountpoint, at, trial, terminal, told)
    os.close(told)

    def hand_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # the command may have ended, by the same signal
            os.kill(first, number)

    for caught in CAUGHT:
        signal.signal(caught, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED)
    try:
        _watch(first, heard, terminal)
    finally:
        if terminal is not None:
            terminal.end()
        os.close(heard)
    _, status = os.waitpid(first, 0)
    for caught in CAUGHT:
        signal.signal(caught, signal.SIG_IGN)  # ignore further signals: the mount is ending
    return _code(status)


def _watch(first: int, heard: int, terminal: Terminal | None) -> None:
    """Relay the terminal until the first process of the command's namespace has ended.

    If the command stops itself and its process group (Ctrl-Z in an editor), the signal does not reach this
    process, which is root's. So this process stops, too. Otherwise the shell would wait for this process.
    heard: a pipe with a byte for each stop of the command, closed when the first process ends.
    """
    if terminal is not None:
        terminal.begin()
    while True:
        poll = select.poll()
        for fd, events in [(heard, select.POLLIN), *(terminal.watched() if terminal is not None else [])]:
            poll.register(fd, events)
        ready = dict(poll.poll())
        if terminal is not None:
            terminal.relay(ready)
        if heard not in ready:
            continue
        if not os.read(heard, 1):
            return
        if _is_at_terminal():
            if terminal is not None:
                terminal.pause()
            os.kill(os.getpid(), signal.SIGSTOP)
            if terminal is not None:
                terminal.begin()
            os.kill(first, signal.SIGCONT)  # not reaped yet, so no other process has this pid


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


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _BY_SIGNAL - code


# ---------------------------------------------------------------- in the PID namespace


def _serve(
    command: Sequence[str], identity: Identity, mountpoint: str, at: str, trial: Trial | None,
    terminal: Terminal | None, told: int,
) -> NoReturn:  # fmt: skip
    """Start the command, pass signals on to it, and exit with its exit code (in the first process)."""
    code = _NOT_EXECUTABLE
    try:
        request_parent_death_signal(signal.SIGKILL)
        here = os.getcwd()
        os.setsid()
        if terminal is not None:
            terminal.take()
        enter_own_mounts()
        view = detached_view(mountpoint, read_only=trial is not None and trial.task is None)
        top = -1 if trial is None else os.open(trial.top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if trial is None:
            identity.show(view, mountpoint, at)
        elif trial.task is None:
            identity.show(overlay(top, view, trial.namespace), mountpoint, at)
        with contextlib.suppress(OSError):  # a container may forbid it: the old /proc shows more processes
            mount_own_proc()
        child = os.fork()
        if child == 0 and trial is not None and trial.task is not None:
            _perform(trial.task, trial, top, view)
        if child == 0:
            _become(command, identity, here, at_terminal=terminal is not None)
        _keep_only(told, *(() if trial is None else (view, top, trial.namespace, *trial.kept)))
        code = _ended(child, told)
        if trial is not None and trial.after is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all that the command has left behind, before the layer is read
            child = os.fork()
            if child == 0:
                _perform(trial.after, trial, top, view)
            while os.wait()[0] != child:
                pass
    except OSError as error:
        _say(f"cannot start {command[0]}: {error.strerror}")
    finally:
        os._exit(code)


def _perform(task: Callable[[int, int], int], trial: Trial, top: int, view: int) -> NoReturn:
    """Call a task as root of the layer's namespace, in a process of its own, and exit with its exit code."""
    code = EXIT_REFUSED
    try:
        upper = os.open("upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        enter(trial.namespace)
        become_root_of_namespace()
        os.umask(0)
        for number in CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        code = task(upper, view)
    except (OSError, PolicyfsError) as error:
        _say(str(error))
    except BaseException:  # noqa: BLE001 - no exception may reach the code of the other process
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def detached_view(mountpoint: str, *, read_only: bool) -> int:
    """Return a detached mount of the directory of a mount. Raises OSError."""
    directory = os.open(mountpoint, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_api.bind(directory, read_only=read_only)
    finally:
        os.close(directory)


def _keep_only(*fds: int) -> None:
    """Close all descriptors except *fds*, and open /dev/null as standard input, output and error."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    close_others(0, 1, 2, *fds)


def _ended(child: int, told: int) -> int:
    """Wait for the end of the command, and return its exit code. Reap all other processes."""
    gone = select.poll()
    gone.register(told, 0)
    if gone.poll(0):  # the caller ended before it was asked to tell of its end
        return _BY_SIGNAL + signal.SIGKILL
    while True:
        number = signal.sigwait(_WAITED)
        if number in _OF_THE_TERMINAL or number == signal.SIGCONT:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, number)
        elif number != signal.SIGCHLD:
            os.kill(child, number)
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == child and not os.WIFSTOPPED(status):
                return _code(status)
            if pid == child:
                os.write(told, b"s")
            if pid == 0:
                break


def _become(command: Sequence[str], identity: Identity, here: str, *, at_terminal: bool) -> NoReturn:
    code = _NOT_EXECUTABLE
    try:
        os.setpgid(0, 0)
        if at_terminal:
            _take_foreground()
        environment = identity.environment()
        identity.take()
        leave_session_keyring()
        _stand_at(here)
        _close_others()
        for number in (*CAUGHT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - a shell would parse the words again
    except FileNotFoundError as error:
        code = _NOT_FOUND
        _say(f"{command[0]}: {error.strerror}")
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
    finally:
        os._exit(code)


def _take_foreground() -> None:
    fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # a process in the background would stop
    os.tcsetpgrp(fd, os.getpgrp())
    os.close(fd)


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
    """Close all descriptors except the standard streams: one may be a directory of the store."""
    close_others(0, 1, 2)


def _say(message: str) -> None:
    os.write(2, f"policyfs: {message}\n".encode("utf-8", "replace"))


def _account(uid: int) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid)
    return None
