"""Damaged and hostile pictures in boxes: redaction never fails, ends soon, and is done in one go."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.isobmff.item_data import Gathered, Span, common, joined, without
from policyfs.redact.registry import locate_in
from tests.support.machine.counts import count
from tests.support.samples import cr3s, heifs, jp2s, jpegs
from tests.support.samples.heifs import XMP_TYPE, Layout, Thing, heif, picture
from tests.support.samples.movies import box as make_box

EXIF: Final = bytes(4) + jpegs.exif("MM")
XMP: Final = jpegs.xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>")
MAX_SECONDS: Final = 5.0
"""Far more than any file here takes, on a machine that has other things to do."""
PICTURE: Final = Thing(1, b"hvc1", heifs.user_sei(b"x" * 30) + picture(), properties=(1, 2))
EVERYTHING: Final = (
    PICTURE,
    Thing(2, b"Exif", EXIF, pieces=2),
    Thing(3, b"mime", XMP, XMP_TYPE, name=b"x"),
    Thing(4, b"Exif", EXIF, where="idat"),
    Thing(5, b"uri ", b"abc" * 9, b"urn:x:y"),
    Thing(6, b"jpeg", jpegs.photo_with(jpegs.exif("II"))),
    Thing(7, b"Exif", of=(5, 2, 9)),
    Thing(8, b"av01", heifs.obu(5, b"\4abc") + heifs.obu(6, b"\1" * 30)),
    Thing(9, b"j2k1", jp2s.codestream(header=jp2s.comment(b"made by me"))),
)
LAYOUT: Final = Layout(
    references=((b"cdsc", 2, (1,)), (b"thmb", 6, (1,))),
    properties=(
        *heifs.PROPERTIES,
        heifs.full(b"udes", b"en\0a\0b\0c\0"),
        make_box(b"colr", b"nclx" + bytes(7)),
    ),
    after=make_box(b"free", b"abc") + make_box(b"uuid", heifs.XMP_UUID + XMP),
)
SEEDS: Final = (
    ("image/heic", heif(EVERYTHING, LAYOUT)),
    ("image/heif", heif(EVERYTHING, replace(LAYOUT, iloc_version=2, infe_version=3, wide_mdat=True))),
    ("image/avif", heif((PICTURE, *EVERYTHING[1:4]), replace(LAYOUT, base=100))),
    (
        "image/jxl",
        jp2s.jxl(make_box(b"Exif", EXIF), make_box(b"xml ", XMP), make_box(b"brob", b"Exif" + EXIF)),
    ),
    ("image/jp2", jp2s.jp2(make_box(b"uuid", b"JpgTiffExif->JP2" + EXIF[4:]), make_box(b"xml ", XMP))),
    ("image/x-canon-cr3", cr3s.cr3()),
    (
        "image/x-jp2-codestream",
        jp2s.codestream(jp2s.tile(b"abc", header=jp2s.comment(b"x")), jp2s.tile(b"ab", to_end=True)),
    ),
)
WORDS: Final = st.sampled_from([Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE, UNKNOWN])
INTERESTING: Final = [
    b"\0\0\0\0",
    b"\0\0\0\1",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x08",
    b"\x7f\xff\xff\xff",
    b"\0\0\1\0",
]

edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "repeat", "number", "type", "truncate"]),
        st.binary(min_size=1, max_size=4),
        st.sampled_from(INTERESTING),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=6,
)


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents, most of them in its first kilobyte, where the tables are."""
    out = bytearray(data)
    for where, kind, some, number, size in changes:
        at = int(where * max(1, min(len(out), 1000 if size % 4 else len(out))))
        if kind == "flip":
            out[at : at + len(some)] = some[: len(out) - at]
        elif kind == "number":
            out[at : at + 4] = number[: len(out) - at]
        elif kind == "type":
            at = max(0, out.find([b"iloc", b"infe", b"mdat", b"idat", b"Exif", b"free"][size % 6], at))
            out[at : at + 4] = [b"free", b"hvc1", b"Exif", b"meta"][size % 4][: len(out) - at]
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "repeat":
            out[at:at] = out[at : at + size]
        elif size % 4 == 0:
            del out[at:]
    return bytes(out)


