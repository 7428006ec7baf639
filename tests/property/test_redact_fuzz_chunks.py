"""Damaged stills and sound made of chunks: redaction never fails, stays within the file, is done in
one go, and takes no longer than a moment.
"""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.categories import WORDS
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import PATIENCE, count
from tests.support.samples import sounds
from tests.unit.test_redact_images_bmp import BMP, CITY, DIB, ICO, bmp, header, icon
from tests.unit.test_redact_images_gif import GIF_HIDING
from tests.unit.test_redact_images_png import HIDING, pngs
from tests.unit.test_redact_images_webp import WEBP_HIDING, webp

BITMAPS = {
    BMP: lambda city: bmp(header(124), city, city),
    ICO: lambda city: icon(DIB + city, pngs.plain(pngs.text("Location", city.decode())), gap=city),
}
SEEDS = [
    *(("image/png", pngs.plain(chunk, after=chunk)) for chunk in HIDING.values()),
    *(("image/webp", webp(*parts, flags=0x0C)) for parts in WEBP_HIDING.values()),
    *(("image/gif", data) for data in GIF_HIDING.values()),
    *((kind, make()) for kind, make in sounds.CASES.values()),
    *sounds.PLAIN.values(),
    *((kind, make(CITY)) for kind, make in BITMAPS.items()),
    ("audio/aac", b"\xff\xf1\x50\x80\x02\x1f\xfc" * 20),
    ("audio/amr", b"#!AMR\n" + (b"\x3c" + b"x" * 31) * 3),
]
MARKS = [
    *(b"IDAT", b"IEND", b"tEXt", b"EXIF", b"!\xff\x0b", b"\xff\xff\xff\xff"),
    *(b"ID3\3\0\0\0\0\0\x20", b"APETAGEX", b"TAG", b"LYRICS200", b"LYRICSBEGIN", b"\xff\xfb\x90\0"),
    *(b"OggS\0", b"fLaC", b"LIST", b"RIFF", b"JUNK"),
]
DEADLINE_S = 1.0 * PATIENCE
"""Of this thread's own time: other processes of the machine do not count."""

edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "repeat", "insert", "truncate", "word", "word"]),
        st.binary(min_size=1, max_size=4),
        st.sampled_from(MARKS),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=5,
)
words = st.sampled_from([*WORDS])


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents."""
    out = bytearray(data)
    for where, kind, some, mark, size in changes:
        at = int(where * max(1, len(out)))
        if kind == "flip":
            out[at : at + len(some)] = some[: len(out) - at]
        elif kind == "word":
            number = size if size % 5 else 0xFFFFFFFF
            out[at : at + 4] = struct.pack(">I" if size % 2 else "<I", number)[: len(out) - at]
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "repeat":
            out[at:at] = out[at : at + size]
        elif kind == "insert":
            out[at:at] = mark
        elif size % 4 == 0:
            del out[at:]
    return bytes(out)


def check(kind: str, data: bytes, word: str) -> None:
    """One file through locate; what must hold for any bytes at all."""
    hidden = frozenset({word})
    start = time.thread_time()
    plan = locate(kind, hidden, MemorySource(data))
    assert time.thread_time() - start < DEADLINE_S
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        assert not plan.patches
        return
    end = 0
    for patch in plan.patches:
        assert patch.offset >= end
        assert patch.size
        end = patch.end
    assert end <= len(data)
    again = locate(kind, hidden, MemorySource(apply(data, plan.patches)))
    assert again.outcome is Outcome.CLEAN, again


@settings(max_examples=count(400, 40_000), deadline=None)
@given(st.sampled_from(SEEDS), edits, words)
def test_damaged_files(seed, changes, word):
    check(seed[0], damage(seed[1], changes), word)


@settings(max_examples=count(100, 10_000), deadline=None)
@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), st.integers(0, 64), words)
def test_one_kind_behind_the_head_of_another(seed, other, size, word):
    check(seed[0], seed[1][:size] + other[1], word)


BIG = 4 << 20
GIF_COMMENT = GIF_HIDING["a comment"]


def wav_list(data: bytes) -> bytes:
    """A WAV file with a LIST chunk."""
    return sounds.wav(sounds.chunk(b"LIST", data))


@pytest.mark.parametrize(
    ("kind", "made"),  # large ones: made when their tests run
    [
        ("image/png", lambda: pngs.plain(b"".join([pngs.chunk(b"tEXt", b"")] * 60_000))),
        ("image/png", lambda: pngs.plain(pngs.packed_text("Comment", bytes(200 << 20)[: 64 << 20]))),
        ("image/png", lambda: pngs.plain(pngs.text("Raw profile type exif", "\n" * BIG))),
        ("image/png", lambda: pngs.plain(pngs.text("Comment", "1" * BIG))),
        ("image/gif", lambda: GIF_COMMENT[:19] + b"!\xfe\1x\0" * 60_000 + GIF_COMMENT[19:]),
        ("audio/mpeg", lambda: sounds.id3(*[sounds.words("TIT2", b"")] * 60_000) + sounds.sound()),
        ("audio/mpeg", lambda: b"ID3\3\0\0\0\0\0\0" * 60_000 + sounds.sound()),
        ("audio/mpeg", lambda: sounds.sound() + sounds.old() * 60_000),
        ("audio/mpeg", lambda: sounds.sound() + b"\xff\xfb\x90" * (BIG // 3)),
        ("audio/flac", lambda: sounds.flac(*[(1, b"")] * 60_000)),
        ("audio/flac", lambda: sounds.flac((4, sounds.comments(*[b""] * 60_000)))),
        ("audio/flac", lambda: sounds.flac(behind=b"\xff\xf8\x69\x08\0\x0f" * (BIG // 6))),
        ("audio/ogg", lambda: sounds.opus(sounds.comments()) + b"OggS\0" * (BIG // 5)),
        ("audio/x-wav", lambda: wav_list(b"INFO" + sounds.chunk(b"ICMT", b"") * 60_000)),
        ("video/x-msvideo", lambda: sounds.avi(movie=sounds.chunk(b"00dc", b"") * 100_000)),
    ],
)
def test_files_that_ask_for_absurd_work(kind, made):
    data = made()
    for word in ("location", "all-metadata"):
        check(kind, data, word)
