"""Streams of pictures and of sound: their codec, and what is searched when."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.frame_table import Work
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, MPEG
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.mpeg import elementary
from policyfs.redact.mpeg.elementary import Sound, Video
from tests.support.samples import jpegs, mpegs
from tests.support.samples.mpegs import MPEG_PICTURE, NOTE, PICTURE, PLACE, USER_DATA
from tests.unit.test_redact_registry import cleaners

HEVC_PICTURE = mpegs.start(b"\x40\1\x0c") + mpegs.start(b"\x42\1\1") + mpegs.start(b"\x26\1slice")
HEAD = b"\0\0\1\xb3"
ENTRY = b"\0\0\1\0\2\0\2\0\0\0N\0"
"""A picture's start code, which is also the start of an entry of a GPS directory."""
SMALL = jpegs.plain(1, 8)
MPEG_4_PICTURE = b"\0\0\1\xb0\1\0\0\1\x20\0\xca" + USER_DATA + b"\0\0\1\xb6picture"


def video(data: bytes, codec: str = "") -> Video:
    source = MemorySource(data)
    found = Video(Edits(source, cleaners(), "x"), Work.on(source), codec)
    found.pieces.add(data, 0)
    return found


def cleaned(data: bytes, codec: str = "") -> bytes:
    one = video(data, codec)
    one.search(last=True)
    return apply(data, one.edits.found.patches)


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        *((NOTE + PICTURE, AVC.name), (MPEG_PICTURE + USER_DATA, MPEG.name), (MPEG_4_PICTURE, MPEG.name)),
        (mpegs.start(b"\x4e\1\5\x40" + PLACE * 4 + b"\x80") + HEVC_PICTURE, HEVC.name),
    ],
)
def test_messages_of_each_codec_go(data, codec):
    assert PLACE not in cleaned(data)
    assert PLACE not in cleaned(data, codec)
    assert cleaned(cleaned(data)) == cleaned(data)


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        *((PICTURE, MPEG.name), (MPEG_PICTURE, AVC.name), (HEVC_PICTURE, AVC.name), (PICTURE, HEVC.name)),
        *((b"no start", ""), (b"no start", AVC.name), (mpegs.SLICE, "")),
    ],
)
def test_another_codec_is_refused(data, codec):
    with pytest.raises(NotThisKindError):
        cleaned(data, codec)


def test_a_photo_with_a_place_among_the_units_is_refused():
    """Its cleaning could take start codes, by which a second look would find other units."""
    comment = jpegs.with_segments(SMALL, jpegs.segment(jpegs.COM, b"at " + PLACE))
    for data in (HEAD + ENTRY + SMALL, MPEG_PICTURE + comment):
        with pytest.raises(NotThisKindError, match="a picture of another sort"):
            cleaned(data)
    assert cleaned(HEAD + SMALL) == HEAD + SMALL


def test_nothing_is_searched_before_the_codec_is_sure():
    one = video(NOTE + PICTURE)
    one.search()
    assert len(one.pieces) == len(NOTE + PICTURE)
    video(b"").search(last=True)


def test_a_huge_picture_is_refused(monkeypatch):
    monkeypatch.setattr(elementary, "_FIRST_BYTES", 10)
    monkeypatch.setattr(elementary, "MAX_HELD_BYTES", 99)
    one = video(b"\0\0\1\x67" + b"x" * 100)
    with pytest.raises(TooMuchError):
        one.search()


def test_tags_across_two_searches_of_sound_are_found():
    tag = b"ID3\4\0\0\0\0\0\x20"
    for cut in (0, 3, len(tag)):
        sound = Sound(Edits(MemorySource(b""), cleaners(), "x"))
        sound.pieces.add(mpegs.SOUND * 60 + tag[:cut], 0)
        sound.search() if cut < len(tag) else None
        sound.pieces.add(tag[cut:] + bytes(40), 2000)
        with pytest.raises(NotThisKindError):
            sound.search(last=True)