def check(kind: str, data: bytes, hide: Tells) -> None:
    """What must hold for any bytes at all."""
    started = time.monotonic()
    try:
        patches = in_order(locate_in(kind, MemorySource(data), hide).patches, len(data))
    except (NotThisKindError, TooMuchError):
        return
    finally:
        assert time.monotonic() - started < MAX_SECONDS
    out = apply(data, patches)
    assert len(out) == len(data)
    left = locate_in(kind, MemorySource(out), hide).patches
    assert not left, (left, patches)


@settings(max_examples=count(250, 30_000))
@given(st.sampled_from(SEEDS), edits, WORDS)
def test_damaged_files(seed, changes, hide):
    kind, data = seed
    check(kind, damage(data, changes), hide)


@settings(max_examples=count(60, 10_000))
@given(st.sampled_from(["image/heic", "image/jxl", "image/jp2", "image/x-jp2-codestream"]), st.data(), WORDS)
def test_bytes_that_start_like_a_picture(kind, data, hide):
    start = {
        "image/heic": make_box(b"ftyp", b"heic" + bytes(8)),
        "image/jxl": jp2s.jxl(),
        "image/jp2": jp2s.jp2(),
        "image/x-jp2-codestream": b"\xff\x4f\xff\x51",
    }[kind]
    check(kind, start + data.draw(st.binary(max_size=200)), hide)


things = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from([b"hvc1", b"Exif", b"mime", b"grid", b"jpeg", b"abcd", b"unci"]),
        st.sampled_from([EXIF, XMP, picture(), b"abc", b""]),
        st.sampled_from(["mdat", "idat"]),
        st.integers(1, 3),
        st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 1500)), max_size=3),
        st.none() | st.tuples(st.integers(1, 5), st.integers(0, 50), st.integers(0, 2000)),
    ),
    max_size=6,
)


@settings(max_examples=count(150, 20_000))
@given(things, WORDS, st.integers(0, 2))
def test_items_whose_data_lie_anywhere(rows, hide, version):
    """Pieces that overlap, lie in the tables, leave the file, go round in circles."""
    made = [
        Thing(
            n,
            kind,
            data,
            XMP_TYPE,
            where=where if version else "mdat",
            pieces=pieces,
            extents=tuple(given_),
            of=of,
        )
        for n, kind, data, where, pieces, given_, of in rows
    ]
    check("image/heic", heif([PICTURE, *made], Layout(iloc_version=version)), hide)


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8).map(
    lambda rows: [Span(at, at + size) for at, size in rows]
)


@given(spans, spans)
def test_spans_are_sets_of_bytes(left, right):
    def members(those) -> set[int]:
        return {n for span in those for n in range(span.start, span.end)}

    one, two = joined(left), joined(right)
    assert members(one) == members(left)
    assert members(common(one, two)) == members(left) & members(right)
    assert members(without(one, two)) == members(left) - members(right)


@given(spans, st.integers(0, 60), st.integers(0, 60))
def test_pieces_read_as_one_block(pieces, start, size):
    data = bytes(range(48))
    block = Gathered(MemorySource(data), pieces)
    whole = b"".join(data[s.start : s.end] for s in pieces)
    assert block.read(0, 1000) == whole
    assert block.read(start, size) == whole[start : start + size]
    assert block.size == len(whole)


def test_tables_that_ask_for_a_lot_of_work():
    """Many items on the same bytes, each a picture that has to be walked."""
    units = b"".join(heifs.nal(20, b"\1\2\3") for _ in range(2000))
    first = Thing(1, b"hvc1", units)
    at = heif([first]).index(units)
    copies = [Thing(n, b"hvc1", extents=((at + 60_000, len(units)),)) for n in range(2, 1500)]
    data = heif([first, *copies])
    at = data.index(units)
    copies = [replace(c, extents=((at, len(units)),)) for c in copies]
    check("image/heic", heif([first, *copies]), Tells.LOCATION)
