"""Chains read through indexes: also while they grow, and whatever was kept before."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import Audit
from policyfs.journal.files import segment_file
from policyfs.journal.files.compression import compress
from policyfs.journal.files.reader import find_chains
from policyfs.journal.files.segments import SegmentDirectory
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.trail.lines.record import Record
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, segments, write_trail

CLOCK = Clock(datetime(2026, 3, 1, 9, 0, tzinfo=UTC), UTC)


class Read:
    """Reads a trail as a command does; keeps what it told."""

    def __init__(self, root: Path, cache: Path) -> None:
        self._root = root
        self._cache = cache
        self.built = 0
        self.told: list[tuple[str, int, int]] = []

    def trail(self) -> IndexedTrail:
        cache = IndexCache(self._cache)
        return IndexedTrail(find_chains(self._root), cache, lambda *told: self.told.append(told))

    def __call__(self, query: str, newest: int = 0) -> list[bytes]:
        trail = self.trail()
        wanted = Selection(parse_query(query), CLOCK)
        (chain,) = trail.chains
        items = trail.newest(chain, wanted, newest) if newest else trail.selected(chain, wanted)
        found = [item for item in items if isinstance(item, Record)]
        self.built = trail.built
        return [one.event.path for one in found if one.event is not None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with a_journal(tmp_path / "trail", segment_bytes=4000) as journal:
        for number in range(40):
            journal.record(an_event(b"/%d" % number, pid=number), Audit.REQUIRED)
    return tmp_path / "trail"


@pytest.fixture
def read(root: Path, tmp_path: Path) -> Read:
    return Read(root, tmp_path / "cache")


def test_each_closed_segment_is_indexed_once(read: Read, root: Path) -> None:
    closed = len(segments(root / MOUNT_ID)) - 1
    assert closed > 3
    everything = [b"/%d" % number for number in range(40)]
    assert read("") == everything
    assert read.built == closed
    assert read("") == everything
    assert read.built == 0
    assert read("path:/{3,17,39}") == [b"/3", b"/17", b"/39"]
    assert {what for what, _, _ in read.told} == {"reading segments", "indexing segments"}


def test_no_progress_is_shown_while_events_are(read: Read) -> None:
    """A row began behind "reading segments: 1 of 11", in the same line of the terminal."""
    trail = read.trail()
    (chain,) = trail.chains
    shown = [read.told[-1][1:] for _ in trail.selected(chain, Selection(parse_query(""), CLOCK))]
    assert len(shown) == 40, shown
    assert all(done == total for done, total in shown), shown


def test_a_changed_segment_is_indexed_again(read: Read, root: Path) -> None:
    read("")
    path = segments(root / MOUNT_ID)[1]
    before = path.stat()
    data = path.read_bytes()
    changed = data.replace(b'"path":"/9"', b'"path":"/x"')
    assert data != changed
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read("path:/{9,x}") == [b"/x"]
    assert read.built == 1


def test_the_newest_events(read: Read) -> None:
    assert read("", 3) == [b"/37", b"/38", b"/39"]
    assert read("path:/1*", 2) == [b"/18", b"/19"]
    assert read("pid:0..9 not path:/9", 2) == [b"/7", b"/8"]


def test_a_growing_segment_is_indexed_by_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "PART", 5000)
    read = Read(tmp_path / "trail", tmp_path / "cache")
    built = []
    for begin in range(0, 60, 20):
        with a_journal(tmp_path / "trail") as journal:
            for number in range(begin, begin + 20):
                journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        assert read("") == [b"/%d" % number for number in range(begin + 20)]
        built.append(read.built)
        trail = read.trail()
        (chain,) = trail.chains
        lines = [
            portion.row(*place).place.line
            for portion in trail.portions(chain)
            for place in portion.index.query("SELECT line, offset FROM event ORDER BY line")
        ]
        assert lines == sorted(set(lines))
        raw = segments(tmp_path / "trail" / MOUNT_ID)[0].read_bytes().splitlines()
        assert [number for number, line in enumerate(raw, 1) if b'"event"' in line] == lines
    assert all(built)


def test_a_segment_that_is_compressed_meanwhile_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest segment is read by parts. It is full, sealed and compressed while others are still read."""
    monkeypatch.setattr(segment_file, "PART", 5000)
    paths = [b"/%d" % number for number in range(60)]
    directory = write_trail(tmp_path / "trail", [an_event(path) for path in paths])
    [newest] = segments(directory)
    opened = IndexedTrail._opened

    def later(self: IndexedTrail, *args: Any) -> Iterator[Portion]:
        with SegmentDirectory.at(directory) as place:
            compress(place.fd, newest.name, 0)
        yield from opened(self, *args)

    monkeypatch.setattr(IndexedTrail, "_opened", later)
    assert Read(tmp_path / "trail", tmp_path / "cache")("") == paths


def test_a_line_that_is_not_finished_is_left_out(read: Read, root: Path) -> None:
    with segments(root / MOUNT_ID)[-1].open("ab") as stream:
        stream.write(b'{"type":"event","seq":4711')
    assert len(read("")) == 40


def test_a_full_disk_keeps_no_index_and_loses_no_event(read: Read, tmp_path: Path) -> None:
    limits, before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        assert len(read("")) == 40
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list((tmp_path / "cache").iterdir())
    assert len(read("")) == 40


def test_commands_that_make_an_index_at_once_all_find_the_events(root: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: Read(root, tmp_path / "cache")("path:/{3,17,39}"), range(8)))
    assert found == [[b"/3", b"/17", b"/39"]] * 8
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".new")]
