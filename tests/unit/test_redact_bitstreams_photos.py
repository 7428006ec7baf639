"""Frames that are whole pictures: which are cleaned, apart from any container and in each of them."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.frames import Frame
from policyfs.redact.bitstreams.photos import FEW, MAX_PHOTOS, clean_photos, holds_metadata
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply
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


class Photos(Plain):
    """Takes the place out of each photo, and counts the photos; understands no photo with BROKEN in it."""

    note: tuple[Note, ...] = ()
    count = 0

    def image(self, data: bytes) -> Cleaned | None:
        self.count += 1
        return None if b"BROKEN" in data else Cleaned(data.replace(MARK, b"     "), self.note)


class Row:
    """Frames one behind the other; those at `tried` are tried."""

    def __init__(self, *frames: bytes, tried: int = 1, lead: bytes = b"") -> None:
        self.data = b"".join(frames)
        ends = [sum(map(len, frames[: n + 1])) for n in range(len(frames))]
        self.frames = [Frame(end - len(f), len(f), lead) for f, end in zip(frames, ends, strict=True)]
        self.first = tried

    def tried(self) -> list[Frame]:
        return self.frames[: self.first]

    def each(self) -> list[Frame]:
        return self.frames

    def others(self, *, keys: bool) -> list[Frame]:
        raise AssertionError


def cleaned(row: Row, photos: Photos) -> bytes:
    return apply(row.data, clean_photos(row, MemorySource(row.data), photos).patches)


@pytest.mark.parametrize(
    ("count", "first", "read"),
    [(FEW, b"", FEW), (FEW + 1, b"", 1), (FEW + 1, MARK, FEW + 1), (MAX_PHOTOS, MARK, MAX_PHOTOS)],
)
def test_all_frames_of_a_slide_show_are_read_and_of_a_film_if_one_has_metadata(
    count: int, first: bytes, read: int
) -> None:
    photos, row = Photos(), Row(HEAD + first, *[HEAD + MARK] * (count - 1))
    out = cleaned(row, photos)
    assert photos.count == read
    assert (MARK in out) is (read < count)


def test_a_film_of_too_many_photos_with_metadata_is_refused() -> None:
    with pytest.raises(TooMuchError):
        cleaned(Row(*[HEAD + MARK] * (MAX_PHOTOS + 1)), Photos())


@pytest.mark.parametrize(
    ("container", "tells", "goes"),
    [
        ("COM", Tells.DEVICE | Tells.PEOPLE, False),
        ("COM", Tells.LOCATION | Tells.PEOPLE, True),
        ("EXIF", Tells.DEVICE, True),
    ],
)
def test_comments_with_no_place_and_no_time_stay_in_a_film(container: str, tells: Tells, goes: bool) -> None:
    photos = Photos()
    photos.note = (Note(0, 1, container, "x", tells),)
    out = cleaned(Row(*[HEAD + MARK] * (FEW + 1)), photos)
    assert out.count(MARK) == (0 if goes else FEW + 1)
    assert MARK not in cleaned(Row(*[HEAD + MARK] * FEW), photos)


def test_frames_that_begin_like_no_picture_are_not_read() -> None:
    photos = Photos()
    assert MARK in cleaned(Row(b"frame " + MARK), photos)
    assert photos.count == 0


def test_a_frame_behind_a_lead() -> None:
    assert MARK not in cleaned(Row(b"\xff" + MARK, lead=HEAD[:2]), Photos())
    with pytest.raises(NotThisKindError):
        cleaned(Row(b"ACE", lead=HEAD + b"PL"), Photos())


def test_a_picture_that_is_not_understood_is_refused_if_it_has_metadata() -> None:
    assert cleaned(Row(HEAD + b"BROKEN"), Photos()) == HEAD + b"BROKEN"
    with pytest.raises(NotThisKindError):
        cleaned(Row(HEAD + b"BROKEN Exif\0\0"), Photos())
    assert not holds_metadata(MemorySource(b"frame eXIf"), 0, 10)
    assert holds_metadata(MemorySource(HEAD + b"eXIf"), 0, 7)


@pytest.mark.parametrize("lead", [b"\0", b"\xff", bytes(1000)])
def test_bytes_before_a_jpeg_are_skipped_as_decoders_skip_them(lead: bytes) -> None:
    assert cleaned(Row(lead + HEAD + b"\xe1" + MARK), Photos()) == lead + HEAD + b"\xe1     "


@pytest.mark.parametrize("head", [b"\xff\xd8\0\xff\xe1", b"\xff\xe1", bytes(2000) + HEAD])
def test_metadata_of_a_jpeg_in_a_frame_without_its_start_is_refused(head: bytes) -> None:
    """FFmpeg searches for the next marker, so it reads EXIF also there."""
    with pytest.raises(NotThisKindError):
        cleaned(Row(head + b"\0\x30Exif\0\0"), Photos())


def test_a_frame_that_begins_where_a_shorter_one_does() -> None:
    row = Row(HEAD + b"\xe1" + MARK)
    row.frames.insert(0, Frame(0, 3))
    assert MARK not in cleaned(row, Photos())


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


def test_photos_in_fragments_are_refused_if_they_have_metadata() -> None:
    data = fragmented(0x20000, entry=(b"jpeg", b""), samples=(PHOTO, PHOTO))
    plan = locate("video/mp4", frozenset({"location"}), MemorySource(data))
    assert (plan.outcome, "fragments" in plan.reason) == (Outcome.REFUSE, True)
