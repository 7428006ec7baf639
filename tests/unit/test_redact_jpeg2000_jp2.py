"""JPEG 2000: every box, marker and gap in which something may be, byte by byte."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.plan import Outcome, Plan, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs
from tests.support.samples.heifs import XMP_UUID
from tests.support.samples.jp2s import EOC, JP2_SIGNATURE, codestream, comment, jp2, marker, tile
from tests.support.samples.media import HOME
from tests.support.samples.movies import box as make_box

CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
SECRET = b"47.804531, 13.042287"
EXIF_UUID = b"JpgTiffExif->JP2"
GEO_UUID = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")
LATITUDE = jpegs.pack("MM", *jpegs.LATITUDE)
KINDS = {"jp2": "image/jp2", "j2k": "image/x-jp2-codestream"}


def plan(data: bytes, kind: str) -> tuple[Plan, bytes]:
    found = locate(KINDS[kind], frozenset({"location"}), MemorySource(data))
    assert not found.reason.startswith("internal error"), found.reason
    out = apply(data, found.patches)
    if found.outcome is not Outcome.REFUSE:
        again = locate(KINDS[kind], frozenset({"location"}), MemorySource(out))
        assert again.outcome is Outcome.CLEAN, again
    return found, out


def read(data: bytes, kind: str = "jp2") -> bytes:
    found, out = plan(data, kind)
    assert found.outcome is not Outcome.REFUSE, found.reason
    return out


def told(data: bytes, hide: Tells, kind: str = "jp2") -> bytes:
    source = MemorySource(data)
    return apply(data, in_order(locate_in(KINDS[kind], source, hide).patches, len(data)))


def clean(data: bytes, kind: str) -> bool:
    return plan(data, kind)[0].outcome is Outcome.CLEAN


def test_files_without_metadata_are_clean():
    assert clean(jp2(), "jp2")
    assert clean(codestream(), "j2k")


def test_exif_in_a_uuid_box():
    for uuid in (EXIF_UUID, bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e")):
        for head in (b"", b"Exif\0\0"):
            out = read(jp2(make_box(b"uuid", uuid + head + jpegs.exif("MM"))))
            assert LATITUDE not in out
            assert b"Testmaker" in out


def test_xmp_and_xml():
    for box in (make_box(b"uuid", XMP_UUID + XMP), make_box(b"xml ", XMP)):
        out = read(jp2(box))
        assert CITY not in out
        assert b"dc:format" in out


@pytest.mark.parametrize(
    "box",
    [
        make_box(b"uuid", GEO_UUID + SECRET),
        make_box(b"uuid", bytes(16) + SECRET),
        make_box(b"uinf", make_box(b"url ", SECRET)),
        make_box(b"asoc", make_box(b"lbl ", b"gml.data") + make_box(b"xml ", b"<gml:pos>" + SECRET)),
        make_box(b"asoc", SECRET),
        make_box(b"xml ", b"<?xml version='1.0'?><gml:pos>" + SECRET + b"</gml:pos>"),
        make_box(b"lbl ", SECRET),
        make_box(b"jp2i", SECRET),
        make_box(b"mp7b", SECRET),
        make_box(b"free", SECRET),
        make_box(b"mdat", SECRET),
        make_box(b"jp2h", make_box(b"ihdr", bytes(14)) + make_box(b"abcd", SECRET) + SECRET),
        make_box(b"jp2h", make_box(b"colr", b"\2\0\0" + SECRET)),
        make_box(b"res ", make_box(b"resc", bytes(10)) + make_box(b"text", SECRET)),
    ],
)
def test_other_boxes(box):
    out = read(jp2(box))
    assert SECRET not in out
    assert codestream() in out


def test_a_uuid_box_that_goes_stays_one_and_makes_no_movie_of_the_file():
    """ffmpeg takes a JPEG 2000 file with a ``free`` box for a movie, whatever its signature says."""
    out = read(jp2(make_box(b"uuid", GEO_UUID + SECRET)))
    assert out == jp2(make_box(b"uuid", bytes(16 + len(SECRET))))
    assert clean(out, "jp2")


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("3a0d02180ae94115b3764bca41ce0e71", b"\0", b"47.8"),
        ("47c92cccd1a14581b90438bb5467713b", b"\1", b"\x2f\x0d\x50\x2a"),
        ("bc45a774dd504ec6a9f6f3a137f47e90", b"\0\0\0\x32", bytes(4) + SECRET),
        ("d7c8c5ef951f43b28757042500f538e8", b"\0\0\0\x32", b"\0\xd9\x6d\x37"),
    ],
)
def test_small_numbers_of_adobe_s_plug_in_stay(name, value, place):
    uuid = bytes.fromhex(name)
    assert clean(jp2(make_box(b"uuid", uuid + value)), "jp2")
    assert read(jp2(make_box(b"uuid", uuid + place))) == jp2(make_box(b"uuid", bytes(16 + len(place))))


@pytest.mark.parametrize("kind", [b"jp2i", b"mp7b", b"uinf", b"xyzt"])
def test_any_other_box_that_goes_makes_no_movie_of_the_file(kind):
    out = read(jp2(make_box(kind, SECRET)))
    assert out == jp2(make_box(b"skip", bytes(len(SECRET))))
    assert clean(out, "jp2")


def test_what_is_behind_the_last_box():
    out = read(jp2() + b"\0\0\0\7" + SECRET)
    assert SECRET not in out


def test_a_label_is_people_s_words():
    data = jp2(make_box(b"asoc", make_box(b"nlst", bytes(4)) + make_box(b"lbl ", b"a quince")))
    assert read(data) == data
    assert b"quince" not in told(data, Tells.PEOPLE)
    assert told(data, Tells.TIME) == data


# --- the codestream ---


def test_comments():
    data = codestream(header=comment(b"made by Quillpaint"))
    assert read(data, "j2k") == data
    assert b"Quillpaint" not in told(data, Tells.DEVICE, "j2k")
    assert SECRET not in read(codestream(header=comment(b"seen at " + SECRET)), "j2k")
    assert SECRET[:5] not in read(codestream(header=comment(SECRET[:5] + b"\0\1\2", latin=False)), "j2k")


def test_comments_of_tiles():
    stream = codestream(tile(b"\1\2\3"), tile(b"\4\5\6", header=comment(SECRET), number=1))
    out = read(jp2(stream=stream))
    assert SECRET not in out
    assert b"\xff\x93\4\5\6" in out


def test_unknown_markers():
    assert SECRET not in read(codestream(header=marker(0x6B, SECRET)), "j2k")


def test_the_last_tile_goes_on_to_the_end_of_the_codestream():
    stream = codestream(tile(b"\1\2\3" * 30, to_end=True))
    assert clean(stream, "j2k")
    out = read(stream + SECRET, "j2k")
    assert SECRET not in out
    assert out.startswith(stream)


def test_what_is_behind_a_codestream():
    assert SECRET not in read(codestream() + SECRET, "j2k")
    out = read(jp2(stream=codestream(end=b"") + SECRET))
    assert SECRET not in out


def test_a_codestream_that_is_cut_off():
    data = codestream(tile(b"\1\2\3" * 50, header=comment(SECRET)))[:-60]
    out = read(data, "j2k")
    assert SECRET not in out
    assert out[-20:] == data[-20:]


def test_a_tile_part_that_is_none():
    """What was changed in its header is behind the picture, too."""
    odd = tile(b"\1\2\3", header=comment(SECRET), number=1).replace(b"\xff\x93", b"\xff\x92")
    for bad in (odd, odd.replace(b"\xff\x90\0\x0a", b"\xff\x90\x23\x0a")):
        out = read(codestream(tile(b"\1\2\3"), bad), "j2k")
        assert SECRET not in out
        assert b"\xff\x93\1\2\3" in out


def test_a_codestream_in_fragments():
    stream = codestream(header=comment(SECRET))
    head = JP2_SIGNATURE + make_box(b"ftyp", b"jpx \0\0\0\0jpx ")
    first, second = stream[:60], stream[60:]
    at = len(head) + 8
    data = head + make_box(b"mdat", first + b"nobody's" + second)
    places = [(at, len(first)), (at + len(first) + 8, len(second))]
    rows = b"".join(o.to_bytes(8) + n.to_bytes(4) + bytes(2) for o, n in places)
    out = read(data + make_box(b"ftbl", make_box(b"flst", (2).to_bytes(2) + rows)))
    assert SECRET[:8] not in out
    assert b"nobody" not in out
    assert EOC in out[at:]
    assert stream[-20:] in out


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
def test_other_files_are_refused(kind):
    assert plan(b"no picture" * 5, kind)[0].outcome is Outcome.REFUSE


def test_files_without_a_picture_are_refused():
    assert plan(JP2_SIGNATURE + make_box(b"ftyp", b"jp2 \0\0\0\0"), "jp2")[0].outcome is Outcome.REFUSE
    assert plan(JP2_SIGNATURE + make_box(b"xml ", XMP), "jp2")[0].outcome is Outcome.REFUSE
    assert plan(jp2(stream=b"no codestream"), "jp2")[0].outcome is Outcome.REFUSE
