"""The start of the daemon of a mount, in this process or in a forked process in the background."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from policyfs.cli.common.processes import look, own_instance
from policyfs.cli.common.target_places import Bind, bind_all, binds_of_unit, device_at, wait_for_mount
from policyfs.cli.mounts.start import Start
from policyfs.content.workers import execution
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.linux.child import end_with_writer
from policyfs.linux.code_digest import VERSION, code_digest
from policyfs.linux.confinement.namespaces import leave_network
from policyfs.linux.private_files import make_private
from policyfs.linux.service_manager import ServiceManager, is_journal
from policyfs.linux.threads import tells_of_threads
from policyfs.trail.lines.table import shown

if TYPE_CHECKING:
    from policyfs.daemon.daemon import Daemon
    from policyfs.daemon.log import Log
    from policyfs.daemon.options import MountOptions
    from policyfs.daemon.policies.policies import Loader
    from policyfs.fs.inodes.saved_state import SavedState

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_DAEMON: Final = (
    "policyfs.cli.mounts.umount", "policyfs.daemon.daemon", "policyfs.daemon.keeper.keeper",
    "policyfs.journal.sealing.sealer", "policyfs.kernel.probe", "policyfs.kernel.trial",
)  # fmt: skip
_READY: Final = b"ready "
"""The answer of a forked daemon that serves, before its pid."""


def import_daemon() -> None:
    """Import all that the start of a daemon, its keeper and it need: so no daemon loads another version."""
    for name in _DAEMON:
        import_module(name)


def serve_here(
    options: MountOptions, loader: Loader, start: Start, manager: ServiceManager, *, as_json: bool
) -> int:
    """Serve a mount in this process until the mount ends. Return the exit code."""

    def ready() -> None:
        start.answered()
        if not binds:
            manager.ready()

    if binds := binds_of_unit() if options.before is None else []:
        _bind_later(options.mountpoint, binds, manager)
    return serve(options, loader, ready, as_json=as_json)


def _bind_later(at: str, binds: Sequence[Bind], manager: ServiceManager) -> None:
    """Let another process wait for the mount, bind its targets, and tell that the unit is ready: the daemon
    would wait for itself, and has given up its rights by then. If they cannot be bound, the mount ends, and
    its unit starts it again."""
    from policyfs.cli.mounts.umount import clear_targets
    from policyfs.kernel import session

    unit = os.pidfd_open(os.getpid())
    if child := os.fork():
        os.close(unit)
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(EXIT_OK)  # so that nobody has to wait for the other

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise _Left

    signal.signal(signal.SIGTERM, leave)  # the daemon gets it, too, and ends
    device = 0
    try:
        if device := wait_for_mount(at, until=unit):
            for bind in look(partial(bind_all, at, binds)):
                told = f"policyfs: the mount has no directory {shown(bind.path)} (a symlink is none)"
                print(f"{told}: nothing is at its target", file=sys.stderr)
            manager.ready()
    except _Left:
        # To systemd, the daemon then ends in order: ExecStopPost does nothing. Without a start that was over,
        # there is no ExecStop.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        clear_targets(at)
    except Exception as error:  # noqa: BLE001 - the unit must not wait for ever for what has ended by a bug
        why = error.strerror if isinstance(error, OSError) else error
        print(f"policyfs: the targets of {shown(at)} cannot be bound: {why}", file=sys.stderr)
        # INVARIANT: if the mount has ended by itself, its placeholder stays.
        if device == device_at(at):
            session.unmount(at, lazy=True, force=True)
        clear_targets(at)
    finally:
        sys.stderr.flush()
        os._exit(EXIT_OK)


def serve(
    options: MountOptions, loader: Loader, ready: Callable[[], None], *, as_json: bool, kept: bool = True,
    launcher: execution.ForkedLauncher | None = None,
) -> int:  # fmt: skip
    """Serve a mount until the mount ends. Return the exit code. ready: a function to call once the mount
    answers. kept: True if a killed daemon may be followed by another one (decision 70). launcher: that of the
    first daemon; None: one is executed, as for each later one.
    """
    leave_network()  # before any process starts, so that all leave it, too
    if not (kept and options.keeper and _may_follow()):
        if options.before is not None:
            raise PolicyfsError(f"{options.mountpoint}: this kernel lets no daemon follow another one")
        return _serve(options, loader, ready, None, as_json=as_json, launcher=launcher)
    first = launcher or _executed(options)  # it imports modules beside this process
    import_daemon()
    from policyfs.daemon import log
    from policyfs.daemon.keeper.keeper import Keeper
    from policyfs.daemon.log_writer import LogWriter
    from policyfs.fs.inodes.saved_state import SavedState

    code_digest()
    state = SavedState(max(options.nodes, 0 if options.before is None else options.before.room))
    if options.before is not None:
        state.before = options.before.handover

    def serve_next(*, is_first: bool) -> int:
        told, own = (ready, first) if is_first else (_told_already, None)
        return _serve(options, loader, told, state, as_json=as_json, launcher=own)

    warn = log.configure(LogWriter(2), as_json=as_json, of_journal=is_journal(2)).warning
    return Keeper(state, serve_next, warn, first).run()


def _executed(options: MountOptions) -> execution.LauncherProcess:
    with own_instance():  # to look for free uids; the daemon makes an instance of its own later
        return execution.execute_launcher(options.named_uids)


def _may_follow() -> bool:
    """Return True if a daemon can follow a killed one: the kernel sends requests again that are not answered,
    and tells of the death at once (Linux 6.9)."""
    from policyfs.daemon.keeper.clone import is_possible
    from policyfs.kernel.protocol import InitFlag
    from policyfs.kernel.session import MountError
    from policyfs.kernel.trial import try_passthrough

    try:
        return is_possible() and tells_of_threads() and InitFlag.HAS_RESEND in try_passthrough().offered
    except (MountError, OSError):
        return False  # the mount will tell why


def _told_already() -> None:
    """Do nothing: whoever has started the mount knows that it answers."""


def _serve(
    options: MountOptions, loader: Loader, ready: Callable[[], None], state: SavedState | None,
    *, as_json: bool, launcher: execution.LauncherProcess | None = None,
) -> int:  # fmt: skip
    from policyfs.daemon import log
    from policyfs.daemon.large_work import take_short_turns
    from policyfs.daemon.log_writer import LogWriter

    take_short_turns()
    writer = LogWriter(2)  # standard error
    logger = log.configure(writer, as_json=as_json, of_journal=is_journal(2))

    def serves() -> None:
        writer.write_on_thread()  # the daemon has given up its rights by now
        about = {"mountpoint": options.mountpoint, "store": options.store, "app": options.app}
        logger.info("the mount answers", **about, version=VERSION, code=code_digest())
        ready()

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise _Left

    # The daemon will block these signals and read them itself. Until then they raise _Left, for an orderly
    # end.
    for number in _ENDING:
        signal.signal(number, leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # no reload is needed: the policy is being read now
    try:
        daemon = _built(options, loader, logger, state, launcher)
        try:
            daemon.run(serves)
        finally:
            for number in _ENDING:  # ignore further signals: the daemon is ending
                signal.signal(number, signal.SIG_IGN)
            daemon.close()
    except _Left:
        logger.info("stopped before the mount was made")
        return EXIT_OK
    return EXIT_OK if daemon.end.ordered else EXIT_REFUSED


def _built(
    options: MountOptions, loader: Loader, log: Log, state: SavedState | None,
    launcher: execution.LauncherProcess | None,
) -> Daemon:  # fmt: skip
    """Build the daemon. A launcher that is executed imports modules beside this process."""
    if isinstance(launcher, execution.ForkedLauncher):
        with own_instance():
            launcher.limit(execution.worker_limits(options.named_uids))
    launcher = launcher or _executed(options)
    from policyfs.daemon.daemon import Daemon

    if options.before is not None and state is not None and options.before.serves:
        options.before.hand_over(state)
    return Daemon(options, loader, log, launcher, state)


class _Left(BaseException):
    """The exception that a signal raises before the daemon is ready to handle signals itself."""


class _NotMountedError(PolicyfsError):
    """The error if the daemon ended before its mount answered. exit_code: the daemon's exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def fork_daemon(
    options: MountOptions, loader: Loader, log_file: Path | None, start: Start, *,
    lifeline: tuple[int, int] | None = None, launcher: execution.ForkedLauncher | None = None,
    of_unit: bool = False,
) -> int:  # fmt: skip
    """Fork the daemon. Return its pid once the mount answers. Raises PolicyfsError, also if the daemon fails.

    log_file: the daemon's log; None: daemon.log in the mount's trail directory. lifeline: the read end and
    the write end of a pipe. When the write end is closed, also by the end of this process, the mount ends.
    of_unit: True for a daemon that systemd is to watch: it is no child of this process, and has its log.
    """
    log_file = log_file or options.trail / "daemon.log"
    log_fd = os.dup(2) if of_unit else _opened_log(log_file, options.trail)
    place_fd = _opened(options.mountpoint) if options.before is None else None
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        if lifeline is not None:
            os.close(lifeline[1])
            end_with_writer(lifeline[0], signal.SIGTERM)
        if of_unit and os.fork():
            os._exit(EXIT_OK)  # so that systemd is the daemon's parent, and hears of its end
        own = replace(options, place_fd=place_fd)
        _become_daemon(own, loader, log_fd, write_end, start, kept=lifeline is None, launcher=launcher)
    for fd in (write_end, log_fd, place_fd):
        if fd is not None:
            os.close(fd)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    start.answered()  # if the start failed, the daemon has recorded the reason
    if answer.startswith(_READY):
        return int(answer.removeprefix(_READY))
    _, wait_status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(wait_status)
    message = answer.decode("utf-8", "replace")
    message = message or f"the daemon ended; see {'its log' if of_unit else log_file}"
    raise _NotMountedError(message, code if code > 0 else EXIT_REFUSED)


