"""Vorbis comments: which go, and which stay."""

from __future__ import annotations

import base64

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.tags.vorbis import clean_comments, clean_picture
from tests.support.samples import jpegs, sounds
from tests.support.samples.inners import PLACES
from tests.support.samples.sound_checks import (
    redact,
    texts,
)
from tests.support.samples.sounds import FLAC, PLACE


@pytest.mark.parametrize("padding", [b"", b"=", b"=="])
def test_a_cover_that_is_packed_with_too_much_padding_goes(padding):
    image = jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, PLACE))
    image += bytes(-len(image) % 3)
    cover = b"COVERART=" + base64.b64encode(image) + padding
    out = redact(FLAC, sounds.flac((4, sounds.comments(cover, b"TITLE=Quince"))), Tells.LOCATION)
    assert PLACE not in texts(out)
    assert (b"COVERART" in out) == (not padding)
    assert b"Quince" in out


@pytest.mark.parametrize("name", ["title", "Vorbis comments of two streams"])
def test_dates_in_titles_go_under_time(name):
    data = sounds.flac((4, sounds.comments(b"TITLE=" + name.encode(), b"ALBUM=Live, 17 May 2024")))
    out = redact(FLAC, data, Tells.TIME)
    assert name.encode() in out
    assert b"Live" not in out


@pytest.mark.parametrize("vendor", [b"reference libFLAC 1.3.2 20170101", b"Xiph.Org libVorbis I 20200704"])
def test_the_date_of_a_library_is_not_that_of_the_sound(vendor):
    data = sounds.flac((4, sounds.comments(vendor=vendor)))
    assert redact(FLAC, data, Tells.TIME) == data
    assert vendor not in redact(FLAC, data, Tells.DEVICE)


def test_comments_of_one_name_that_tell_a_place_together_go():
    """FFmpeg shows their values as one: 47.80453;13.04229."""
    data = sounds.flac((4, sounds.comments(b"TITLE=47.80453", b"ARTIST=Quince", b"Title=13.04229")))
    out = redact(FLAC, data)
    assert b"47.80453" not in out
    assert b"13.04229" not in out
    assert b"Quince" in out
    harmless = sounds.flac((4, sounds.comments(b"TITLE=47.80453", b"ARTIST=13.04229", b"ARTIST=Quince")))
    assert redact(FLAC, harmless) == harmless


def test_a_place_behind_the_name_of_a_library_goes():
    data = sounds.flac((4, sounds.comments(vendor=b"reference libFLAC 47.80453 13.04229")))
    assert b"47.80453" not in redact(FLAC, data)


def listed(*sizes_and_texts: tuple[int, bytes], vendor: int = 0, count: int | None = None) -> bytes:
    """A list whose lengths may lie."""
    count = len(sizes_and_texts) if count is None else count
    out = vendor.to_bytes(4, "little") + count.to_bytes(4, "little")
    return out + b"".join(size.to_bytes(4, "little") + text for size, text in sizes_and_texts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\0\0\0\0",
        listed(vendor=1),
        listed((8, b"TITLE=a")),
        listed((7, b"TITLE=a"), count=2),
        listed((7, b"TITLE=a"), (0, b""), count=3),
        listed(count=10_001),
        listed(count=0xFFFFFFFF),
    ],
)
def test_a_list_whose_lengths_are_wrong_is_none(data):
    assert clean_comments(data, PLACES) is None


def test_the_bytes_read_end_with_the_last_comment():
    data = listed((7, b"TITLE=a"), (0, b"")) + b"behind"
    found = clean_comments(data, PLACES)
    assert found is not None
    assert found.read == len(data) - 6
    assert found.kept == listed((7, b"TITLE=a"))  # a comment without a name goes
    assert [note.offset for note in found.notes] == [len(data) - 6]
    assert clean_comments(listed(), PLACES).kept == listed()


def test_bytes_behind_a_picture_become_zeros_and_the_picture_stays():
    block = sounds.picture_block(b"picture", b"about")
    assert clean_picture(block + b"\0", PLACES) == Cleaned(block + b"\0")
    cleaned = clean_picture(block + PLACE, PLACES)
    assert cleaned.data == block + bytes(len(PLACE))
    assert [(note.offset, note.broken) for note in cleaned.notes] == [(len(block), True)]


def test_pictures_are_as_long_as_they_say():
    block = sounds.picture_block(b"picture", b"about")
    assert clean_picture(block, PLACES) is not None
    for broken in (block[:-1], block[:30], b"", block.replace(b"image/jpeg", b"im age/jpg")):
        assert clean_picture(broken, PLACES) is None
    assert clean_picture(sounds.picture_block(b"picture", PLACE), PLACES).data == sounds.picture_block(
        b"picture", b" " * len(PLACE)
    )
