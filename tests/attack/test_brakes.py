"""An app that tries to change more files than a limit allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.mount.test_brake import CHANGES, OLD, ONE, POLICY, TWO, attempts, exchange, fill, first_refused
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

FILES = 40
MANY = POLICY.replace(f"{ONE}-{ONE}", f"{ONE}-{ONE + 9}").replace(str(TWO), str(ONE + 99))
BELOW = MANY.replace("within: 10m}", 'within: 10m}, paths: ["/in/***"]')


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    return empty_store


def changed(store: Path) -> int:
    """How many of all files are not as they were, wherever they are (but for by_patterns(): not renamed)."""
    files = [Path(top, name) for top, _, names in os.walk(store) for name in names]
    same = (file for file in files if file.suffix != ".old" and file.read_bytes() == OLD)
    return FILES - len({file.stat().st_ino for file in same})


def by_patterns(mountpoint: str, names: list[str]) -> None:
    """Rename and remove, exchange, overwrite by a rename, empty by another name: each a few files."""
    paths = [f"{mountpoint}/{name}" for name in names]

    def try_all(of: list[str], change: Callable[[str], object]) -> None:
        attempts("", of, change)

    def swapped(path: str) -> None:
        Path(f"{path}.own").write_bytes(b"x")
        exchange(f"{path}.own", path)
        os.unlink(f"{path}.own")

    def linked(path: str) -> None:
        os.link(path, f"{path}.link")
        os.truncate(f"{path}.link", 0)

    def moved(path: str) -> None:
        os.rename(path, f"{path}.old")
        os.unlink(f"{path}.old")

    def written(path: str) -> None:
        Path(f"{path}.tmp").write_bytes(b"x")
        os.replace(f"{path}.tmp", path)

    for number, change in enumerate((moved, swapped, linked, written)):
        try_all(paths[number::4], change)


def spent(mount: Mount, store: Path) -> int:
    """What four processes under four uids of one app have changed."""
    names = fill(store, "in", FILES)
    call_as(ONE, os.stat, str(mount / "in"))
    workers = [
        start_as(ONE + at, _later, str(mount.mountpoint), names[at::4]) for at in range(4)
    ]
    for worker in workers:
        worker.send(None)
    for worker in workers:
        worker.result()
    return changed(store)


def _later(channel, mountpoint: str, names: list[str]) -> None:
    channel.recv()
    by_patterns(mountpoint, names)


def warm(mountpoint: str, names: list[str]) -> list[int | None]:
    """Let the bridge answer for the directory, then remove what it knows."""
    directory = os.path.dirname(f"{mountpoint}/{names[0]}")
    for name in names:
        os.stat(f"{mountpoint}/{name}")
    Path(directory, "warm").write_bytes(b"x")
    os.unlink(f"{directory}/warm")
    return attempts(mountpoint, names, os.unlink)


def test_patterns_uids_and_races_change_no_more_files(mounts_on: Mounts, store: Path) -> None:
    """Attack C4.1: Change more files than a limit allows: rename and then remove, exchange, replace, truncate
    by another name, from several processes under several uids of the app at once; where the bridge answers
    Guard: policyfs/fs/access/brakes.py::Brakes.count, policyfs/policy/raw_names.py::raw_names
    Also: tests/mount/test_brake.py, ::test_the_bridge_removes_no_file_that_counts
    Without: ::test_the_bridge_would_remove_all
    """
    assert spent(mounts_on.start(MANY, store), store) == CHANGES


def removed(mount: Mount, store: Path) -> int:
    names = fill(store, "in", FILES)
    call_as(ONE, warm, str(mount.mountpoint), names)
    return changed(store)


def test_the_bridge_removes_no_file_that_counts(mounts_on: Mounts, store: Path) -> None:
    assert removed(mounts_on.start(POLICY, store, "--app", "one"), store) == CHANGES


def test_the_bridge_would_remove_all(without, store: Path) -> None:
    assert removed(without("limited-in-the-bridge", POLICY, store, "--app", "one"), store) == FILES


def outside(mount: Mount, store: Path) -> int:
    """What can be changed by the detour of another directory."""
    names = fill(store, "in", FILES)

    def detour() -> None:
        attempts("", [str(mount / "in")], lambda path: os.rename(path, f"{path}side-out"))
        place = mount / "inside-out"
        attempts(str(place), [name[3:] for name in names], os.unlink)
        for name in names:  # by second names
            attempts("", [str(mount / name)], partial(os.link, dst=mount / f"out-{name[3:]}"))
        links = [f"out-{name[3:]}" for name in names]
        attempts(str(mount.mountpoint), links, lambda path: os.truncate(path, 0))
        attempts(str(mount.mountpoint), names, os.unlink)

    call_as(ONE, detour)
    return changed(store)


def test_no_directory_and_no_second_name_leads_out_of_a_limit(mounts_on: Mounts, store: Path) -> None:
    """Attack C4.2: Rename a directory, or link files, to a path where a limit does not count, and change the
    files there
    Guard: policyfs/policy/moves/moves.py::Mover._limits
    Without: ::test_a_directory_would_lead_out
    """
    assert outside(mounts_on.start(BELOW, store), store) == CHANGES


def test_a_directory_would_lead_out(without, store: Path) -> None:
    assert outside(without("directories-leave-limits", BELOW, store), store) == FILES


def after_a_kill(mount: Mount, store: Path) -> int:
    names = fill(store, "in", FILES)
    assert call_as(ONE, first_refused, str(mount.mountpoint), names) == CHANGES
    mount.start_after_kill()
    call_as(ONE, attempts, str(mount.mountpoint), names, os.unlink)
    return changed(store)


def test_a_killed_daemon_releases_no_brake(mounts_on: Mounts, store: Path) -> None:
    """Attack C4.3: Go on after the daemon was killed, restarted or upgraded while the brake was on. (Before
    it is on, the app has its whole number again.)
    Guard: policyfs/fs/access/brakes.py::Brakes.save
    Also: tests/mount/test_brake.py::test_a_brake_outlives_the_daemon_and_a_reload
    Without: ::test_it_would_if_it_was_in_memory_only
    """
    assert after_a_kill(mounts_on.start(POLICY, store, "--app", "one"), store) == CHANGES


def test_it_would_if_it_was_in_memory_only(without, store: Path) -> None:
    assert after_a_kill(without("brakes-unsaved", POLICY, store, "--app", "one"), store) == 2 * CHANGES


def test_one_app_turns_no_brake_of_another_on(mounts_on: Mounts, store: Path) -> None:
    """Attack C4.4: Stop another app: spend its number, or have its brake go on. (An app that may write the
    new files of another can make these count; it could as well remove them.)
    Guard: policyfs/fs/access/brakes.py::Brakes.count
    Also: tests/mount/test_brake.py::test_one_app_cannot_stop_another
    """
    both = POLICY.replace("who: {app: one}", "who: {app: any}")
    mount = mounts_on.start(both, store)
    names = fill(store, "in", FILES)
    assert call_as(ONE, first_refused, str(mount.mountpoint), names[:20]) == CHANGES
    for directory in ("in", "."):
        call_as(ONE, attempts, str(mount.mountpoint), [directory], os.listdir)
    assert call_as(TWO, first_refused, str(mount.mountpoint), names[20:]) == CHANGES
    assert set(mount.status()["brakes"]["on"]) == {"one", "two"}
