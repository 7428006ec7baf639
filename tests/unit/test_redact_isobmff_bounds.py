"""Boxes of movies that are too short: nothing is judged by bytes behind their ends, which may change."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource, PatchedSource, apply, in_order
from policyfs.redact.registry import locate_in
from tests.support.samples.movies import AVCC, CITY, SAMPLE, Track, box, fragmented, full, movie, u32


def read(file: bytes, *words: str) -> bytes:
    """What a reader gets, in which nothing is found again."""
    hide = hidden_by(words or ("location",))
    patches = in_order(locate_in("video/mp4", MemorySource(file), hide).patches, len(file))
    out = apply(file, patches)
    patched = PatchedSource(MemorySource(file), patches)
    assert patched.read(0, len(file) + 1) == out
    assert [patched.read(at, 7) for at in range(0, len(out), 7)] == [
        out[at : at + 7] for at in range(0, len(out), 7)
    ]
    assert not locate_in("video/mp4", MemorySource(out), hide).patches
    return out


def test_who_made_a_list_of_items_is_said_within_its_handler():
    """What follows begins as the word goes on, and becomes the size of a free box."""
    short = box(b"hdlr", bytes(8) + b"mdira")
    out = read(movie(moov=box(b"meta", bytes(4) + short + b"ppl\0\0\0\0 junk " + CITY)), "device")
    assert b"mdira" not in out
    assert CITY not in out


def test_an_empty_list_of_groups_at_the_end_of_the_index_is_removed():
    assert b"sbgp" not in read(movie(Track(table=box(b"sbgp"))))


def test_the_end_of_sound_parameters_lies_within_them():
    wave = box(b"wave", box(b"frma", b"test") + b"\0\0\0\x08")
    assert CITY not in read(movie(Track(b"soun", entry=wave + b"\0\0\0\0" + CITY)))


@pytest.mark.parametrize(("kind", "flags"), [(b"tfhd", 0x10), (b"trun", 1)])
def test_where_the_samples_of_a_fragment_lie_is_said_within_its_boxes(kind, flags):
    file = fragmented(0x20000)
    at = file.index(kind) - 4
    size = int.from_bytes(file[at : at + 4])
    short = full(kind, u32(1), flags=flags) + box(b"free", bytes(max(0, size - 24)))
    out = read(file[:at] + short[:size] + file[at + size :])
    assert CITY not in out
    assert kind not in out[at : at + size]
    assert SAMPLE not in out


def moved(file: bytes, number: int, place: int, size: int) -> bytes:
    """Another place and size for the sample of a track of one sample (by number in the file, from 0)."""
    at = [found for found in range(len(file)) if file.startswith((b"stco", b"stsz"), found)]
    sizes, offsets = at[2 * number : 2 * number + 2]
    file = file[: sizes + 8] + u32(0, 1, size) + file[sizes + 20 :]
    return file[: offsets + 12] + u32(place) + file[offsets + 16 :]


def refused(file: bytes, word: str) -> bool:
    try:
        locate_in("video/mp4", MemorySource(file), hidden_by([word]))
    except NotThisKindError:
        return True
    return False


def test_text_in_what_changes_is_refused():
    """It would be another text, or none."""
    file = movie(Track(samples=(SAMPLE,)), Track(b"sbtl", b"stpp", (b"some",), number=2))
    file = moved(file, 1, file.index(b"mvhd") + 8, 4)
    read(file, "device")
    assert refused(file, "time")


def test_frames_in_what_changes_are_refused():
    """An unknown box becomes free space, whose name reads as a message; what is in it is no message yet."""
    behind = box(b"abcd", bytes(100) + b"\5\x30" + bytes(16) + CITY * 3) + box(b"free", bytes(8))
    frame = u32(9) + b"\x65slice123"
    file = movie(Track(format=b"avc1", entry=AVCC, samples=(frame,)), after=behind)
    start, to = file.index(frame), file.index(behind)
    file = moved(file[:start] + u32(to - start - 4) + file[start + 4 :], 0, start, len(file) - start)
    assert refused(file, "location")
