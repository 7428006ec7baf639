"""Mounts that are in use: their mountpoints, their daemons, and the status that each daemon tells."""

from __future__ import annotations

import os
import sys

from policyfs.cli.common.colour import print_error
from policyfs.cli.common.mountpoint_way import check_way
from policyfs.cli.common.target_places import is_place
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.trail.lines.table import shown, word


def known(mountpoint: str) -> str:
    """Return the absolute path of a mountpoint without symlinks. Raises PolicyfsError, also for a symlink
    that another user can change: it could lead a command of root to another mount."""
    from policyfs.linux.mountinfo import resolve

    try:
        check_way(mountpoint, warn=False)
        return resolve(mountpoint)
    except OSError as error:
        raise PolicyfsError(f"{mountpoint}: {error.strerror}") from error


def ask(
    path: str, command: str, timeout_s: float = 10.0, *, about: str | None = None, **more: str
) -> control.Json:
    """Send a command to the daemon of the mount at a path, and return the answer. Raises PolicyfsError.
    about, more: arguments of the command. If no daemon answers, the error explains the state of the mount."""
    try:
        return control.ask(control.socket_path(path), command, timeout_s, about=about, **more)
    except control.NoDaemonError as error:
        raise PolicyfsError(f"no policyfs daemon answers for {path}: {_instead(path)}") from error


def _instead(path: str) -> str:
    """Return a text for a path at which no daemon answers: the state of the mount, and the remedy."""
    from policyfs.kernel.probe import MountState, mount_state

    state = mount_state(path)
    if state is MountState.NONE and os.path.lexists(control.socket_path(path)):
        return (
            "there is no policyfs mount: the last daemon here crashed or was killed. Mount again;"
            " `policyfs audit verify` checks the trail"
        )
    if state is MountState.NONE:
        return "there is no policyfs mount; `policyfs status` lists all policyfs mounts"
    if state is MountState.DEAD:
        remedy = f"`policyfs umount {word(path)}` removes this mount"
        return (
            "the daemon has ended without unmounting (it crashed or was killed), and its mount is still"
            f" there; {remedy}, then mount again. `policyfs audit verify` checks the trail"
        )
    return (
        f"there is a mount, but its control socket {control.socket_path(path)} is missing;"
        " set POLICYFS_RUNTIME_DIR to the value that you used for the mount"
    )


def all_status(silent: list[str]) -> list[control.Json]:
    """Return the status of every mount that answers, sorted by mountpoint; of two with the same, the one that
    was unmounted and is in use comes last. silent: a list that gets the paths of the others."""
    from policyfs.linux.mountinfo import FSTYPE, mounts

    directory = control.runtime_dir()
    if directory.exists() and not os.access(directory, os.R_OK | os.X_OK):
        raise PolicyfsError(f"cannot look for mounts in {directory}: run this command as root")
    there = [mount.path for mount in mounts() if mount.fstype == FSTYPE and not is_place(mount.path)]
    mounted = {control.socket_path(path): path for path in there}
    sockets = sorted(directory.glob("*.sock"))
    if control.has_own_runtime_dir():  # the sockets of other mounts are elsewhere
        mounted = {path: mounted[path] for path in sockets if path in mounted}
    found: list[control.Json] = []
    for path in sockets:
        try:
            found.append(control.ask(path, "status", 2.0))
        except control.NoDaemonError:
            continue  # the next loop reports the mount; without a mount, a killed daemon left the socket
        except control.ControlError as error:
            silent.append(mounted.get(path, str(path)))
            print_error(error)
        mounted.pop(path, None)
    for mountpoint in sorted(mounted.values()):  # these have no daemon, or somebody removed the socket
        silent.append(mountpoint)
        print(f"policyfs: {shown(mountpoint)}: no daemon answers: {_instead(mountpoint)}", file=sys.stderr)
    return sorted(found, key=lambda one: (str(one["mountpoint"]), bool(one.get("leaving")), str(one["pid"])))


def part(status: control.Json, name: str) -> control.Json:
    """Return the part of a status with this name; empty if a daemon of another version lacks it."""
    found = status.get(name)
    return found if isinstance(found, dict) else {}


def is_of_unit(status: control.Json) -> bool:
    """Return True if the daemon runs in the foreground: then another program (such as systemd) watches it."""
    return bool(part(status, "options").get("foreground"))


def is_renewed_by_reload(status: control.Json) -> bool:
    """Return True if a reload of the unit that runs the daemon lets other code take over."""
    return is_of_unit(status) and bool(part(status, "takeover").get("keeper"))
