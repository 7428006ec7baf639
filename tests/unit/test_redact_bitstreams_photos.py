"""Frames that are whole pictures, apart from any container and in each of them."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams import photos as module
from policyfs.redact.bitstreams.frames import Frame
from policyfs.redact.bitstreams.photos import clean_photo, holds_metadata
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import matroskas as mk
from tests.support.samples.inners import Plain
from tests.support.samples.jpegs import exif, exif_segment, plain, with_segments
from tests.support.samples.matroskas import block, cluster, film
from tests.support.samples.movies import Track, fragmented, movie
from tests.support.samples.redacted import redacted
from tests.support.samples.sounds import AVI, chunk

CITY = b"Zirbelstadt"
PHOTO = with_segments(plain(), exif_segment(exif("MM")))
HEAD = b"\xff\xd8\xff"
MARK = b"PLACE"
JPEG = HEAD + b"\xc0\0\x03x\xff\xda"
"""The segments of a JPEG up to its scan."""


class Photos(Plain):
    """Takes the place out of each photo, and counts the photos; understands no photo with BROKEN in it."""

    note: tuple[Note, ...] = ()
    count = 0

    def image(self, data: bytes) -> Cleaned | None:
        self.count += 1
        return None if b"BROKEN" in data else Cleaned(data.replace(MARK, b"     "), self.note)


def cleaned(data: bytes, photos: Photos, lead: bytes = b"") -> bytes:
    return apply(data, clean_photo(MemorySource(data), Frame(0, len(data), lead), photos).patches)


def test_notes_are_those_of_the_picture() -> None:
    photos = Photos()
    photos.note = (Note(4, 1, "EXIF", "x", Tells.DEVICE),)
    data = b"\0\0" + JPEG + MARK
    assert clean_photo(MemorySource(data), Frame(0, len(data)), photos).notes[0].offset == 6


def test_a_picture_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PHOTO_BYTES", 9)
    with pytest.raises(TooMuchError):
        cleaned(JPEG + MARK, Photos())
    assert cleaned(b"frame " + MARK, Photos()) == b"frame " + MARK


def test_frames_that_begin_like_no_picture_are_not_read() -> None:
    photos = Photos()
    assert MARK in cleaned(b"frame " + MARK, photos)
    assert photos.count == 0


def test_a_frame_behind_a_lead() -> None:
    assert MARK not in cleaned(b"\xff" + MARK, Photos(), HEAD[:2])
    with pytest.raises(NotThisKindError):
        cleaned(b"ACE", Photos(), HEAD + b"PL")


def test_a_picture_that_is_not_understood_is_refused_if_it_has_metadata() -> None:
    assert cleaned(HEAD + b"BROKEN", Photos()) == HEAD + b"BROKEN"
    with pytest.raises(NotThisKindError):
        cleaned(HEAD + b"BROKEN Exif\0\0", Photos())
    with pytest.raises(NotThisKindError):
        cleaned(HEAD + b"\xfe\0\x09BROKEN ", Photos())
    assert not holds_metadata(MemorySource(b"frame eXIf"), 0, 10)
    assert holds_metadata(MemorySource(HEAD + b"eXIf"), 0, 7)


@pytest.mark.parametrize("lead", [b"\0", b"\xff", bytes(1000), HEAD + bytes(70_000)])
def test_bytes_before_a_jpeg_are_skipped_as_decoders_skip_them(lead: bytes) -> None:
    assert cleaned(lead + JPEG + MARK, Photos()) == lead + JPEG + b"     "


def test_a_jpeg_behind_other_bytes_that_is_none_once_it_is_cleaned_is_refused() -> None:
    """With a broken scan, only its cleaned metadata stays: a second look would find no picture there."""
    photo = plain()
    at = photo.index(b"\xff\xda") + 4
    broken = with_segments(photo[:at] + b"\x7f" + photo[at + 1 :], exif_segment(exif("MM")))
    plan = locate(AVI, frozenset({"people"}), MemorySource(avi([b"lead" + broken])))
    assert (plan.outcome, plan.patches) == (Outcome.REFUSE, ())
    assert "not understood" in plan.reason


@pytest.mark.parametrize("head", [b"\xff\xd8\0\xff\xe1", b"\xff\xe1", bytes(2000) + HEAD + b"\xe1"])
def test_metadata_of_a_jpeg_in_a_frame_without_its_start_is_refused(head: bytes) -> None:
    """FFmpeg searches for the next marker, so it reads EXIF also there."""
    with pytest.raises(NotThisKindError):
        cleaned(head + b"\0\x30Exif\0\0", Photos())


def test_coded_bytes_that_begin_like_a_jpeg_by_chance_stay() -> None:
    for data in (b"x" + HEAD + b"\xe1" + MARK, b"\0\0\1" + JPEG[:-2] + MARK, b"x" + HEAD + b"\xda" + MARK):
        assert cleaned(data, Photos()) == data


def test_marks_are_found_in_the_whole_frame() -> None:
    for at in (0, 70_000, CHUNK_BYTES - 3, 2 * CHUNK_BYTES):
        data = bytes(at) + b"ns.adobe.com/"
        assert holds_metadata(MemorySource(data), 0, len(data))


def avi(frames: list[bytes], code: bytes = b"MJPG") -> bytes:
    header, form = chunk(b"strh", b"vids" + code + bytes(48)), chunk(b"strf", bytes(16) + code + bytes(20))
    headers = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + chunk(b"LIST", b"strl" + header + form))
    rest = chunk(b"LIST", b"movi" + b"".join(chunk(b"00dc", frame) for frame in frames))
    return b"RIFF" + (len(headers + rest) + 4).to_bytes(4, "little") + b"AVI " + headers + rest


def mkv(frames: list[bytes], *more: bytes) -> bytes:
    return film(cluster(*(block(1, f) for f in frames)), tracks=mk.track(1, 1, b"V_MJPEG", *more))


HIDING = [
    (AVI, avi([PHOTO] * 3)),
    (AVI, avi([PHOTO] * 2, b"TIFF")),
    ("video/x-matroska", mkv([PHOTO] * 3)),
    ("video/mp4", movie(Track(format=b"mp4v", samples=[PHOTO] * 3))),
    ("video/quicktime", movie(Track(format=b"jpeg", samples=[PHOTO] * 3))),
]


@pytest.mark.parametrize(("kind", "data"), HIDING)
def test_places_in_frames_go_in_each_container(kind: str, data: bytes) -> None:
    assert CITY in data
    out = redacted(kind, data)
    assert CITY not in out
    assert out.count(plain()[-40:]) == data.count(plain()[-40:])


def test_frames_without_metadata_stay() -> None:
    for kind, data in ((AVI, avi([plain()] * 3)), ("video/x-matroska", mkv([plain()] * 3))):
        assert redacted(kind, data) == data


def test_photos_in_fragments_are_cleaned() -> None:
    data = fragmented(0x20000, entry=(b"jpeg", b""), telemetry=b"x", samples=(PHOTO, PHOTO))
    assert CITY not in redacted("video/mp4", data)


def test_the_search_for_a_jpeg_in_a_frame_takes_no_longer_than_allowed() -> None:
    chain = b"\xff\xe1\0\x08\xff\xd8\xff\xe1\0\x02"
    with pytest.raises(TooMuchError):
        cleaned(b"x\xff\xd8" + chain * 2000, Photos())
