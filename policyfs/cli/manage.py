"""`policyfs umount`, `status` and `reload`: dealing with mounts that are there."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from policyfs import control
from policyfs.errors import EXIT_OK, PolicyfsError

_TELL_S = 2.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the three commands to the command line."""
    umount = subparsers.add_parser("umount", help="unmount, a dead mount too")
    umount.add_argument("--lazy", action="store_true", help="detach now, let open files finish")
    umount.add_argument("mountpoint", metavar="MOUNTPOINT")
    umount.set_defaults(run=run_umount)

    status = subparsers.add_parser("status", help="what mounts do and hold")
    status.add_argument("--json", action="store_true", help="one JSON object (a list without MOUNTPOINT)")
    status.add_argument("--wait", type=float, default=0.0, metavar="S", help="wait until it answers")
    status.add_argument("mountpoint", nargs="?", metavar="MOUNTPOINT")
    status.set_defaults(run=run_status)

    reload_ = subparsers.add_parser("reload", help="take a mount's policy anew; a broken one changes nothing")
    reload_.add_argument("mountpoint", metavar="MOUNTPOINT")
    reload_.set_defaults(run=run_reload)


def run_umount(args: argparse.Namespace) -> int:
    """Unmount by the daemon, or, where none answers, what is left of it."""
    from policyfs.kernel import session
    from policyfs.kernel.probe import MountState, mount_state

    path = _known(args.mountpoint)
    state = mount_state(path)
    if state is MountState.NONE:
        raise PolicyfsError(f"nothing is mounted on {path}")
    if state is MountState.ALIVE:
        _warn_of_the_trail(path)
    _tell(path, "ending")
    try:
        session.unmount(path, lazy=args.lazy or state is MountState.DEAD, force=daemon_died(path))
    except session.MountError as error:
        if error.errno != errno.EBUSY or not daemon_died(path):
            _tell(path, "staying")
            raise PolicyfsError("\n  ".join([str(error), *_holders(path)])) from error
        session.unmount(path, lazy=True, force=True)
    if not args.lazy:  # else the daemon ends when the last open file is closed
        _wait_gone(path)
    return EXIT_OK


def _tell(path: str, command: str) -> None:
    """Let the daemon put on record who unmounts. One that does not answer is unmounted all the same."""
    with contextlib.suppress(control.ControlError):
        control.ask(control.socket_path(path), command, _TELL_S)


def _warn_of_the_trail(path: str) -> None:
    """What is not on record when the daemon ends will never be: say so while somebody looks."""
    try:
        trail = _part(control.ask(control.socket_path(path), "status", 5.0), "trail")
    except control.ControlError:
        return
    if trail["failing"]:
        print(
            f"policyfs: the trail in {trail['directory']} cannot be written ({trail['last_error']}):"
            f" {trail['refused']} refused requests are not on record",
            file=sys.stderr,
        )


