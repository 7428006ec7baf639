"""Access to a trail by its paths: what is there, also while it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.forward.source import DirectAccess, Source
from policyfs.journal.files.compression import compress
from policyfs.journal.files.segments import SegmentDirectory
from tests.support.mount.trail import MOUNT_ID, an_event, segments, write_trail


def test_no_trail_is_an_empty_one(tmp_path: Path) -> None:
    assert DirectAccess(tmp_path / "none").chains() == {}
    (tmp_path / "empty").mkdir()
    assert DirectAccess(tmp_path).chains() == {}
    with pytest.raises(FileNotFoundError):
        DirectAccess(tmp_path).open("x", "00000001-20260301T080000Z.jsonl")


def test_a_listing_is_used_for_a_moment_only(tmp_path: Path) -> None:
    source = Source(DirectAccess(tmp_path))
    assert source.chains() == {}
    write_trail(tmp_path, [an_event()])
    assert list(source.chains(fresh=True)) == [MOUNT_ID]


def test_a_compressed_segment_is_unpacked_once_for_all(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(b"/%d" % number) for number in range(20)], segment_bytes=1500)
    plain = [file.read_bytes() for file in segments(directory)]
    with SegmentDirectory.at(directory) as place:
        for name in place.names():
            compress(place.fd, name, 0)
    source = Source(DirectAccess(tmp_path))
    names = source.chains()[MOUNT_ID]
    for name, wanted in zip(names, plain, strict=True):
        first, second = source.open(MOUNT_ID, name), source.open(MOUNT_ID, name)
        assert os.fstat(first).st_ino == os.fstat(second).st_ino
        assert os.pread(first, len(wanted) + 1, 0) == wanted
        os.close(first)
        os.close(second)
    before = len(os.listdir("/proc/self/fd"))
    source.close()
    assert before - len(os.listdir("/proc/self/fd")) == 2
