"""`policyfs umount`: unmount, remove dead mounts (without a daemon), and report users of a mount."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.live_mounts import known, part
from policyfs.cli.common.processes import look, status_file
from policyfs.cli.common.target_places import is_private, places_beside
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.linux.peer import peer_of
from policyfs.trail.lines.table import shown, word

_TELL_S: Final = 2.0
_STATUS_S: Final = 5.0
_END_S: Final = 30.0
_POLL_S: Final = 0.02
_POLL_LONG_S: Final = 0.2
_UNUSED_S: Final = 1.0
"""Time in s to try for a moment without users: a program that only lists uses a mount again and again."""
_RETRY_S: Final = 0.001


def add_umount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lazy", action="store_true", help="detach now; open files stay usable")
    after = parser.add_mutually_exclusive_group()
    after.add_argument("--wait", action="store_true", help="wait until no process uses the mount")
    help_ = "end the mount even if processes use it; open files of the mount then fail"
    after.add_argument("--abort", action="store_true", help=help_)
    help_ = "unmount only a mount whose daemon has ended, else do nothing"
    after.add_argument("--dead", action="store_true", help=help_)
    help_ = "unmount nothing; only end the targets of a site's mount, whose users then get errors"
    after.add_argument("--targets", action="store_true", help=help_)
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")


def run_umount(args: argparse.Namespace) -> int:
    """Unmount a mount or a dead mount (without a daemon). Wait until its daemon has ended. Return 1 if
    processes still use the mount, except with --lazy."""
    from policyfs.kernel.probe import MountState, mount_state

    path = known(args.mountpoint)
    if args.targets:
        clear_targets(path)
        return EXIT_OK
    state = mount_state(path)
    if args.dead:
        if state is MountState.DEAD or (state is MountState.SILENT and daemon_died(path)):
            _unmount(path, lazy=True, force=False)
            state = MountState.NONE
        if state is MountState.NONE:
            clear_targets(path)
        return EXIT_OK
    if state is MountState.ALIVE and _targets(path):
        if not (args.lazy or args.wait or args.abort) and (users := _users_of_targets(path)):
            raise PolicyfsError("\n  ".join([f"the targets of {path} are in use:", *users]))
        # A container with a bind of it, and no open file, is no user; but the bind would keep the mount.
        args.abort = not (args.lazy or args.wait)
    # A daemon that hangs obeys no command, so --abort ends its connection in the kernel. The daemon itself
    # ends when its store answers.
    abort = args.abort and state is MountState.SILENT
    with contextlib.ExitStack() as stack:
        daemons = _daemons(path, stack, late=not abort)
        if state is not MountState.NONE:
            if state is MountState.ALIVE:
                _warn_of_the_trail(path)
            lazy = args.lazy or args.wait or args.abort or state is MountState.DEAD
            try:
                clear_targets(path)  # before: an engine starts no container on a bind that is dead
            except (OSError, PolicyfsError) as error:  # but the mount ends
                print(f"policyfs: {shown(path)} keeps old targets: {shown(str(error))}", file=sys.stderr)
            _unmount(path, lazy=lazy, force=abort)
        elif not daemons:
            raise PolicyfsError(f"nothing is mounted on {path}")
        else:
            _check_elsewhere(path, daemons)
        return _afterwards(path, daemons, args)


def _targets(path: str) -> list[str]:
    """Return the places of the targets of a mount of a site, with which services and containers have it."""
    return places_beside(path) if is_private(path) else []


def clear_targets(path: str) -> None:
    """Put placeholders on the places of the targets of a mount that has ended. Raises PolicyfsError."""
    from policyfs.kernel.targets import clear, held_elsewhere

    def clear_all() -> None:
        held = held_elsewhere(path, places)
        for place in places:
            clear(place, held)

    if places := _targets(path):
        look(clear_all)


def _users_of_targets(path: str) -> list[str]:
    from policyfs.linux.mountinfo import mounts_at
    from policyfs.store.locking.holders import holders_of

    device = mounts_at(path)[-1].device_name
    return _told(lambda: [one for one in holders_of(device) if one.what != "mount"])


class _Daemon(NamedTuple):
    """A daemon of a mountpoint. pid: its pid in the pid namespace of this command."""

    pid: int
    pidfd: int


def _daemons(path: str, stack: contextlib.ExitStack, *, late: bool) -> dict[object, _Daemon]:
    """Return the daemons of a mountpoint by the pid in their status; late ones by the pid seen here."""
    found: dict[object, _Daemon] = {}
    for socket_path in _socket_paths(path):
        with contextlib.suppress(control.ControlError, OSError):
            peer, status = _asked(socket_path)
            if status is None and not late:
                continue
            fd = os.pidfd_open(peer)
            stack.callback(os.close, fd)
            found[peer if status is None else status["pid"]] = _Daemon(peer, fd)
    return found


def _asked(socket_path: Path) -> tuple[int, control.Json | None]:
    """Return the pid and status of the daemon at a control socket; no status if it is late."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_TELL_S)
        asking.connect(str(socket_path))
        pid = peer_of(asking).pid
    try:
        return pid, control.ask(socket_path, "status", _STATUS_S)
    except control.LateError:
        if _was_killed(pid):
            raise
        return pid, None


