"""Damaged and hostile films, documents and sidecars: redaction never fails, and is done in one go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import count
from tests.support.samples import jpegs, pdfs
from tests.support.samples import matroskas as mk
from tests.support.samples.matroskas import PICTURES, PLACE

LOCATION = frozenset({"location"})


def check(kind: str, data: bytes, words: frozenset[str] = LOCATION) -> bytes:
    """What must hold for any bytes at all. Returns what is read; nothing where that is refused."""
    plan = locate(kind, words, MemorySource(data))
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        assert not plan.patches
        return b""
    end = 0
    for patch in plan.patches:
        assert patch.offset >= end
        assert patch.size
        end = patch.end
    assert end <= len(data)
    assert bool(plan.patches) == (plan.outcome is Outcome.PATCH)
    out = apply(data, plan.patches)
    assert len(out) == len(data)
    again = locate(kind, words, MemorySource(out))
    assert again.outcome is Outcome.CLEAN, again
    return out


edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "repeat", "swap", "truncate"]),
        st.binary(min_size=1, max_size=4),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=5,
)


def damage(data: bytes, changes) -> bytes:
    """The file after some accidents."""
    out = bytearray(data)
    for where, kind, some, size in changes:
        at = int(where * max(1, len(out)))
        if kind == "flip":
            out[at : at + len(some)] = some[: len(out) - at]
        elif kind == "cut":
            del out[at : at + size]
        elif kind == "repeat":
            out[at:at] = out[at : at + size]
        elif kind == "swap":
            out[at : at + 2 * size] = out[at + size : at + 2 * size] + out[at : at + size]
        elif size % 4 == 0:
            del out[at:]
    return bytes(out)


_TAGS = mk.tags(mk.simple_tag(b"LOCATION", PLACE), mk.simple_tag(b"ARTIST", b"Rosa"))
_TRACKS = mk.VIDEO + mk.track(2, 17, b"S_TEXT/UTF8") + mk.track(3, 33, b"D_META")
_BLOCKS = (
    mk.block(1, PICTURES),
    mk.group(2, PLACE, mk.number(0x9B, 9), mk.el(0x75A1, mk.el(0xA6, mk.el(0xA5, b"x")))),
    mk.block(3, PLACE),
    mk.el(0xEC, PLACE),
)
FILMS = [
    mk.film(mk.cluster(*_BLOCKS), _TAGS, tracks=_TRACKS),
    mk.film(
        _TAGS,
        mk.cluster(*_BLOCKS, size=mk.UNKNOWN_SIZE),
        mk.cluster(mk.el(0xBF, b"abcd"), *_BLOCKS, size=mk.UNKNOWN_SIZE),
        mk.el(
            mk.ATTACHMENTS,
            mk.el(
                0x61A7, mk.el(0x466E, b"a"), mk.el(0x4660, b"font/ttf"), mk.el(0x465C, mk.font(b"a table"))
            ),
        ),
        tracks=_TRACKS,
        size=mk.UNKNOWN_SIZE,
    ),
]


@settings(max_examples=count(120, 10_000))
@given(st.sampled_from(FILMS), edits, st.sampled_from(["location"]))
def test_damaged_films(film, changes, word):
    check("video/x-matroska", damage(film, changes), frozenset({word}))


SIDECARS = [
    b'{"title": "a.jpg", "description": "at 47.80453, 13.04229", "geoData": {"latitude": 47}, "x": [1]}',
    b'[{"geoData": {"latitude": 47.8}, "people": [{"name": "R\xc3\xb6"}]}, {"a": "b"}, {}]',
]


@settings(max_examples=count(150, 10_000))
@given(st.sampled_from(SIDECARS), edits)
def test_damaged_json(data, changes):
    check("application/x-location+json", damage(data, changes))


_INFO = b"<</Title(quince)/Subject(%s)/Where(x)/CreationDate(D:20210723)>>" % PLACE
_PACKET = jpegs.xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>") + b" " * 100
PDFS = [
    pdfs.pdf(
        {5: _INFO, 6: pdfs.stream(_PACKET, b"/Type/Metadata")},
        trailer=b"/Info 5 0 R",
        page=b"/Metadata 6 0 R",
    ),
    pdfs.revised(
        pdfs.pdf(
            {
                5: pdfs.object_stream({7: _INFO, 8: b"[9 0 R (a)]", 9: b"(b)"}),
                6: pdfs.packed(_PACKET, b"/Type/Metadata"),
            },
            trailer=b"/Info 7 0 R",
            catalog=b"/Metadata 6 0 R/X 8 0 R",
        ),
        {10: _INFO, 11: pdfs.stream(b"abc", b"", b"12 0 R"), 12: b"3"},
        b"/Info 10 0 R/ID[<aabb><ccdd>]",
    ),
]


@settings(max_examples=count(120, 10_000))
@given(st.sampled_from(PDFS), edits)
def test_damaged_documents(document, changes):
    check("application/pdf", damage(document, changes))
