"""Damaged and hostile movies: redaction never fails, never grows a file, and is done in one go."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.categories import WORDS, hidden_by
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.registry import locate_in
from tests.support.machine.counts import PATIENCE, count
from tests.support.samples.movies import SEEDS

quick = settings(max_examples=count(400, 20_000), deadline=None)
PIECES = [
    *(kind.encode("latin-1") for kind in ("moov", "trak", "mdat", "udta", "meta", "uuid", "stsz", "moof")),
    b"\0\0\0\0",
    b"\0\0\0\1",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x08",
    b"avc1",
    b"gpmd",
]

edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "repeat", "insert", "truncate", "size", "piece"]),
        st.binary(min_size=1, max_size=4),
        st.sampled_from(PIECES),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents."""
    out = bytearray(data)
    for where, kind, some, piece, size in changes:
        at = int(where * max(1, len(out)))
        if kind == "flip":
            out[at : at + len(some)] = some[: len(out) - at]
        elif kind == "size":  # of a box, where types of boxes are
            at = max(4, at)
            while at < len(out) - 4 and not out[at : at + 4].isalpha():
                at += 1
            out[at - 4 : at] = (size if size % 2 else size << 24).to_bytes(4)
        elif kind == "piece":
            out[at & ~3 : (at & ~3) + 4] = piece[: len(out) - at]
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "repeat":
            out[at:at] = out[at : at + size]
        elif kind == "insert":
            out[at:at] = piece
        elif size % 4 == 0:
            del out[at:]
    return bytes(out)


def check(data: bytes, word: str) -> None:
    """What must hold for any bytes at all."""
    hide = hidden_by([word])
    begin = time.thread_time()
    try:
        found = locate_in("video/mp4", MemorySource(data), hide)
    except (NotThisKindError, TooMuchError):
        return
    finally:
        assert time.thread_time() - begin < PATIENCE
    out = apply(data, in_order(found.patches, len(data)))
    assert len(out) == len(data)
    assert bool(found.patches) == bool(found.notes)
    again = locate_in("video/mp4", MemorySource(out), hide)
    left = apply(out, in_order(again.patches, len(out)))
    assert left == out, (again.notes, list(again.patches)[:5])
    assert not again.patches, again.patches[:5]


@quick
@given(st.sampled_from(SEEDS), st.sampled_from([*WORDS]), edits)
def test_damaged_movies(data, word, changes):
    check(damage(data, changes), word)


@settings(max_examples=count(150, 5000), deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"moov", b"mdat", b"ftyp", b"free"]))
def test_bytes_that_start_like_a_movie(data, kind):
    check((len(data) + 8).to_bytes(4) + kind + data, "location")
    check(SEEDS[0] + data, "device")
