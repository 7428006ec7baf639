"""Boxes with a value for each sample: they end behind the last value, and hold no text."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.moof import Fragments
from policyfs.redact.isobmff.moov import clean_movie
from policyfs.redact.isobmff.tracks import Movie
from tests.support.samples.inners import Plain
from tests.support.samples.movies import box, full, handler, u16, u32

AT = 1000
"""The place of the movie box in its file."""
SECRET = b"secret words"
NONE = bytes(len(SECRET))


def clean(*boxes: bytes, hide: Tells = Tells.LOCATION) -> tuple[Movie, bytes]:
    """The movie, and what is in its box afterwards."""
    data = box(b"moov", *boxes)
    block = Block(data, AT, Plain(hide))
    movie = clean_movie(block, block.boxes(0, len(data)).boxes[0])
    out = apply(data, [patch.shifted(-AT) for patch in block.found.patches])
    assert len(out) == len(data)
    again = Block(out, AT, Plain(hide))
    clean_movie(again, again.boxes(0, len(out)).boxes[0])
    assert not again.found.patches
    return movie, out[8:]


def stbl(*boxes: bytes) -> bytes:
    return box(b"trak", box(b"mdia", handler(b"vide"), box(b"minf", box(b"stbl", *boxes))))


def in_stbl(made: bytes, *before: bytes) -> bytes:
    """What becomes of a box in a sample table."""
    out = clean(stbl(*before, made))[1]
    assert out[: -len(made)] == stbl(*before, made)[: -len(made)]
    return out[-len(made) :]


def in_traf(*boxes: bytes) -> bytes:
    """What becomes of boxes in a track fragment."""
    data = box(b"moof", box(b"traf", *boxes))
    block = Block(data, 0, Plain())
    Fragments({}, 1 << 20).read(block, block.boxes(0, len(data)).boxes[0])
    return apply(data, block.found.patches)[16:]


def free(made: bytes) -> bytes:
    return box(b"free", bytes(len(made) - 8))


def described(kind: bytes, *entries: bytes, version: int = 1, behind: bytes = b"") -> bytes:
    """A ``sgpd`` box; version 1: each description has its own length."""
    if version == 0:
        return full(b"sgpd", kind, u32(len(entries)), *entries, behind)
    own = [u32(len(entry)) + entry for entry in entries]
    index = u32(0) if version > 1 else b""
    return full(b"sgpd", kind, u32(0), index, u32(len(entries)), *own, behind, version=version)


@pytest.mark.parametrize(
    ("made", "stays"),
    [
        (full(b"sgpd", b"roll", u32(2, 1), u16(5), version=1), True),
        (full(b"sgpd", b"what", u32(2, 1), u16(5), version=1), False),
        (full(b"sgpd", b"roll", u32(18, 1), u16(5), b"by Rosa Quince.."), False),
        (described(b"roll", u16(5), u16(6)), True),
        (described(b"roll", u16(5), version=2), True),
        (described(b"roll", u16(5), version=0), True),
        (described(b"roll", SECRET), False),
        (described(b"rap ", b"\x80"), True),
        (described(b"rap ", b"\x80", version=0), True),
        (described(b"alst", u16(1, 0) + u32(1)), True),
        (described(b"alst", SECRET), False),
        (described(b"alst", u16(1, 0) + u32(1), version=0), False),
        (full(b"sgpd", b"alst", u32(0, 9, 1), b"\0\1", version=1), False),
        (full(b"sgpd", b"rap ", u32(0, 9), version=1), False),
        (full(b"sbgp", b"rap ", u32(0)), True),
        (full(b"sbgp", b"rap ", u32(1, 5, 1)), True),
        (full(b"sbgp", b"rap ", u32(9, 1, 5, 1), version=1), True),
        (full(b"sbgp", b"rap ", u32(0), version=1), False),
        (full(b"sbgp", b"rap "), False),
        (full(b"csgp", b"rap ", u32(1), b"\1\5\1"), False),
        (box(b"what", SECRET), False),
    ],
)
def test_groups_stay_if_they_are_sound(made: bytes, stays: bool) -> None:
    assert in_stbl(made) == (made if stays else free(made))
    assert in_traf(made) == (made if stays else free(made))


@pytest.mark.parametrize(
    "made",
    [
        full(b"sgpd", b"roll", u32(2, 1), u16(5), SECRET, version=1),
        described(b"roll", u16(5), version=0, behind=SECRET),
        full(b"sbgp", b"rap ", u32(1, 5, 1), SECRET),
        full(b"sbgp", b"rap ", u32(0, 1, 5, 1), SECRET, version=1),
    ],
)
def test_nothing_stays_behind_the_last_value(made: bytes) -> None:
    kept = made.replace(SECRET, NONE)
    assert in_stbl(made) == kept
    assert in_traf(made) == kept


@pytest.mark.parametrize("count", [0, 3])
def test_dependencies_have_a_byte_for_each_sample(count: int) -> None:
    values = b"\x10\x20\x24"[:count]
    made, kept = full(b"sdtp", values, SECRET), full(b"sdtp", values, NONE)
    for sizes in (full(b"stsz", u32(7, count)), full(b"stz2", u32(8, count), bytes(count))):
        assert in_stbl(made, sizes) == kept
        whole = stbl(made, sizes)
        assert clean(whole)[1] == whole.replace(made, kept)
    runs = [full(b"trun", u32(1))] * count
    assert in_traf(*runs, made) == b"".join(runs) + kept
    assert in_traf(made, *runs) == kept + b"".join(runs)
    assert in_stbl(made) == full(b"sdtp", bytes(count), NONE)