def _check_elsewhere(path: str, daemons: Mapping[object, _Daemon]) -> None:
    """Raise PolicyfsError if a daemon's mount exists only in a mount namespace of the daemon itself."""
    from policyfs.linux.mountinfo import FSTYPE, mounts

    for daemon in daemons.values():
        with open(f"/proc/self/fdinfo/{daemon.pidfd}", "rb") as lines:
            pid = next((int(line.split()[1]) for line in lines if line.startswith(b"Pid:")), -1)
        with contextlib.suppress(OSError):  # the daemon may just have ended
            there = look(partial(mounts, pid)) if pid > 0 else []
            if any(mount.path == path and mount.fstype == FSTYPE for mount in there):
                raise PolicyfsError(
                    f"{path} is mounted in another mount namespace, not in the namespace of this command. Run"
                    f" `nsenter --mount --target {pid} policyfs umount {word(path)}`"
                )


def _unmount(path: str, *, lazy: bool, force: bool) -> None:
    """Unmount. force: end the connection in the kernel, so that no process waits for an answer."""
    from policyfs.kernel import session

    _tell(path, "ending")
    force = force or daemon_died(path)
    until = time.monotonic() + _UNUSED_S
    while True:
        try:
            return session.unmount(path, lazy=lazy, force=force)
        except session.MountError as error:
            busy = error.errno == errno.EBUSY
            if busy and time.monotonic() < until and not force:
                time.sleep(_RETRY_S)
                continue
            if not busy or not daemon_died(path):
                _tell(path, "staying")
                raise PolicyfsError("\n  ".join([str(error), *_holders(path)])) from error
        return session.unmount(path, lazy=True, force=True)


def _afterwards(path: str, daemons: Mapping[object, _Daemon], args: argparse.Namespace) -> int:
    """Wait until the daemons have ended; wait for users (--wait), end the mount (--abort), or report."""
    until = time.monotonic() + _END_S
    patient = args.lazy or args.wait or args.abort
    while True:
        living, late = _living(path, daemons)
        leaves = {status["pid"]: status["leaving"] for status in living}
        # A daemon that is in neither may still live: its socket may get its other name at this moment.
        if all(
            leaves[pid] if pid in leaves else patient if pid in late else _has_ended(daemon.pidfd, 0)
            for pid, daemon in daemons.items()
        ):
            break
        _check_time(path, until, late)
        time.sleep(_POLL_S)
    if args.abort:
        for socket_path in control.leaving_paths(path) if living else ():
            with contextlib.suppress(control.ControlError):
                control.ask(socket_path, "abort", _TELL_S)
        for pid in late:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(daemons[pid].pidfd, signal.SIGKILL)
    if args.abort or args.wait:
        while any(_living(path, daemons)) or not all(_has_ended(one.pidfd, 0) for one in daemons.values()):
            if args.abort:
                _check_time(path, until)
            time.sleep(_POLL_LONG_S)
        return EXIT_OK
    for status in living:
        print("\n  ".join([_where(path, status), *_users(status)]), file=sys.stderr)
    for pid in late:
        print(f"policyfs: {_silent(path, pid)}", file=sys.stderr)
    return EXIT_REFUSED if living and not args.lazy else EXIT_OK


