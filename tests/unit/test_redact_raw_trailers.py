"""Trailers behind the pixels of a photo are found from the file's end, as readers find them."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.raw.trailers import MAX_TRAILERS, end_without_trailers
from tests.support.samples.tiffs import PIXELS
from tests.support.samples.trailers import TRAILERS, afcp, photo_mechanic


def end(data: bytes) -> int:
    return end_without_trailers(MemorySource(data))


@pytest.mark.parametrize("name", TRAILERS)
def test_a_file_ends_where_its_first_trailer_starts(name):
    assert end(PIXELS + TRAILERS[name](len(PIXELS))) == len(PIXELS)


@pytest.mark.parametrize("data", [b"", b"AXS!", PIXELS, PIXELS + b"AXS!" + bytes(9), b"cbipcbbl"])
def test_a_file_without_a_trailer_ends_at_its_end(data):
    assert end(data) == len(data)


@pytest.mark.parametrize(
    "tail",
    [
        (0).to_bytes(4) + b"\xa1\xb2\xc3\xd4",
        (1 << 31).to_bytes(4) + b"\xa1\xb2\xc3\xd4",
        (5000).to_bytes(4) + b"cbipcbbl",
        b"~\0\0\6" + (9).to_bytes(4) + b"\x10\4",
    ],
)
def test_a_size_that_no_trailer_can_have_is_none(tail):
    assert end(PIXELS + tail) == len(PIXELS) + len(tail)


def test_an_offset_behind_the_trailer_is_wrong():
    """Then its first mark counts; here it is the one at its end."""
    data = PIXELS + b"AXS!" + (1 << 31).to_bytes(4) + bytes(4)
    assert end(data) == len(PIXELS)


def test_trailers_are_searched_a_limited_number_of_times():
    one = photo_mechanic(0)
    data = PIXELS + one * (MAX_TRAILERS + 2)
    assert end(data) == len(PIXELS) + 2 * len(one)
    assert end(PIXELS + afcp(len(PIXELS))) == len(PIXELS)