def daemon_died(path: str) -> bool:
    """Nobody answers a mount's control socket any more, or who did is dead but for a thread.

    A daemon that was killed while the kernel held one of its threads keeps its connection, and
    every request in it waits for ever: then only force ends the mount. False if it is not known.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2.0)
        try:
            asking.connect(str(control.socket_path(path)))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in lines)
    # Killed, and yet not dead: it waits for a store that does not answer.
    killed = any(int(fields[name], 16) & 1 << signal.SIGKILL - 1 for name in ("SigPnd", "ShdPnd"))
    return killed or fields["State"][0] in "ZX"


def _holders(path: str) -> list[str]:
    from policyfs.store.holders import holders

    return [str(holder) for holder in holders(os.fsencode(path))]


def _wait_gone(path: str, deadline_s: float = 10.0) -> None:
    """The daemon ends after its mount; its socket goes last."""
    until = time.monotonic() + deadline_s
    while control.socket_path(path).exists() and time.monotonic() < until:
        try:
            control.ask(control.socket_path(path), "status", 1.0)
        except control.ControlError:
            break
        time.sleep(0.02)


def _known(mountpoint: str) -> str:
    from policyfs.kernel.mountinfo import resolve

    try:
        return resolve(mountpoint)
    except OSError as error:
        raise PolicyfsError(f"{mountpoint}: {error.strerror}") from error


def run_status(args: argparse.Namespace) -> int:
    """State of one mount, or of all."""
    one = None if args.mountpoint is None else _status_of(_known(args.mountpoint), args.wait)
    found = _all_status() if one is None else [one]
    if args.json:
        print(json.dumps(found if one is None else one, indent=2))
    elif not found:
        print("no policyfs mount answers")
    else:
        for status in found:
            print(_as_text(status))
    return EXIT_OK


def _ask(path: str, command: str, timeout_s: float = 10.0) -> control.Json:
    """Ask the daemon of the mount at a path; where none answers, say what there is instead."""
    try:
        return control.ask(control.socket_path(path), command, timeout_s)
    except control.NoDaemonError as error:
        raise PolicyfsError(f"no policyfs daemon answers for {path}: {_instead(path)}") from error


def _instead(path: str) -> str:
    """What is at a mountpoint for which no daemon answers, and what to do."""
    from policyfs.kernel.probe import MountState, mount_state

    state = mount_state(path)
    if state is MountState.NONE:
        return "it is no policyfs mount; `policyfs status` lists those there are"
    if state is MountState.DEAD:
        return f"it is gone and left its mount behind; `policyfs umount {path}` clears that"
    return (
        f"there is a mount, but not its control socket {control.socket_path(path)};"
        " POLICYFS_RUNTIME_DIR must be what it was when that was mounted"
    )


def _status_of(path: str, wait_s: float) -> control.Json:
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        try:
            return control.ask(control.socket_path(path), "status")
        except control.ControlError:
            time.sleep(0.05)
    return _ask(path, "status")


def _all_status() -> list[control.Json]:
    from policyfs.kernel.mountinfo import FSTYPE, mounts

    directory = control.runtime_dir()
    if directory.exists() and not os.access(directory, os.R_OK | os.X_OK):
        raise PolicyfsError(f"cannot look for mounts in {directory}: only root may")
    mounted = {control.socket_path(mount.path): mount.path for mount in mounts() if mount.fstype == FSTYPE}
    found: list[control.Json] = []
    for path in sorted(directory.glob("*.sock")):
        try:
            found.append(control.ask(path, "status", 2.0))
        except control.NoDaemonError:
            if path in mounted:  # else a daemon that was killed left its socket, and its mount is gone
                mountpoint = mounted[path]
                print(f"policyfs: {mountpoint}: no daemon answers: {_instead(mountpoint)}", file=sys.stderr)
        except control.ControlError as error:
            print(f"policyfs: {error}", file=sys.stderr)
    return found


def _as_text(status: control.Json) -> str:
    """One screen for people; the whole is in --json."""
    policy, passthrough = _part(status, "policy"), _part(status, "passthrough")
    handles, trail, fuse = _part(status, "handles"), _part(status, "trail"), _part(status, "fuse")
    kind = f"app mount of {status['app']}" if status["app"] else "shared mount"
    through = "on" if passthrough["enabled"] else f"off: {passthrough['why_not']}"
    refused = _part(passthrough, "refused")
    monitor = ", monitor" if policy["monitor"] else ""
    failing = f"; FAILING: {trail['last_error']}" if trail["failing"] else ""
    digest = str(policy["digest"])[:16]
    lines = [
        f"{status['mountpoint']}: {kind} of {status['store']} ({status['store_fs']}), pid {status['pid']}",
        f"  policy       {policy['name']} generation {policy['generation']}, {digest}{monitor}",
        f"  passthrough  {through}; {passthrough['opens']} files passed",
        *(f"               {count} files mediated: {reason}" for reason, count in refused.items()),
        f"  handles      {handles['files']} files ({handles['mediated']} mediated)",
        f"               {handles['directories']} directories; {status['nodes']} nodes",
        f"  trail        {trail['written']} records, {trail['dropped']} dropped{failing}",
        f"               in {trail['directory']}",
        f"  contained    {_contained(_part(status, 'contained'))}",
        "  requests     " + ", ".join(f"{name} {count}" for name, count in fuse.items() if count),
    ]
    if status["bugs"]:
        lines.append(f"  BUGS         {status['bugs']}: see the daemon's log")
    return "\n".join(lines)


def _contained(held: control.Json) -> str:
    missing = held["missing"]
    if isinstance(missing, list) and missing:
        return "; ".join(map(str, missing))
    return "few capabilities, no new privileges, system calls filtered, no network"


def _part(status: control.Json, name: str) -> control.Json:
    part = status[name]
    return part if isinstance(part, dict) else {}


def run_reload(args: argparse.Namespace) -> int:
    """Take the policy anew."""
    answer = _ask(_known(args.mountpoint), "reload", 30.0)
    print(f"policy {str(answer['digest'])[:16]} in force, generation {answer['generation']}")
    return EXIT_OK