def _has_ended(pidfd: int, timeout_s: float) -> bool:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(timeout_s * 1000))


def _check_time(path: str, until: float, late: Sequence[object] = ()) -> None:
    if time.monotonic() > until:
        if late:
            raise PolicyfsError(_silent(path, late[0]))
        raise PolicyfsError(
            f"the daemon of {path} did not end within {_END_S:g} s; see the log of the daemon"
        )


def _silent(path: str, pid: object) -> str:
    return (
        f"{path} is unmounted, but its daemon (pid {pid}) does not answer, and may still serve processes;"
        f" `policyfs umount --abort {word(path)}` ends it"
    )


def _where(path: str, status: control.Json) -> str:
    return (
        f"policyfs: {path} is unmounted, but these processes still use the mount (daemon {status['pid']});"
        f" `policyfs umount --wait {word(path)}` waits for these processes, `--abort` ends the mount"
        " at once:"
    )


def _users(status: control.Json) -> list[str]:
    from policyfs.store.locking.holders import holders_of

    return _told(partial(holders_of, f"0:{status['connection']}"))


def _socket_paths(path: str) -> list[Path]:
    return [control.socket_path(path), *control.leaving_paths(path)]


def _living(path: str, daemons: Mapping[object, _Daemon]) -> tuple[list[control.Json], list[object]]:
    """Return the status of each of *daemons* that answers, and the keys of those that answer late."""
    found: list[control.Json] = []
    late: list[object] = []
    for socket_path in _socket_paths(path):
        with contextlib.suppress(control.ControlError, OSError):  # the daemon may just have ended
            try:
                peer, status = _asked(socket_path)
            except (BlockingIOError, TimeoutError):  # its queue of connections is full
                late += [key for key, daemon in daemons.items() if not _has_ended(daemon.pidfd, 0)]
                continue
            if status is None:
                late += [key for key, daemon in daemons.items() if daemon.pid == peer]
            elif status["pid"] in daemons:
                found.append(status)
    return found, late


def _tell(path: str, command: str) -> None:
    """Tell the daemon that the unmount follows (``ending``), or was given up (``staying``)."""
    with contextlib.suppress(control.ControlError):
        control.ask(control.socket_path(path), command, _TELL_S)


def _warn_of_the_trail(path: str) -> None:
    """Print a warning if the daemon could not write the trail: it will lose the missing events."""
    try:
        trail = part(control.ask(control.socket_path(path), "status", _STATUS_S), "trail")
    except control.ControlError:
        return
    if trail["failing"]:
        print(
            f"policyfs: the trail in {shown(str(trail['directory']))} cannot be written"
            f" ({trail['last_error']}): {trail['refused']} refused requests are not on record",
            file=sys.stderr,
        )


def daemon_died(path: str) -> bool:
    """Return True if the daemon of a mount has died: no live process has its control socket.

    Return False if the daemon lives, or if that is unknown. A daemon may be killed while the kernel holds one
    of the daemon's threads. Then the FUSE connection stays, and every request on the mount waits for ever.
    Only a forced unmount helps.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2.0)
        try:
            asking.connect(str(control.socket_path(path)))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        pid = peer_of(asking).pid
    return _was_killed(pid)


def _was_killed(pid: int) -> bool:
    """Return True if a process has ended, or was killed and still waits for a store that does not answer."""
    try:
        lines = status_file(pid).splitlines()
    except OSError:
        return True
    except PolicyfsError:
        return False
    fields = dict(line.split(":\t", 1) for line in lines)
    killed = any(int(fields[name], 16) & 1 << signal.SIGKILL - 1 for name in ("SigPnd", "ShdPnd"))
    return killed or fields["State"][0] in "ZX"


def _holders(path: str) -> list[str]:
    from policyfs.store.locking.holders import holders

    return _told(partial(holders, os.fsencode(path)))


def _told(find: Callable[[], Sequence[object]]) -> list[str]:
    """Return a line for each user of a mount. A process chooses its name, so the line is escaped."""
    try:
        return [shown(str(holder)) for holder in look(find)]
    except PolicyfsError as error:
        return [str(error)]