def _opened_log(file: Path, trail: Path) -> int:
    try:
        # nobody else may look into the trail root
        for directory in [trail.parent, trail] if file.parent == trail else [file.parent]:
            make_private(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(file, flags, 0o600)
    except OSError as error:
        raise PolicyfsError(
            f"cannot write the log {file}: {error.strerror}; choose another with --log"
        ) from error


def _opened(mountpoint: str) -> int:
    try:
        return os.open(mountpoint, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyfsError(f"the mountpoint {mountpoint}: {error.strerror}") from error


def _close_inherited() -> None:
    """Close inherited descriptors, which may hold locks (flock(1)). Own ones are close-on-exec."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the descriptor of the listed directory is closed by now
            if fd > 2 and os.get_inheritable(fd):
                os.close(fd)


def _become_daemon(
    options: MountOptions, loader: Loader, log_fd: int, answer_fd: int, start: Start, *, kept: bool,
    launcher: execution.ForkedLauncher | None,
) -> None:  # fmt: skip
    """Detach the forked child from the terminal, and serve the mount. This function never returns."""
    code, first = EXIT_REFUSED, os.getpid()
    try:
        os.setsid()
        os.chdir("/")
        _close_inherited()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)

        def ready() -> None:
            start.answered()
            os.write(answer_fd, b"%s%d" % (_READY, first))
            os.close(answer_fd)

        code = serve(options, loader, ready, as_json=not is_journal(2), kept=kept, launcher=launcher)
    except PolicyfsError as error:
        code = error.exit_code
        reason = str(error).encode("utf-8", "backslashreplace")  # a file name in it may not be UTF-8
        with contextlib.suppress(OSError):  # the command may be gone
            os.write(answer_fd, reason)  # send the reason first: its recording may fail, too
        start.failed(reason.decode())
    except BaseException as error:
        import traceback

        traceback.print_exc()
        start.failed(repr(error))
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
