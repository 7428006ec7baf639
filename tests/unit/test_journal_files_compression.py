"""Compressed segments: the same lines to every reader, and never fewer bytes than there were."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files import compression
from policyfs.journal.files.compression import compress
from policyfs.journal.files.reader import Follower, last_records, raw_lines
from policyfs.journal.files.segments import Chain, SegmentDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.lines.record import Record
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import (
    MOUNT_ID,
    ROOMY,
    a_journal,
    an_event,
    paths,
    read_all,
    segments,
    verified,
    write_trail,
)

COUNT = 60


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(COUNT)], segment_bytes=8192)


def compressed(directory: Path, path: Path, least: int = 1) -> bool:
    with SegmentDirectory.at(directory) as place:
        return compress(place.fd, path.name, least)


def test_every_reader_reads_a_compressed_segment(directory: Path) -> None:
    before, data = read_all(directory), segments(directory)[0].read_bytes()
    first, second, *_ = segments(directory)
    for path in (first, second):
        assert compressed(directory, path)
        assert not path.exists()
    names = [path.name for path in segments(directory)]
    assert names[:2] == [f"{first.name}.zst", f"{second.name}.zst"]
    after = read_all(directory)
    assert [record[1:] for record in after] == [record[1:] for record in before]
    assert b"".join(raw_lines(directory, names[0])) == data
    newest = last_records(Chain(MOUNT_ID, directory), len(before))
    assert [item.seq for item in newest if isinstance(item, Record)] == [record.seq for record in before]
    report = verified(directory)
    assert (report.whole, report.records) == (True, len(before))


def test_any_zstd_program_reads_it(directory: Path) -> None:
    path = segments(directory)[0]
    data = path.read_bytes()
    assert compressed(directory, path)
    done = subprocess.run(["zstd", "-dc", f"{path}.zst"], capture_output=True, check=True)
    assert done.stdout == data


def test_a_name_that_was_listed_before_is_read_all_the_same(directory: Path) -> None:
    path = segments(directory)[0]
    data = path.read_bytes()
    compressed(directory, path)
    assert b"".join(raw_lines(directory, path.name)) == data


def test_who_follows_reads_no_line_twice(tmp_path: Path, directory: Path) -> None:
    follower = Follower(tmp_path)
    write_trail(tmp_path, [an_event(b"/more")], segment_bytes=1 << 20)
    new = [item.event.path for item in follower.poll() if isinstance(item, Record) and item.event]
    assert new == [b"/more"]
    with SegmentDirectory.at(directory) as place:
        for name in place.names():
            compress(place.fd, name, 1)
    assert follower.poll() == []


def test_small_segments_stay_as_they_are(directory: Path) -> None:
    path = segments(directory)[0]
    assert not compressed(directory, path, 1 << 20)
    assert path.exists()


def test_what_cannot_be_read_back_is_not_taken_for_the_segment(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = segments(directory)[0]
    monkeypatch.setattr(compression.hashlib, "file_digest", lambda *_: hashlib.sha256(b"another"))
    with pytest.raises(OSError, match="cannot be read back"):
        compressed(directory, path)
    assert path.exists()
    assert len(os.listdir(directory)) == len(segments(directory))


def test_after_a_crash_in_between_the_plain_one_counts(directory: Path) -> None:
    path = segments(directory)[0]
    data = path.read_bytes()
    compressed(directory, path)
    path.write_bytes(data)
    assert segments(directory)[0] == path
    assert verified(directory).whole
    assert compressed(directory, path)
    assert not path.exists()


@pytest.mark.parametrize("part", [3, 2, 1])
def test_damage_to_a_compressed_segment_is_found(directory: Path, part: int) -> None:
    path = segments(directory)[1]
    compressed(directory, path)
    packed = Path(f"{path}.zst")
    data = bytearray(packed.read_bytes())
    data[len(data) * part // 4] ^= 1
    packed.write_bytes(data)
    assert not verified(directory).whole


@pytest.mark.parametrize("at", [20, -200, -30])
def test_a_flipped_bit_in_a_compressed_segment_is_an_edit(tmp_path: Path, at: int) -> None:
    """The lines behind the flipped bit cannot be read, but nobody has cut them off."""
    with a_journal(tmp_path, segment_bytes=8192, keys=KeyStore(tmp_path / "keys")) as journal:
        for number in range(COUNT):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    directory = tmp_path / MOUNT_ID
    path = segments(directory)[1]
    compressed(directory, path)
    packed = Path(f"{path}.zst")
    data = bytearray(packed.read_bytes())
    data[at] ^= 1
    packed.write_bytes(data)
    report = verified(directory)
    assert [found.kind for found in report.breaks] == ["edited"]
    assert report.proven < read_all(directory)[-1].seq - 20


def test_a_journal_compresses_what_it_has_sealed_and_prunes_it(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    place = str(tmp_path / MOUNT_ID)
    big = an_event(b"/" + b"x" * 900)

    def opened(keep: int) -> Journal:
        return Journal(place, MOUNT_ID, keep=keep, segment_bytes=1 << 20, limits=ROOMY, keys=keys)

    with_all = opened(0)
    for _ in range(2200):
        with_all.record(big, Audit.REQUIRED)
    directory = tmp_path / MOUNT_ID
    wait_for(lambda: len(list(directory.glob("*.zst"))) >= 2, "two are compressed")
    with_all.close()
    report = verified(directory)
    assert (report.whole, report.signed) == (True, report.seq)
    assert len(paths(directory)) == 2200
    keeping = opened(1)
    keeping.record(big, Audit.REQUIRED)
    wait_for(lambda: keeping.flush() or not list(directory.glob("*.zst")), "rotation removes them")
    keeping.close()
    assert len(list(directory.glob("*.seal"))) == len(segments(directory))
    assert verified(directory).whole


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """A lock, before which rotation has removed a segment."""
    path.unlink()
    yield


def test_a_segment_that_rotation_removes_meanwhile_does_not_come_back(directory: Path) -> None:
    path = segments(directory)[0]
    with SegmentDirectory.at(directory) as place:
        assert not compress(place.fd, path.name, 1, _removed(path))
    assert not [name for name in os.listdir(directory) if name.startswith((path.name, ".new"))]


def test_a_segment_is_compressed_under_the_lock_of_rotation(tmp_path: Path) -> None:
    """So a segment of a journal with a number of segments to keep is removed or compressed, not both."""
    keys = KeyStore(tmp_path / "keys")
    journal = Journal(str(tmp_path / MOUNT_ID), MOUNT_ID, keep=2, segment_bytes=4096, limits=ROOMY, keys=keys)
    assert journal._sealer is not None
    journal._sealer._compress_from = 1
    for number in range(200):
        journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        if number % 10 == 9:
            journal._checked_ns = 0
            journal.flush()
    journal.close()
    report = verified(tmp_path / MOUNT_ID)
    assert report.whole, report.breaks
    assert {path.stem for path in (tmp_path / MOUNT_ID).glob("*.seal")} == {
        path.name.partition(".")[0] for path in segments(tmp_path / MOUNT_ID)
    }


def test_a_compressed_segment_is_not_compressed_again_after_a_crash(tmp_path: Path) -> None:
    """The newest seal is that of a compressed segment, as after a crash in the next one."""
    keys = KeyStore(tmp_path / "keys")
    directory = tmp_path / MOUNT_ID

    def run(count: int) -> None:
        journal = Journal(str(directory), MOUNT_ID, keep=0, segment_bytes=4096, limits=ROOMY, keys=keys)
        assert journal._sealer is not None
        journal._sealer._compress_from = 1
        for number in range(count):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        wait_for(lambda: not journal._sealer._sealed_names and not journal._sealer._closed, "all is sealed")
        time.sleep(0.05)
        journal.close()

    run(10)
    newest = segments(directory)[-1]
    assert [path.name.endswith(".zst") for path in segments(directory)] == [True, False]
    newest.with_suffix(".seal").unlink()  # the daemon had no time
    run(1)
    run(1)
    assert not [name for name in os.listdir(directory) if name.endswith(".zst.zst")]
    assert len(paths(directory)) == 12
    report = verified(directory)
    assert report.whole, report.breaks
