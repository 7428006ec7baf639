"""Headers of JPEG strips: each is looked at, however many there are; equal ones cost little."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import MAX_PARTS, Budget, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.raw.strips import MOST_SEGMENTS, StripHeaders
from tests.support.samples import jpegs

PLACE = b"47.80453, 13.04229"
PLAIN = jpegs.plain()


def headers(data: bytes, parts: int = MAX_PARTS) -> StripHeaders:
    return StripHeaders(MemorySource(data), Budget(parts, 1 << 24))


def spans(strip: bytes) -> list[bytes]:
    found, frame = headers(strip).metadata(0, len(strip))
    assert frame
    return [strip[a:b] for a, b in found]


def test_a_header_like_an_earlier_one_is_known_and_any_other_is_not():
    other = jpegs.with_segments(PLAIN, jpegs.segment(0xFE, PLACE))
    data = PLAIN * 2 + other
    strips = headers(data)
    size = len(PLAIN)
    assert not strips.is_known(0, size)
    assert strips.metadata(0, size)[0] == []
    assert strips.is_known(size, 2 * size)
    assert not strips.is_known(2 * size, len(data))
    assert not strips.is_known(size, size + 40)  # cut off in the header


@pytest.mark.parametrize(
    ("code", "payload", "kept"),
    [
        (0xE0, b"JFIF\0" + bytes(9), 14),
        (0xEE, b"Adobe" + bytes(7), 12),
        (0xE1, b"Adobe" + bytes(7), 0),
        (0xE0, b"JFXX\0" + bytes(9), 0),
        (0xFE, b"JFIF\0" + bytes(9), 0),
    ],
)
def test_only_the_fixed_part_of_a_segment_that_decoders_read_stays(code, payload, kept):
    whole = payload + PLACE
    assert spans(jpegs.with_segments(PLAIN, jpegs.segment(code, whole))) == [whole[kept:]]


@pytest.mark.parametrize("count", [1, MOST_SEGMENTS - 1, MOST_SEGMENTS, 3 * MOST_SEGMENTS])
def test_segments_are_found_behind_any_number_of_others(count):
    parts = [jpegs.segment(0xE5, b"x")] * count
    assert spans(jpegs.with_segments(PLAIN, *parts, jpegs.segment(0xFE, PLACE)))[-1] == PLACE


def test_a_walk_costs_a_part_of_the_budget():
    with pytest.raises(TooMuchError):
        headers(PLAIN, parts=1).metadata(0, len(PLAIN))
