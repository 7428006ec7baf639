"""Skeleton in Ogg files: numbers stay, other facts about streams go."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from tests.support.samples import sounds
from tests.support.samples.sound_checks import place_in, redact
from tests.support.samples.sounds import CITY, OGG, PLACE


def skeleton(*packets: bytes) -> bytes:
    return sounds.pages(5, b"fishead\0" + bytes(56), *packets) + sounds.opus(sounds.comments())


def index(count: int, *points: bytes) -> bytes:
    return b"index\0" + (8).to_bytes(4, "little") + count.to_bytes(8, "little") + bytes(24) + b"".join(points)


@pytest.mark.parametrize(
    ("packet", "stays"),
    [
        (index(0), True),
        (index(1, b"\x81", b"\1\2\x83"), True),
        (index(2, b"\x81\x82\x83\x84"), True),
        (index(1, b"\1" * 8 + b"\x81", b"\x80"), True),
        (index(1, b"\1" * 9 + b"\x81", b"\x80"), False),
        (index(2, b"\x81\x82\x83"), False),
        (index(1, b"\x81\x82", CITY), False),
        (index(0, CITY), False),
        (index(1)[:30], False),
        (index(0)[:18] + PLACE.ljust(24, b"\0"), False),
        (b"fisbone\0" + bytes(44) + b"Role: audio", True),
        (b"fisbone\0" + bytes(44) + b"Where: " + PLACE, False),
        (b"fisbone\0" + PLACE.ljust(44, b"\0") + b"Role: audio", False),
        (b"fisbone\0" + bytes(44) + b"Content-Type: audio/opus\r\nRole: audio/main\r\nAltitude: 3\r\n", True),
        (b"fisbone\0" + bytes(44) + b"Role: audio\r\nName: one\r\nTitle: Quince\r\n", True),
        (b"fisbone\0" + bytes(44) + b"Role: audio\r\nLocation: " + CITY + b"\r\n", False),
        (b"fisbone\0" + bytes(44) + b"Role: audio\n" + CITY, False),
        (b"any\0", False),
        (b"", True),
    ],
)
def test_facts_about_streams_stay_if_they_are_numbers(packet, stays):
    data = skeleton(packet)
    out = redact(OGG, data)
    assert (out == data) is stays
    assert not place_in(out)


@pytest.mark.parametrize("name", [b"Title", b"Name"])
def test_the_name_of_a_stream_tells_people(name):
    data = skeleton(b"fisbone\0" + bytes(44) + b"Role: audio\r\n" + name + b": Quince\r\n")
    assert b"Quince" not in redact(OGG, data, Tells.PEOPLE)


@pytest.mark.parametrize("more", [bytes(16) + CITY, PLACE, bytes(30) + PLACE])
def test_the_head_of_facts_holds_numbers_only(more):
    data = sounds.pages(5, b"fishead\0" + bytes(56) + more) + sounds.opus(sounds.comments())
    assert not place_in(redact(OGG, data))
