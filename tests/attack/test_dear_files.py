"""E4: files that are made to be dear for those who look into them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.parsers_broken import marked
from tests.attack.test_parsers import GALLERY, OTHER, PHOTO, POLICY, read
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs, pngs
from tests.support.samples.bombs import BOMBS
from tests.support.samples.jpegs import leaks

pytestmark = pytest.mark.load

DEAR: Final = ("PNG: zTXt of zeros", "HEIC: XMP overlaps", "FLAC: many comment blocks")
HOLE: Final = "hole.jpg"
OPENS: Final = 3
PARTS, FILES, MEMORY_MB = 5500, 8, 21
"""PNGs of 70 KB with 16,500 patches, which take 2 MB."""
PAUSE_S: Final = 0.01
"""Of the honest app between two photos: it is to be served, and not to compete with the parsers."""


@pytest.fixture(scope="module")
def bombs() -> list[bytes]:
    return [made for name in DEAR if isinstance(made := BOMBS[name][1](), bytes)]


@pytest.fixture
def store(empty_store: Path, bombs: list[bytes]) -> Path:
    assert len(bombs) == len(DEAR)
    for number, made in enumerate(bombs):
        (empty_store / f"bomb-{number}").write_bytes(made)
    (empty_store / HOLE).write_bytes(jpegs.plain())
    os.truncate(empty_store / HOLE, 1 << 39)
    (empty_store / "hang.jpg").write_bytes(
        jpegs.with_segments(PHOTO, jpegs.segment(jpegs.COM, marked(b"hang")))
    )
    (empty_store / "honest.jpg").write_bytes(PHOTO)
    return empty_store


def _open_bombs(channel: Connection, top: Path) -> list[str]:
    """Open each once; how it ended."""
    found = []
    for name in [*(f"bomb-{number}" for number in range(len(DEAR))), HOLE]:
        try:
            os.close(os.open(top / name, os.O_RDONLY))
            found.append("opened")
        except OSError as error:
            found.append(os.strerror(error.errno or 0))
    return found


def _read_on(channel: Connection, path: Path) -> tuple[int, bool]:
    """Read a photo until it is told that it may stop: how often, and whether a place was in it."""
    done, told = 0, False
    while not channel.poll(PAUSE_S):
        shown = read(path)
        assert isinstance(shown, bytes), shown
        done, told = done + 1, told or bool(leaks(shown))
    return done, told


def _open_again(path: Path, opens: int = OPENS) -> list[bytes | str]:
    return [read(path) for _ in range(opens)]


@pytest.mark.parametrize("apps", first(1, [((),), (("--app", "gallery"),)]))
def test_bombs_hold_nobody_up(mounts: Mounts, store: Path, apps: tuple[str, ...]) -> None:
    mount = mounts.start(POLICY, store, *apps)
    honest = start_as(GALLERY if apps else OTHER, _read_on, mount / "honest.jpg")
    hostile = start_as(GALLERY, _open_bombs, mount.mountpoint)
    assert len(hostile.result(60)) == len(DEAR) + 1
    honest.send("it is over")
    done, told = honest.result()
    assert done
    assert not told
    assert mount.status()["bugs"] == 0


@pytest.mark.soak
def test_they_take_all_the_time_there_is_where_nothing_is_counted(
    without: Callable[..., Mount], store: Path
) -> None:
    mount = without("unlimited-looks", POLICY, store)
    start_as(GALLERY, _open_bombs, mount.mountpoint).result(100)
    failed = mount.status()["sniffer"]["failed"]
    assert sum(failed.get(why, 0) for why in ("deadline", "busy", "died")) >= 2, failed


def test_a_file_that_keeps_workers_busy_is_refused_at_once_the_next_time(
    without: Callable[..., Mount], store: Path
) -> None:
    """The parsers of this daemon hang over a word in a file; there are two seconds for each look.

    Attack E4.3: Open again and again a file that makes workers hang
    Guard: policyfs/content/missed.py::Missed.refusal, policyfs/content/workers/queue.py::Line.enter (no
    app has the last worker)
    Also: tests/unit/test_content_missed.py
    Without: ::test_it_has_a_worker_each_time_where_that_is_forgotten
    """
    mount = without("broken-parser", POLICY, store)
    honest = start_as(OTHER, _read_on, mount / "honest.jpg")
    assert call_as(GALLERY, _open_again, mount / "hang.jpg") == ["EACCES"] * OPENS
    honest.send("it is over")
    done, told = honest.result()
    assert done
    assert not told
    failed = mount.status()["sniffer"]["failed"]
    assert failed["missed"] >= 1
    assert failed["deadline"] < OPENS
    notes = " ".join(str(event) for event in mount.events(app="gallery", decision="deny", operation="open"))
    assert "no answer within 2 s" in notes


def test_it_has_a_worker_each_time_where_that_is_forgotten(
    without: Callable[..., Mount], store: Path
) -> None:
    mount = without("broken-parser,tried-again", POLICY, store)
    assert call_as(GALLERY, _open_again, mount / "hang.jpg", 2) == ["EACCES"] * 2
    assert mount.status()["sniffer"]["failed"]["deadline"] == 2


def _memory_mb(mount: Mount) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{mount.pid}/status").read_text())
    assert found is not None
    return int(found[1]) >> 10


def _open_each(channel: Connection, paths: list[Path]) -> int:
    """Open each file once; how often it was let."""
    return sum(isinstance(read(path), bytes) for path in paths)


def _taken_by_patches(mount: Mount, store: Path) -> int:
    """The MB that the daemon takes for copies of files with very many hidden parts."""
    dear = pngs.plain(*[pngs.chunk(b"abCd", b"x")] * PARTS)
    paths = []
    for number in range(FILES + 1):
        (store / f"{number}.png").write_bytes(dear + bytes(number))
        paths.append(mount / f"{number}.png")
    assert start_as(GALLERY, _open_each, paths[:1]).result(30) == 1
    before = _memory_mb(mount)
    assert start_as(GALLERY, _open_each, paths[1:]).result(200) >= FILES - 2  # some may be late
    return _memory_mb(mount) - before


@pytest.mark.night
def test_files_with_very_many_hidden_parts_take_little_memory(mounts: Mounts, empty_store: Path) -> None:
    """Attack E4.2: Open many files with as many hidden parts as a plan may have, so that the plans use up
    the daemon's memory
    Guard: policyfs/fs/redacted/patching.py::ranges_of,
    policyfs/fs/redacted/leased.py::LeasedFiles.connect (a share for each app)
    Also:
    tests/unit/test_fs_redacted_leased.py::test_the_plans_of_one_apps_open_files_leave_memory_for_others
    Without: ::test_they_take_much_where_plans_are_kept
    """
    assert _taken_by_patches(mounts.start(POLICY, empty_store), empty_store) < MEMORY_MB


@pytest.mark.soak
def test_they_take_much_where_plans_are_kept(without: Callable[..., Mount], empty_store: Path) -> None:
    assert _taken_by_patches(without("plans-kept", POLICY, empty_store), empty_store) > MEMORY_MB
