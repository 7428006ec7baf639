"""Streams of a PDF: filters, objects in streams, pictures."""

from __future__ import annotations

import zlib

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf import ascii85
from policyfs.redact.pdf.objects import Node, Reader
from policyfs.redact.pdf.streams import MAX_OBJECTS, Room, filters_of
from policyfs.redact.registry import locate_in
from tests.support.samples import jp2s
from tests.support.samples.pdfs import PLACE, packed, pdf, stream

KIND = "application/pdf"


def node_of(entries: bytes) -> Node:
    return Reader(b"<<" + entries + b">>").value()


@pytest.mark.parametrize(
    ("entries", "filters"),
    [
        (b"", ()),
        (b"/Filter null", ()),
        (b"/Filter/FlateDecode", (b"FlateDecode",)),
        (b"/F/Fl", (b"Fl",)),
        (b"/Filter[/A/B]", (b"A", b"B")),
        (b"/Filter[]", ()),
        (b"/Filter[/A 1 0 R]", None),
        (b"/Filter 1 0 R", None),
        (b"/Filter(FlateDecode)", None),
    ],
)
def test_filters(entries, filters):
    assert filters_of(node_of(entries)) == filters


def room(inflated: int = 1 << 24) -> Room:
    return Room(Budget(0, 0, inflated=inflated))


def test_what_is_inflated_is_paid_for():
    some = room(1000)
    data = zlib.compress(bytes(600))
    assert some.inflate(data) == (bytes(600), data)
    with pytest.raises(TooMuchError):
        some.inflate(data)


def test_bytes_behind_a_stream_become_zeros():
    data = zlib.compress(b"abc")
    assert room().inflate(data + b"\r\n") == (b"abc", data + b"\r\n")
    assert room().inflate(data + PLACE) == (b"abc", data + bytes(len(PLACE)))


def test_a_stream_that_is_none_is_no_bomb():
    with pytest.raises(NotThisKindError):
        room().inflate(b"no stream")
    with pytest.raises(NotThisKindError):
        room().inflate(zlib.compress(b"abc")[:-1])


def test_objects_and_tokens_are_bounded():
    some = room()
    for _ in range(MAX_OBJECTS):
        some.count(1)
    with pytest.raises(TooMuchError):
        some.count(1)


def read(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    found = locate_in(KIND, MemorySource(data), hide)
    out = apply(data, in_order(found.patches, len(data)))
    assert not locate_in(KIND, MemorySource(out), hide).patches
    return out


def with_objects(head: bytes, body: bytes, count: int) -> bytes:
    text = head + body
    return pdf(
        {9: packed(text, b"/Type/ObjStm/N %d/First %d" % (count, len(head)), room=60)},
        page=b"/Resources<</A 5 0 R/B 6 0 R>>",
    )


def inside(data: bytes) -> bytes:
    """The text of the object stream."""
    at = data.index(b"/ObjStm")
    start = data.index(b"stream\n", at) + 7
    return zlib.decompressobj().decompress(data[start:])


def test_bytes_between_objects_in_a_stream_become_blanks():
    data = with_objects(b"5 0 6 20 ", b"(one)" + b" Zirbelstadt   " + b"(two) behind", 2)
    assert inside(read(data)) == b"5 0 6 20 (one)               (two)       "
    commented = with_objects(b"5 0 6 20 ", b"[1 %Zirbelstadt\n 2]  (two)", 2)
    assert b"Zirbel" not in inside(read(commented))


def test_comments_in_an_object_stream_become_blanks():
    head, body = b"5 0 6 32 %% Page 1\n", b"(one) %% Page 2\n% Zirbelstadt\n   (two) "
    blank = b"5 0 6 32 " + b" " * 9 + b"\n" + b" " * 7 + b"\n(one)" + b" " * 28 + b"(two) "
    assert inside(read(with_objects(head + b"%Zirbel\n", body, 2))) == blank


def test_an_object_of_a_stream_that_nothing_refers_to_is_null():
    data = with_objects(b"5 0 7 8 6 27 ", b"(one)   (Zirbelstadt)      (two)", 3)
    assert inside(read(data)).endswith(b"(one)   null               (two)")


@pytest.mark.parametrize(
    ("head", "body", "count"),
    [
        (b"5 0 6 ", b"(one) (two)", 2),
        (b"5 0 ", b"(one) (two)", 2),
        (b"5 0 6 2 ", b"(one) (two)", 2),
        (b"5 0 6 99 ", b"(one) (two)", 2),
        (b"5 0 x 6 ", b"(one) (two)", 2),
        (b"5 0 6 6 ", b"(one) (two", 2),
    ],
)
def test_an_object_stream_that_is_malformed(head, body, count):
    with pytest.raises(NotThisKindError):
        read(with_objects(head, body, count))


IMAGE = b"/Type/XObject/Subtype/Image/Width 1/Height 1/Filter/JPXDecode"
CODESTREAMS = {
    "a comment": jp2s.codestream(jp2s.tile(b"data"), header=jp2s.comment(PLACE)),
    "a comment of a tile": jp2s.codestream(jp2s.tile(b"data", header=jp2s.comment(PLACE))),
    "an unknown segment": jp2s.codestream(jp2s.tile(b"data"), header=jp2s.marker(0x7F, PLACE)),
    "behind the end": jp2s.codestream(jp2s.tile(b"data")) + PLACE,
}


@pytest.mark.parametrize("name", CODESTREAMS)
def test_a_place_in_a_bare_codestream_goes(name):
    packed = IMAGE.replace(b"/JPXDecode", b"[/FlateDecode/JPXDecode]")
    deflated = zlib.compress(CODESTREAMS[name])
    for picture, entries in ((CODESTREAMS[name], IMAGE), (deflated, packed)):
        data = pdf({6: stream(picture, entries)}, page=b"/Resources<</X<</I 6 0 R>>>>")
        assert picture in data
        out = read(data)
        assert picture not in out
        at = out.index(b"stream\n", out.index(b"/JPXDecode")) + 7
        shown = out[at : at + len(picture)]
        assert PLACE not in (shown if picture != deflated else zlib.decompressobj().decompress(shown))


def test_a_sound_picture_behind_a_filter_stays():
    sound = jp2s.codestream(jp2s.tile(b"data"))
    both = (zlib.compress(sound), b"FlateDecode"), (ascii85.encoded(sound, 200), b"ASCII85Decode")
    for filtered, name in both:
        entries = IMAGE.replace(b"/JPXDecode", b"[/%s/JPXDecode]" % name)
        data = pdf({6: stream(filtered, entries)}, page=b"/Resources<</X<</I 6 0 R>>>>")
        assert read(data) == data


def test_a_codestream_that_is_none_is_refused():
    data = pdf({6: stream(b"\xff\x4f\xff\x51 no more", IMAGE)}, page=b"/Resources<</X<</I 6 0 R>>>>")
    with pytest.raises(NotThisKindError):
        read(data)
