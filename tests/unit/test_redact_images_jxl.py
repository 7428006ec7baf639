"""JPEG XL: every box and gap in which something may be, and what is behind a bare codestream."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, locate
from tests.support.samples import jpegs
from tests.support.samples.jp2s import jxl
from tests.support.samples.media import HOME
from tests.support.samples.movies import box as make_box

CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
SECRET = b"47.804531, 13.042287"
LATITUDE = jpegs.pack("MM", *jpegs.LATITUDE)
BARE = b"\xff\x0a" + b"picture" * 9


def plan(data: bytes) -> tuple[Plan, bytes]:
    found = locate("image/jxl", frozenset({"location"}), MemorySource(data))
    assert not found.reason.startswith("internal error"), found.reason
    out = apply(data, found.patches)
    if found.outcome is not Outcome.REFUSE:
        again = locate("image/jxl", frozenset({"location"}), MemorySource(out))
        assert again.outcome is Outcome.CLEAN, again
    return found, out


def read(data: bytes) -> bytes:
    found, out = plan(data)
    assert found.outcome is not Outcome.REFUSE, found.reason
    return out


def clean(data: bytes) -> bool:
    return plan(data)[0].outcome is Outcome.CLEAN


def test_files_without_metadata_are_clean():
    assert clean(jxl())
    assert clean(b"\xff\x0a" + bytes(range(256)) * 9)


def test_other_files_are_refused():
    assert plan(b"no picture" * 5)[0].outcome is Outcome.REFUSE


def test_files_without_a_picture_are_refused():
    assert plan(jxl().replace(b"jxlc", b"abcd"))[0].outcome is Outcome.REFUSE
    cut = jxl()[: jxl().index(b"jxlc") - 4] + make_box(b"jxlc", b"\xff")
    assert plan(cut + b"\x0a" + bytes(20))[0].outcome is Outcome.REFUSE  # it would go on behind its box


def test_boxes_of_jpeg_xl():
    exif = make_box(b"Exif", b"\0\0\0\6Exif\0\0" + jpegs.exif("MM"))
    out = read(jxl(exif, make_box(b"xml ", XMP)))
    assert LATITUDE not in out
    assert CITY not in out
    assert b"Testmaker" in out
    assert b"dc:format" in out


@pytest.mark.parametrize("kind", [b"brob", b"jbrd", b"jumb", b"jhgm", b"uuid", b"free", b"abcd", b"mdat"])
def test_boxes_that_cannot_be_looked_into(kind):
    out = read(jxl(make_box(kind, b"Exif" + bytes(16) + SECRET)))
    assert SECRET not in out
    assert kind not in out or kind == b"free"
    assert b"free" not in out or kind == b"free"  # FFmpeg takes a JPEG XL with such a box for a movie


def test_level_and_index_stay():
    data = jxl(make_box(b"jxll", b"\x0a"), make_box(b"jxli", bytes(9)))
    assert clean(data)
    assert SECRET not in read(jxl(make_box(b"jxll", SECRET)))


def test_a_codestream_in_pieces():
    head = jxl()[: jxl().index(b"jxlc") - 4]
    first = make_box(b"jxlp", bytes(4) + b"\xff\x0aabc")
    last = make_box(b"jxlp", b"\x80\0\0\1def")
    data = head + first + make_box(b"Exif", b"\0\0\0\0" + jpegs.exif("MM")) + last
    out = read(data)
    assert first in out
    assert last in out
    assert LATITUDE not in out


@pytest.mark.parametrize(
    "more",
    [
        make_box(b"jxlc", b"\xff\x0a" + SECRET),  # a second one
        make_box(b"jxlp", b"\x80\0\0\1" + SECRET),  # a piece behind the whole
    ],
)
def test_more_codestreams_than_one(more):
    assert SECRET not in read(jxl() + more)


@pytest.mark.parametrize("head", [b"Exif\0\0", b"\0\0\0\6Exif\0\0", b"\0\0\0\2ab", b""])
def test_exif_that_is_too_short_to_say_nothing_becomes_zeros(head):
    data = jxl(make_box(b"Exif", head + b"II*\0abcdefgh"))
    assert read(data) == data.replace(head + b"II*\0abcdefgh", bytes(len(head) + 12))


@pytest.mark.parametrize(
    "start", [b"Exif\0\0II*", b"PK\x03\x04", b"\xff\xd8\xff\xe1abJFIF", b"PK\x03\x04Exif\0\0II*"]
)
def test_starts_that_are_whole_only_with_the_zeros_behind_them(start):
    picture, known = b"\xff\x0a" + b"picture" * 9, b"Exif\0\0MM\0*abc"
    assert read(picture + start + known) == picture + bytes(len(start + known))


def test_a_codestream_that_is_none():
    assert plan(jxl().replace(b"jxlc\xff\x0a", b"jxlctx"))[0].outcome is Outcome.REFUSE


def test_what_was_appended_within_the_box_of_a_codestream():
    data = jxl()
    head = data[: data.index(b"jxlc") - 4]
    out = read(head + make_box(b"jxlc", b"\xff\x0a" + bytes(range(1, 99)) + XMP))
    assert CITY not in out


@pytest.mark.parametrize(
    "trailer",
    [
        b"Exif\0\0" + jpegs.exif("II"),
        XMP,
        make_box(b"ftyp", b"isom" + bytes(8)) + SECRET,
        b"PK\3\4\x14\0" + SECRET,
        jpegs.photo_with(jpegs.exif("MM")),
    ],
)
def test_what_was_appended_to_a_bare_codestream(trailer):
    picture = b"\xff\x0a" + bytes(range(1, 250)) * 20
    out = read(picture + trailer + SECRET)
    assert out.startswith(picture)
    assert SECRET not in out
    assert CITY not in out


@pytest.mark.parametrize("gap", [0, CHUNK_BYTES - len(BARE) - 3, CHUNK_BYTES - len(BARE)])
def test_appended_files_go_also_where_two_pieces_of_reading_meet(gap):
    picture = BARE + b"\x80" * (gap + 1)
    assert read(picture + b"<x:xmpmeta>" + SECRET) == picture + bytes(11 + len(SECRET))


def test_appended_files_within_the_codestreams_box_go_too():
    data = jxl()
    at = data.index(b"jxlc") - 4
    made = make_box(b"jxlc", data[at + 8 :] + b"\x80MotionPhoto_Data" + SECRET)
    assert read(data[:at] + made) == data[:at] + make_box(
        b"jxlc", data[at + 8 :] + b"\x80" + bytes(16 + len(SECRET))
    )


def test_pieces_must_come_in_their_order_and_begin_like_a_codestream():
    head = jxl()[: jxl().index(b"jxlc") - 4]
    first, second = make_box(b"jxlp", bytes(4) + b"\xff\x0aabc"), make_box(b"jxlp", b"\0\0\0\1" + LATITUDE)
    assert LATITUDE in read(head + first + second)
    assert LATITUDE not in read(head + second + first)
    skipped = make_box(b"jxlp", b"\0\0\0\2" + LATITUDE)
    assert LATITUDE not in read(head + first + skipped)
    odd = make_box(b"jxlp", bytes(4) + b"\xff\x0babc")
    assert plan(head + odd)[0].outcome is Outcome.REFUSE
