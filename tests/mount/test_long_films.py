"""Films too long to be looked at before their first byte is read: each read looks at its own frames."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.content.whole_plans import SHORT_BYTES
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.mount.test_messages_in_frames import GALLERY, MAPS, POLICY
from tests.redaction.planted_films import avi_of
from tests.support.machine.counts import first
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.layers import mergerfs
from tests.support.mount.stores import Mounts
from tests.support.samples.matroskas import block, checked_cluster, el, film, track
from tests.support.samples.movies import AVCC, CITY, Track, movie, sei, u32

SLICE_BYTES: Final = 2 << 20
FRAMES: Final = SHORT_BYTES // SLICE_BYTES + 4
MESSAGE: Final = sei(5, bytes(range(16, 32)) + CITY)
"""User data of H.264 with a position."""


def mp4_of(frames: list[bytes]) -> bytes:
    return movie(Track(format=b"avc1", entry=AVCC, samples=frames))


def matroska_of(frames: list[bytes]) -> bytes:
    """A film of clusters of two frames, with checksums."""
    blocks = [block(1, frame) for frame in frames]
    tracks = track(1, 1, b"V_MPEG4/ISO/AVC", el(0x63A2, AVCC[8:]))
    return film(*[checked_cluster(*blocks[at : at + 2]) for at in range(0, FRAMES, 2)], tracks=tracks)


FORMS: Final = {
    "mp4": ("video/mp4", mp4_of),
    "mkv": ("video/x-matroska", matroska_of),
    "avi": ("video/x-msvideo", lambda frames: avi_of(frames, b"AVC1")),
}


def film_of(broken: int = -1, form: str = "mp4") -> bytes:
    """A film just too long to be short, with a position in every seventh frame. broken: the number of a frame
    with more units than a picture has; -1 for none."""
    picture = u32(SLICE_BYTES) + b"\x65" + b"\xa5" * (SLICE_BYTES - 1)
    frames = [MESSAGE * (number % 7 == 3) + picture for number in range(FRAMES)]
    if broken >= 0:
        frames[broken] = (u32(1) + b"\x06") * 5000 + MESSAGE + picture
    return FORMS[form][1](frames)


def shown_of(film: bytes, form: str = "mp4") -> bytes:
    """What the whole look leaves of a film."""
    return apply(film, locate(FORMS[form][0], frozenset({"location"}), MemorySource(film)).patches)


def read_at(path: Path, ranges: list[tuple[int, int]]) -> list[bytes | int]:
    """The bytes of these ranges (offset, size), or the errno of their reads."""
    fd, found = os.open(path, os.O_RDONLY), []
    try:
        for offset, size in ranges:
            try:
                found.append(os.pread(fd, size, offset))
            except OSError as error:
                found.append(error.errno)
    finally:
        os.close(fd)
    return found


def mapped_backwards(path: Path) -> bytes:
    """The bytes of a file, read from its end on through a mapping."""
    step = 1 << 22
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        starts = range(0, len(data), step)
        return b"".join(reversed([data[at : at + step] for at in reversed(starts)]))


@pytest.fixture(params=first(1, [("leased",), ("cloned",)]))
def store(request: pytest.FixtureRequest, empty_store: Path, tmp_path: Path) -> Iterator[Path]:
    """Where a long film is read under a lease, also in a pool, and where from a clone."""
    if request.param == "leased":
        yield empty_store
        return
    tmp_path.chmod(0o700)
    if request.param == "pooled":
        with mergerfs(empty_store, tmp_path) as pool:
            yield pool
        return
    with file_system("xfs", tmp_path) as root:
        yield root


def started(mounts: Mounts, store: Path) -> Mount:
    mount = mounts.start(POLICY, store)
    mount.expected_mediated = True
    return mount


@pytest.mark.parametrize(
    ("store", "form"),
    [
        ("leased", "mkv"), pytest.param("cloned", "avi", marks=pytest.mark.night),
        *first(0, [("pooled", "mp4"), ("leased", "mp4"), ("cloned", "mp4")]),
    ],
    indirect=["store"],
)
def test_each_read_of_a_long_film_shows_what_the_whole_look_would(
    form: str, mounts: Mounts, store: Path
) -> None:
    """Attack A5.5: Put the place into some frames of a film that is too long to be looked at before its
    first byte is read
    Guard: policyfs/fs/redacted/windows.py::FilmFrames.read,
    policyfs/redact/bitstreams/frame_table.py::look
    Also: tests/unit/test_fs_redacted_windows.py::test_bytes_that_change_after_the_look_are_not_shown
    Without: ::test_a_place_in_a_long_film_is_read_where_its_frames_are_not_looked_at
    """
    film, name = film_of(form=form), f"long.{form}"
    (store / name).write_bytes(film)
    shown = shown_of(film, form)
    assert CITY in film
    assert CITY not in shown
    mount = started(mounts, store)
    assert call_as(MAPS, read_at, mount / name, [(0, len(film))]) == [film]
    first = film.index(MESSAGE) + 3
    ranges = [(first, 8), (first + len(MESSAGE), 1), (len(film) - 9, 100), (0, 1), (len(film), 1)]
    chance = random.Random(7)
    ranges += [(chance.randrange(len(film)), chance.choice((1, 4096, 700_001))) for _ in range(12)]
    ranges.append((0, len(film)))
    answers = call_as(GALLERY, read_at, mount / name, ranges)
    assert answers == [shown[offset : offset + size] for offset, size in ranges]
    assert call_as(GALLERY, mapped_backwards, mount / name) == shown
    opened = mount.events(path=f"/{name}", app="gallery", operation="open")[-1]
    assert opened["io"] == "mediated"
    assert mounts.stop_all() == []


def test_a_place_in_a_long_film_is_read_where_its_frames_are_not_looked_at(
    mounts: Mounts, store: Path
) -> None:
    film = film_of()
    (store / "long.mp4").write_bytes(film)
    mount = mounts.prepare(POLICY, store)
    mount.program, mount.expected_mediated = ("tests.attack.weakened", "films-not-looked-at"), True
    mount.start()
    assert call_as(GALLERY, read_at, mount / "long.mp4", [(film.index(CITY), len(CITY))]) == [CITY]
    assert mounts.stop_all() == []


def test_a_frame_that_is_refused_keeps_no_other_from_being_read(mounts: Mounts, store: Path) -> None:
    film = film_of(broken=20)
    (store / "long.mp4").write_bytes(film)
    mount = started(mounts, store)
    at = film.index((u32(1) + b"\x06") * 5000)
    ranges = [(0, 4096), (at + 100_000, 10), (len(film) - 9, 9)]
    answers = call_as(GALLERY, read_at, mount / "long.mp4", ranges)
    assert answers == [film[:4096], errno.EIO, film[-9:]]
    refused = mount.events(path="/long.mp4", operation="read", decision="deny")[-1]
    assert "units" in str(refused["note"])
    assert mounts.stop_all() == []


def test_a_short_film_is_looked_at_as_a_whole(mounts: Mounts, store: Path) -> None:
    film = movie(Track(format=b"avc1", entry=AVCC, samples=[MESSAGE + u32(9) + b"\x65slice123"] * 300))
    (store / "short.mp4").write_bytes(film)
    mount = mounts.start(POLICY, store)
    assert call_as(GALLERY, read_at, mount / "short.mp4", [(0, len(film))]) == [shown_of(film)]
    opened = mount.events(path="/short.mp4", app="gallery", operation="open")[-1]
    assert (opened["io"], opened["redacted_ranges"]) == ("passthrough", 300)
    assert mounts.stop_all() == []
