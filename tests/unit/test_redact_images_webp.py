"""WebP: what goes from where, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from policyfs.redact.riff.chunks import chunks
from tests.support.samples import jpegs
from tests.support.samples.media import HOME

CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City><dc:format>x</dc:format>")
PICTURE = b"\x30\x01\0\x9d\x01\x2a\x04\0\x04\0" + bytes(range(20))


def redact(data: bytes) -> bytes:
    """What is read; it is as long as before, and redacting it again finds nothing."""
    found = locate_in("image/webp", MemorySource(data), Tells.LOCATION)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in("image/webp", MemorySource(out), Tells.LOCATION).patches
    assert len(out) == len(data)
    return out


def chunk(name: bytes, data: bytes, padding: bytes = b"\0") -> bytes:
    return name + len(data).to_bytes(4, "little") + data + padding * (len(data) % 2)


def webp(*parts: bytes, flags: int = 0, behind: bytes = b"") -> bytes:
    body = b"WEBP" + chunk(b"VP8X", bytes([flags]) + bytes(3) + b"\3\0\0" * 2) + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body + behind


def parts(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a WebP, by name."""
    found = chunks(MemorySource(data), None, 12, len(data))
    return {c.name: data[c.start : c.end] for c in found}


def test_a_chunk_with_an_odd_name_becomes_padding():
    """ImageMagick 6 calls XMP so. libwebp refuses zeros in its place."""
    out = redact(webp(VP8, chunk(b"XMP\0", XMP)))
    assert list(parts(out)) == [b"VP8X", b"VP8 ", b"JUNK"]
    assert CITY not in out


VP8 = chunk(b"VP8 ", PICTURE)
FRAME_HEAD = bytes(16)
WEBP_HIDING = {
    "EXIF": (chunk(b"EXIF", jpegs.exif("MM")), VP8),
    "EXIF with its JPEG preamble": (VP8, chunk(b"EXIF", b"Exif\0\0" + jpegs.exif("II"))),
    "EXIF that is none": (VP8, chunk(b"EXIF", CITY)),
    "XMP of an odd length": (VP8, chunk(b"XMP ", XMP + b" " * (1 - len(XMP) % 2))),
    "two XMP chunks": (VP8, chunk(b"XMP ", XMP), chunk(b"XMP ", XMP)),
    "padding": (VP8, chunk(b"EXIF", jpegs.exif("MM") + b"x" * (1 - len(jpegs.exif("MM")) % 2), b"\x47")),
    "an unknown chunk": (VP8, chunk(b"abcd", CITY)),
    "a chunk of no padding": (VP8, chunk(b"JUNK", CITY)),
    "a frame's own chunk": (chunk(b"ANMF", FRAME_HEAD + VP8 + chunk(b"abcd", CITY)),),
    "behind a frame's chunks": (chunk(b"ANMF", FRAME_HEAD + VP8 + b"\1\2" + CITY),),
    "a colour profile that is none": (chunk(b"ICCP", CITY), VP8),
    "what comes to be metadata": (
        chunk(b"VP8 ", PICTURE + b"EXIF\0\0\0\0II*" + chunk(b"EXIF", jpegs.exif("MM")) + CITY),
    ),
    "a picture's length": (chunk(b"VP8 ", PICTURE + chunk(b"EXIF", jpegs.exif("MM")) + CITY),),
    "XMP behind blanks in a picture": (chunk(b"VP8 ", PICTURE + chunk(b"XMP ", b" " * 60 + XMP)),),
    "a second header": (VP8, chunk(b"VP8X", CITY[:10])),
    "what is no chunk": (VP8, b"\0\1\2\3" + CITY),
}


@pytest.mark.parametrize("case", WEBP_HIDING)
def test_places_go_from_webp(case):
    out = redact(webp(*WEBP_HIDING[case], flags=0x0C))
    for text in (CITY, jpegs.pack("MM", *jpegs.LATITUDE), jpegs.pack("II", *jpegs.LATITUDE)):
        assert text not in out
    assert PICTURE in out


@pytest.mark.parametrize("lie", [0, 1, 30, 0x7FFFFFFF])
def test_a_riff_that_lies_about_its_size(lie):
    data = webp(VP8, chunk(b"XMP ", XMP), flags=4, behind=chunk(b"XMP ", XMP) + CITY)
    data = data[:4] + lie.to_bytes(4, "little") + data[8:]
    plan = locate("image/webp", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE or CITY not in apply(data, plan.patches)
    assert not plan.reason.startswith("internal")


def test_the_flags_say_what_is_left():
    exif = chunk(b"EXIF", b"no EXIF at all!!")
    out = parts(redact(webp(VP8, exif, chunk(b"XMP ", XMP), flags=0x0C)))
    assert out[b"VP8X"][0] == 0x04
    assert b"EXIF" not in out
    assert b"<dc:format>" in out[b"XMP "]
    assert not out[b"JUNK"].strip(b"\0")


@pytest.mark.parametrize("data", [b"RIFF", webp(), webp(VP8).replace(b"WEBP", b"WAVE")])
def test_what_is_no_picture_is_refused(data):
    plan = locate("image/webp", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")


def test_photoshop_s_resources_are_cleaned():
    size = jpegs.resource(0x03ED, bytes.fromhex("0048000000010001 0048000000010001"))
    assert redact(webp(VP8, chunk(b"PSAI", size))) == webp(VP8, chunk(b"PSAI", size))
    place = size + jpegs.resource(0x0404, jpegs.iptc_place()) + jpegs.resource(0x0999, CITY)
    out = redact(webp(VP8, chunk(b"PSAI", place)))
    assert CITY not in out
    assert size in out
    for other in (CITY, size + CITY, XMP):
        assert CITY not in redact(webp(VP8, chunk(b"PSAI", other)))
