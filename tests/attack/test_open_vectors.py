"""B4: opens that the bridge answers by itself open no way past a decision, and hold nothing for longer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_open_vectors import (
    CLOSED,
    KINDS,
    ONE,
    POLICY,
    TWO,
    answered_beside_a_writer,
    begin,
    freed_at_once,
    read,
    said,
    store,
)
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]

Start = Callable[..., Mount]


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return ("--avc", *found)


def reopened(mount: Mount) -> str:
    """What an app is told that opens a file again, by name and by number, after a reload has closed it."""

    def ask(channel: Any) -> list[str]:
        read(str(mount / "file"), 5)
        fd = os.open(mount / "file", os.O_RDONLY)
        channel.send("open")
        channel.recv()
        return [error(read, path) for path in (str(mount / "file"), f"/proc/self/fd/{fd}")]

    child = start_as(ONE, ask)
    child.receive()
    assert said(mount)["opens"] > 0
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    child.send("look")
    by_name, by_number = child.result()
    return f"{by_name} {by_number}"


def test_a_reload_closes_files_to_repeats_too(mounts: Mounts, store: Path, options: tuple[str, ...]) -> None:
    assert reopened(begin(mounts, POLICY, store, *options[1:])) == "EACCES EACCES"


def test_repeats_get_through_where_a_reload_drops_nothing(
    without: Start, store: Path, options: tuple[str, ...]
) -> None:
    assert "EACCES" not in reopened(without("vectors-kept-at-reload", POLICY, store, *options))


def test_they_are_answered_beside_a_writer_where_it_drops_nothing(
    without: Start, store: Path, options: tuple[str, ...]
) -> None:
    assert answered_beside_a_writer(without("open-vectors-kept-at-writers", POLICY, store, *options)) > 0


def test_a_removed_file_keeps_its_space_where_its_vector_stays(
    without: Start, store: Path, options: tuple[str, ...]
) -> None:
    assert not freed_at_once(without("open-vectors-kept-at-unlink", POLICY, store, *options))


def others_open_beside_many(mount: Mount) -> str:
    """What another app is told that opens a file while one app holds as many handles as it can get. LSEEK
    makes Python take each handle over at once, so the bridge never lacks room for the next one."""

    def life(channel: Any) -> int:
        read(str(mount / "file"), 5)
        held: list[int] = []
        with contextlib.suppress(OSError):  # EMFILE: its share is used up
            while len(held) < 600:
                held.append(os.open(mount / "file", os.O_RDONLY))
                os.lseek(held[-1], 0, os.SEEK_DATA)
        channel.send("open")
        channel.recv()
        return len(held)

    (mount.store / "other").write_bytes(b"text")
    (mount.store / "other").chmod(0o644)
    child = start_as(ONE, life)
    child.receive()
    told = call_as(TWO, lambda: error(read, str(mount / "other")))
    child.send("end")
    assert child.result() > 100
    return told


def test_one_app_leaves_handles_for_others(without: Start, store: Path) -> None:
    assert others_open_beside_many(without("few-handles", POLICY, store)) == str(b"text")


def test_it_takes_them_all_where_the_bridge_counts_no_shares(without: Start, store: Path) -> None:
    assert others_open_beside_many(without("open-vectors-beyond-shares", POLICY, store)) == "EMFILE"
