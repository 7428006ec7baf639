"""`policyfs up`, `down` and the status of a site: its mounts, started and stopped together."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final

from policyfs.cli.on_record import trail_root
from policyfs.cli.site_document import MountDoc, Site, label, read_site
from policyfs.daemon import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError

_STATUS_S: Final = 5.0


class State(Enum):
    """The state of a mount of a site."""

    UP = "up"
    DOWN = "down"
    DEAD = "dead: its daemon has ended"
    OTHER = "another mount"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands to the command line."""
    up = subparsers.add_parser(
        "up", help="make all mounts of a site", description="Make all mounts of SITE that are not there yet."
    )
    up.add_argument("site", metavar="SITE.yaml")
    up.set_defaults(run=run_up)
    down = subparsers.add_parser(
        "down", help="unmount all mounts of a site", description="Unmount all mounts of SITE."
    )
    down.add_argument("--lazy", action="store_true", help="detach now; open files stay usable")
    down.add_argument("site", metavar="SITE.yaml")
    down.set_defaults(run=run_down)


def run_up(args: argparse.Namespace) -> int:
    """Make every mount that is not there. If one fails, remove those that this command has made."""
    site = read_site(args.site)
    if os.geteuid() != 0:
        raise PolicyfsError("mounting needs root; run it with sudo, or as a systemd unit (policyfs unit)")
    with _alone(site):
        states = [(mount, state_of(site, mount)) for mount in site.mounts]
        for mount, state in states:
            if state is State.OTHER:
                raise PolicyfsError(
                    f"something else is mounted on {mount.at}: unmount it (policyfs umount {mount.at}), or"
                    " give the mount another place"
                )
        wanted = [mount for mount, state in states if state is not State.UP]
        for mount, state in states:
            if state is State.DOWN:
                _make_place(mount.at)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            results = list(pool.map(lambda mount: _mount(site, mount), wanted))
        failed = [(mount, said) for mount, said in zip(wanted, results, strict=True) if said]
        if failed:
            started = [mount for mount, said in zip(wanted, results, strict=True) if not said]
            left = [said for mount in reversed(started) if (said := _umount(mount.at, lazy=True))]
            told = [f"{label(mount)} ({mount.at}): {said}" for mount, said in failed]
            raise PolicyfsError(
                "\n  ".join([f"the site {site.name} is not up, and nothing new is mounted:", *told, *left])
            )
    before = {mount.at: state for mount, state in states}
    for mount in site.mounts:
        how = {State.UP: "up already", State.DEAD: "up again: its daemon had ended"}.get(
            before[mount.at], "up"
        )
        print(f"{label(mount)}: {how} at {mount.at}")
    return EXIT_OK


def run_down(args: argparse.Namespace) -> int:
    """Unmount every mount of the site, the last one first; dead ones, too."""
    site = read_site(args.site)
    code = EXIT_OK
    with _alone(site):
        for mount in reversed(site.mounts):
            state = state_of(site, mount)
            said = ""
            if state is State.OTHER:
                said = "another mount is there, and stays"
            elif state is not State.DOWN:
                said = _umount(mount.at, lazy=args.lazy)
            if said:
                print(f"policyfs: {label(mount)} ({mount.at}): {said}", file=sys.stderr)
                code = EXIT_REFUSED
            else:
                print(f"{label(mount)}: down")
    return code


def state_of(site: Site, mount: MountDoc) -> State:
    """Return the state of a mount."""
    from policyfs.kernel.probe import MountState, mount_state
    from policyfs.linux.mountinfo import FSTYPE, mounts_at

    at = place_of(mount)
    there = mounts_at(at)
    if not there:
        return State.DOWN
    if there[-1].fstype != FSTYPE or there[-1].source != os.path.realpath(site.store):
        return State.OTHER
    if mount_state(at) is MountState.DEAD:
        return State.DEAD
    try:
        status = control.ask(control.socket_path(at), "status", _STATUS_S)
    except control.NoDaemonError:
        return State.DEAD
    return State.UP if status.get("app") == mount.app else State.OTHER


def place_of(mount: MountDoc) -> str:
    """Return a mountpoint without symlinks. Asks the mount on it nothing."""
    above, name = os.path.split(mount.at)
    return os.path.join(os.path.realpath(above), name)


def status_of_site(site: Site) -> tuple[list[str], list[str]]:
    """Return the mountpoints of a site's mounts that are up, and a line for each that is not."""
    up, lines = [], []
    for mount in site.mounts:
        state = state_of(site, mount)
        if state is State.UP:
            up.append(place_of(mount))
        else:
            lines.append(f"{label(mount)} ({mount.at}): {state.value}; `policyfs up {site.file}` makes it")
    return up, lines


def trail_of(site: Site) -> str:
    """Return the trail root of all mounts of a site."""
    return trail_root(site.trail)


def _mount(site: Site, mount: MountDoc) -> str:
    """Make one mount, as a command of its own; return its error, empty if it is there."""
    return _run([*site.command(mount), "--clear-dead"])


def _umount(place: str, *, lazy: bool) -> str:
    return _run(["umount", *(["--lazy"] if lazy else []), place])


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "policyfs.cli.main", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    said = done.stderr.strip().removeprefix("policyfs: ")
    if not done.returncode:
        if said:
            print(f"policyfs: {said}", file=sys.stderr)
        return ""
    return said or f"exit code {done.returncode}"


def _make_place(path: str) -> None:
    try:
        Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise PolicyfsError(f"cannot make the mountpoint {path}: {error.strerror}") from error


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[None]:
    """Let one command at a time change the mounts of a site."""
    directory = control.runtime_dir()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / f"{site.name}.site.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PolicyfsError(
            f"cannot write in {directory}: {error.strerror}; run this command as root"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
