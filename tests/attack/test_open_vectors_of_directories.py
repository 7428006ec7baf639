"""B4: directories that the bridge opens by itself open no way past a decision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mount.test_open_vectors import ONE, POLICY, TWO, begin, said
from tests.mount.test_open_vectors_of_directories import ALIKE, APP, store
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]

Start = Callable[..., Mount]
CLOSED = POLICY + '  - {id: closed, deny: [see], paths: ["/d/***"]}\n'
MOVED = POLICY + '  - {id: closed, deny: [all], paths: ["/shut/***"]}\n'


def opened(place: int) -> str:
    """What comes of an open of a directory by number."""
    os.close(os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY))
    return "open"


def told_after(mount: Mount, change: Callable[[], object], place: str = "d") -> str:
    """What an app is told that opens a directory again, after a change that closes it to the app."""

    def life(channel: Any) -> str:
        fd = os.open(mount / place, os.O_PATH)
        for _ in range(5):
            os.listdir(f"/proc/self/fd/{fd}")
        channel.send("warm")
        channel.recv()
        return error(opened, fd)

    child = start_as(ONE, life)
    child.receive()
    assert said(mount)["opendirs"] > 0
    change()
    child.send("look")
    return child.result()


def closed(mount: Mount) -> str:
    """The same after a reload."""

    def reload() -> None:
        mount.policy.write_text(CLOSED)
        assert mount.reload().returncode == 0

    return told_after(mount, reload)


def test_a_reload_closes_directories_to_repeats_too(mounts: Mounts, store: Path) -> None:
    assert closed(begin(mounts, POLICY, store, *APP)) in {"EACCES", "ENOENT"}


def test_repeats_get_through_where_a_reload_drops_nothing(without: Start, store: Path) -> None:
    told = closed(without("reload-drops-nothing,vectors-kept-at-reload", POLICY, store, "--avc", *APP))
    assert told == "'open'"


def test_a_directory_that_was_moved_out_of_sight_is_closed(mounts: Mounts, store: Path) -> None:
    (store / "shut").mkdir(mode=0o777)
    mount = begin(mounts, MOVED, store, *APP)
    answered: list[int] = []

    def move() -> None:
        answered.append(said(mount)["opendirs"])
        events = mount.status()["watch"]["events"]
        (store / "d/sub").rename(store / "shut/sub")
        wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told")

    assert told_after(mount, move, "d/sub") in {"EACCES", "ENOENT", "ESTALE"}
    assert said(mount)["opendirs"] == answered[0]


def others_open_beside_many(mount: Mount) -> str:
    """What another app is told that opens a directory while one app has as many open as it can get. FSYNCDIR
    makes Python take each one over at once, so the bridge never lacks room for the next one."""

    def life(channel: Any) -> int:
        for _ in range(5):
            os.listdir(mount / "d")
        held: list[int] = []
        with contextlib.suppress(OSError):  # EMFILE: its share is used up
            while len(held) < 600:
                held.append(os.open(mount / "d", os.O_RDONLY | os.O_DIRECTORY))
                os.fsync(held[-1])
        channel.send("open")
        channel.recv()
        return len(held)

    child = start_as(ONE, life)
    child.receive()
    told = call_as(TWO, lambda: error(os.listdir, str(mount / "d/sub")))
    child.send("end")
    assert child.result() > 20
    return told


def test_one_app_leaves_directories_for_others(without: Start, store: Path) -> None:
    assert others_open_beside_many(without("few-listings", ALIKE, store)) == "[]"


def test_it_takes_them_all_where_the_bridge_counts_no_shares(without: Start, store: Path) -> None:
    assert others_open_beside_many(without("directories-beyond-shares", ALIKE, store)) == "EMFILE"
