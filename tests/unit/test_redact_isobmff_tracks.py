"""Tracks: their samples are read once, when they are asked for."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.tracks import Track
from tests.support.samples.movies import u32


def test_samples_by_their_tables():
    track = Track(Box(b"trak", 0, 8, 8))
    for kind, numbers in ((b"stsz", (0, 0, 2, 5, 6)), (b"stsc", (0, 1, 1, 2, 1)), (b"stco", (0, 1, 100))):
        track.table.keep(kind, memoryview(u32(*numbers)))
    track.table.keep(b"what", memoryview(b"unknown"))
    assert list(track.samples().places(range(2))) == [(100, 5), (105, 6)]
    assert track.samples() is track.samples()


@pytest.mark.parametrize(
    ("first", "second"),
    [(b"stsz", b"stsz"), (b"stsz", b"stz2"), (b"stco", b"co64"), (b"co64", b"stco"), (b"stsc", b"stsc")],
)
def test_two_tables_of_one_use_are_refused(first: bytes, second: bytes):
    """ffmpeg takes the last table of sizes, but the first of offsets."""
    table = Track(Box(b"trak", 0, 8, 8)).table
    table.keep(first, memoryview(u32(0, 0, 0)))
    with pytest.raises(NotThisKindError, match="contradict"):
        table.keep(second, memoryview(u32(0, 0, 0)))
