"""Streams of ASF: which are searched, which are refused, and texts about them."""

from __future__ import annotations

import pytest

from policyfs.redact.asf.objects import GUIDS
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.registry import locate_in
from tests.support.samples import mpegs
from tests.support.samples.asfs import (
    KIND,
    PLACE,
    UNKNOWN,
    asf,
    described,
    extension,
    made,
    packet,
    pictures,
    sound,
    stream,
)
from tests.support.samples.film_checks import assert_place_goes, assert_stays, redact

MPEG_4 = b"\0\0\1\xb6picture"
USER_DATA = b"\0\0\1\xb2at " + PLACE


def without_settings(properties: bytes) -> bytes:
    """Properties of a stream that state settings of no bytes; they follow nevertheless."""
    return properties[:64] + bytes(4) + properties[68:]


def test_pictures_with_messages_are_searched():
    film = pictures(b"MP4S", b"\0\0\1\xb0\1" + USER_DATA) + sound(0x55)
    data = asf(streams=film, packets=packet((1, MPEG_4 + USER_DATA[:9]), (1, USER_DATA[9:] + MPEG_4)))
    assert_place_goes(KIND, data)
    half = asf(streams=film, packets=packet((1, MPEG_4 + USER_DATA[:9])) + packet((1, USER_DATA[9:])))
    assert_place_goes(KIND, half)
    avc = packet((1, mpegs.start(b"\x67abc") + mpegs.start(b"\x65slice")))
    assert_stays(KIND, asf(streams=pictures(b"H264", b""), packets=avc))


def test_a_stream_in_extended_properties():
    inside = pictures(number=1)
    assert_stays(KIND, asf(extension(described(behind=inside)), streams=sound()))
    data = asf(extension(described(behind=inside + b"x")), streams=sound())
    assert b"WMV2" not in redact(KIND, data)


@pytest.mark.parametrize(
    "data",
    [
        asf(streams=pictures(b"MJPG")),
        asf(streams=pictures() + pictures()),
        asf(streams=pictures(settings=PLACE)),
        asf(streams=pictures(number=0x8001)),
        asf(streams=stream(UNKNOWN, b"", 1)),
        asf(streams=sound(0x55), packets=packet((2, b"ID3\4\0\0\0\0\0\x20" + bytes(9)))),
        asf(
            extension(
                made("extended stream properties", bytes(62) + b"\1\0" + GUIDS["file names"] + bytes(6))
            )
        ),
        asf(made("content encryption", bytes(9))),
        asf(made("stream properties", b"too short")),
    ],
)
def test_what_is_not_understood_is_refused(data):
    with pytest.raises(NotThisKindError):
        redact(KIND, data)


@pytest.mark.parametrize("properties", [pictures(), sound(number=1)])
def test_a_code_behind_the_settings_counts_for_nothing(properties):
    # It goes. Whoever cleans the cleaned file sees no code there.
    data = asf(streams=without_settings(properties), packets=packet((1, b"ID3\4\0\0\0\0\0\x20" + bytes(9))))
    with pytest.raises(NotThisKindError, match=r"search its pictures|other data in its sound"):
        locate_in(KIND, MemorySource(data), Tells.LOCATION)
