"""The search of all frames of a film: nothing is concluded from some of them."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace

import pytest

from policyfs.domain import DENY_UNKNOWN
from policyfs.redact.bitstreams import frame_table
from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.frame_table import (
    FrameForm,
    FrameLooks,
    FrameTable,
    Work,
    check_count,
    form_of,
    look,
    merged,
    table_of,
)
from policyfs.redact.bitstreams.nal_units import AVC, MPEG
from policyfs.redact.core import cleaners
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import Cleaned, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource, apply
from policyfs.redact.plan import Outcome, locate, look_at
from tests.redaction.planted_films import avi_of
from tests.support.samples import matroskas
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.jpegs import exif, exif_segment, leaks, plain, segment, with_segments
from tests.support.samples.movies import AVCC, CITY, PLACE, SLICE, Track, fragmented, movie, sei
from tests.unit.test_redact_registry import cleaners as real_cleaners

UUID = bytes(range(16, 32))
X264 = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")
MESSAGE = sei(5, UUID + CITY) + SLICE
CODED = form_of(Framing(AVC, 4))
PHOTO = plain(size=16)
PHOTOS = [
    *(PHOTO, with_segments(PHOTO, exif_segment(exif("MM")))),
    *(
        with_segments(PHOTO, segment(0xFE, text))
        for text in (b"Lavc60.31.102", PLACE, b"2024-05-06 07:08:09")
    ),
]
MPEG_FRAME = b"\0\0\1\xb3\1\2\3\0\0\1\xb2%b\0\0\1\0slice123"


def film(*frames: bytes, form: FrameForm = CODED, between: bytes = b"") -> tuple[bytes, FrameTable]:
    """Frames one behind the other, and their table."""
    data, starts = bytearray(), array("Q")
    for frame in frames:
        data += between
        starts.append(len(data))
        data += frame
    ends = array("Q", [at + len(frame) for at, frame in zip(starts, frames, strict=True)])
    return bytes(data), table_of(starts, ends, array("H", bytes(2 * len(frames))), (form,))


def cleaned(data: bytes, table: FrameTable) -> bytes:
    return apply(data, look(table, MemorySource(data), PLACES).patches)


@pytest.mark.parametrize("between", [b"", bytes(5000)])
def test_each_frame_is_searched(between: bytes) -> None:
    frames = [MESSAGE if number % 7 == 3 else SLICE for number in range(2000)]
    data, table = film(*frames, between=between)
    out = cleaned(data, table)
    assert CITY not in out
    assert out.count(SLICE) == 2000


def test_a_large_frame_and_frames_at_every_end_of_a_chunk() -> None:
    large = [(size).to_bytes(4) + b"\x65" + bytes(size - 1) for size in (CHUNK_BYTES - 50, 1 << 20, 9 << 20)]
    for first in large:
        for more in (0, 1, 40):
            data, table = film(first + MESSAGE, MESSAGE, bytes(more) + SLICE, MESSAGE)
            assert CITY not in cleaned(data, table)


def test_more_suspects_in_a_chunk_than_are_found_at_once() -> None:
    data, table = film(*[MESSAGE] * 10_000)
    assert CITY not in cleaned(data, table)


def test_a_frame_outside_of_the_bytes_is_an_error() -> None:
    data, table = film(SLICE, MESSAGE)
    with pytest.raises(ValueError, match="outside"):
        look(table, MemorySource(data[:-1]), PLACES)
    assert not look(FrameTable(), MemorySource(b""), PLACES).patches


def test_tables_of_several_tracks_become_one() -> None:
    (data, one), (_, other) = film(MESSAGE, SLICE, between=MESSAGE), film(SLICE, form=form_of(None))
    table = merged([one, other, one.shifted(0)])
    assert table.starts.tolist() == [0, len(MESSAGE), 3 * len(MESSAGE)]
    assert [table.forms[track].codec for track in table.tracks] == ["pictures", "H.264", "H.264"]
    assert CITY in cleaned(data, table)


def test_too_many_frames_are_refused() -> None:
    check_count(1 << 22)
    with pytest.raises(TooMuchError, match="4,194,304"):
        check_count((1 << 22) + 1)


def test_frames_that_overlap_too_often_are_refused_before_they_are_read() -> None:
    size = 1 << 20
    starts = array("Q", range(20))
    table = FrameTable(starts, array("Q", [at + size - 20 for at in starts]), array("H", bytes(40)), (CODED,))
    with pytest.raises(TooMuchError, match="overlap"):
        look(table, MemorySource(bytes(size)), PLACES)


def test_the_work_grows_with_the_size_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_table, "MAX_PARTS", 1000)
    monkeypatch.setattr(cleaners, "MAX_PARTS", 1000)
    data, table = film(*[MESSAGE] * 2000)
    with pytest.raises(TooMuchError, match="too many messages"):
        cleaned(data, table)
    large, table = film(*[MESSAGE] * 2000, between=bytes(500))
    assert CITY not in cleaned(large, table)
    looks = FrameLooks(MemorySource(data), PLACES)
    form = looks.form(CODED)
    with pytest.raises(TooMuchError, match="too many messages"):
        for at in range(0, len(data), len(MESSAGE)):
            looks.add(at, at + len(MESSAGE), form)
            looks.finish()
    assert Work.on(MemorySource(data)).left == 1000 + len(data) // 128


def test_frames_as_a_walk_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_table, "_BATCH", 10)
    data = MESSAGE * 99
    looks = FrameLooks(MemorySource(data), PLACES)
    form = looks.form(CODED)
    for at in range(0, len(data), len(MESSAGE)):
        looks.add(at, at + 2 * len(MESSAGE) if at + len(MESSAGE) == len(data) else at + len(MESSAGE), form)
    assert CITY in apply(data, looks.found.patches)
    looks.finish()
    assert CITY not in apply(data, looks.found.patches)


def test_few_notes_are_kept_of_each_sort() -> None:
    data, table = film(*[MESSAGE, sei(5, X264 + CITY) + SLICE] * 600)
    notes = look(table, MemorySource(data), Plain(hidden_by(["location", "device"]))).notes
    assert len(notes) == 1000


def test_the_budget_of_the_file_is_as_before() -> None:
    inner = Plain()
    before = replace(inner.budget)
    data, table = film(*[MESSAGE] * 9)
    look(table, MemorySource(data), inner)
    assert replace(inner.budget, told=before.told) == before


# --- windows ---


def windows(words: frozenset[str], source: MemorySource, table: FrameTable, size: int) -> list:
    """The patches of all windows: each has the frames with a byte in the next `size` bytes."""
    patches = {}
    for at in range(0, source.size, size):
        some = table.overlapping(at, at + size)
        if not some.starts:
            continue
        first, last = min(some.starts), max(some.ends)
        window = MemorySource(source.read(first, last - first))
        plan = look_at(some.shifted(-first), words, window)
        assert plan.outcome is not Outcome.REFUSE, plan.reason
        patches |= dict.fromkeys(patch.shifted(first) for patch in plan.patches)
    return sorted(patches, key=lambda patch: patch.offset)


class Restless(Plain):
    """Changes every photo."""

    def image(self, data: bytes) -> Cleaned | None:
        return Cleaned(data[:-1] + b"!")


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_photo_behind_units_is_looked_at_as_these_are_left(photo: bytes) -> None:
    data, table = film(MPEG_FRAME % PLACE + photo, form=form_of(Framing(MPEG, 0)))
    out = apply(data, look(table, MemorySource(data), real_cleaners()).patches)
    assert PLACE not in out
    assert not look(table, MemorySource(out), real_cleaners()).patches


def test_a_frame_of_two_sorts_that_both_change_is_refused() -> None:
    data, table = film(MPEG_FRAME % PLACE + PHOTOS[0], form=form_of(Framing(MPEG, 0)))
    with pytest.raises(NotThisKindError, match="another sort"):
        look(table, MemorySource(data), Restless(PLACES.hide))


TEXTS = [X264 + b"x264 %d " % number + b"threads=4 " * 20 for number in range(90)]
FILMS = {
    "H.264": (AVCC, b"avc1", [SLICE, MESSAGE, sei(5, X264 + CITY) + SLICE, sei(5, X264 + PLACE) + SLICE]),
    "many texts": (AVCC, b"avc1", [sei(5, text[:250]) + SLICE for text in TEXTS]),
    "MPEG": (b"", b"mp4v", [MPEG_FRAME % text for text in (b"", CITY, b"MPEG encoder 5", PLACE)]),
    "photos": (b"", b"jpeg", PHOTOS),
    "no pictures": (b"", b"what", [b"frame of a codec", b"another"]),
}


@pytest.mark.parametrize("words", [{"location"}, {"device"}, {"all-metadata"}, {"time", DENY_UNKNOWN}])
@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("in_fragments", [False, True])
def test_all_windows_together_are_the_whole_look(name: str, words: set[str], in_fragments: bool) -> None:
    entry, code, frames = FILMS[name]
    pick = random.Random(name)
    pictures = Track(format=code, entry=entry, samples=pick.choices(frames, k=90), per_chunk=7)
    sound = Track(kind=b"soun", format=b"snd ", samples=[b"sound" * 9] * 40, number=2)
    if in_fragments:
        data = fragmented(0x20000, telemetry=b"", entry=(code, entry), samples=pictures.samples)
    else:
        data = movie(pictures, sound) if name == "photos" else movie(pictures, sound, between=bytes(8))
    source, hide = MemorySource(data), frozenset(words)
    whole = locate("video/mp4", hide, source)
    later = locate("video/mp4", hide, source, frames_later=True)
    assert whole.outcome is not Outcome.REFUSE, whole.reason
    assert whole.frames is None
    assert later.frames is not None
    assert later.outcome is Outcome.PATCH
    for size in (100, 4096, len(data)):
        found = windows(hide, source, FrameTable.unpack(later.frames.pack()), size)
        together = sorted((*later.patches, *found), key=lambda patch: patch.offset)
        assert apply(data, together) == apply(data, whole.patches)
        assert tuple(together) == whole.patches


def test_no_byte_of_a_frame_is_read_if_frames_are_searched_later() -> None:
    class Watched(MemorySource):
        def read(self, offset: int, size: int, /) -> bytes:
            data = super().read(offset, size)
            assert SLICE not in data
            return data

    frames = [bytes(5000), *[MESSAGE] * 50]  # the index of an AVI is read in blocks
    tracks = matroskas.track(1, 1, b"V_MPEG4/ISO/AVC", matroskas.el(0x63A2, AVCC[8:]))
    clusters = [matroskas.cluster(*[matroskas.block(1, frame) for frame in frames])]
    for kind, data in (
        ("video/mp4", movie(Track(format=b"avc1", entry=AVCC, samples=frames, per_chunk=10))),
        ("video/x-matroska", matroskas.film(*clusters, tracks=tracks)),
        ("video/x-msvideo", avi_of(frames, b"H264")),
    ):
        plan = locate(kind, frozenset({"location"}), Watched(data), frames_later=True)
        assert plan.frames is not None, plan.reason
        assert len(plan.frames) == 51


def test_what_cannot_be_searched_later_is_searched_now() -> None:
    two = bytearray(movie(Track(format=b"avc1", entry=AVCC, samples=[MESSAGE, MESSAGE + SLICE])))
    at = two.index(b"stco") + 16
    two[at : at + 4] = (int.from_bytes(two[at - 4 : at]) + len(MESSAGE) - len(SLICE)).to_bytes(4)
    for data in (bytes(two), movie(Track(kind=b"soun", format=b"snd "))):
        plan = locate("video/mp4", frozenset({"location"}), MemorySource(data), frames_later=True)
        assert plan.frames is None
    assert (
        locate("image/jpeg", frozenset({"location"}), MemorySource(PHOTO), frames_later=True).frames is None
    )


def test_a_window_that_cannot_be_searched_is_refused() -> None:
    data, table = film(SLICE)
    for words in ((), ("faces",)):
        assert look_at(table, frozenset(words), MemorySource(data)).outcome is Outcome.REFUSE
    assert look_at(table, frozenset({"time"}), MemorySource(b"")).outcome is Outcome.REFUSE
    broken, table = film(b"\xff\xd8\xff Exif\0\0", form=form_of(None))
    plan = look_at(table, frozenset({"time"}), MemorySource(broken))
    assert (plan.outcome, plan.reason) == (Outcome.REFUSE, "a picture among its frames is not understood")
    assert leaks(PHOTOS[1])
    assert form_of(Framing(MPEG, 0)) == FrameForm("MPEG")
