"""WebP and GIF: what goes from where, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.images.gif import blank_comment
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from policyfs.redact.riff.chunks import chunks
from tests.support.samples import jpegs
from tests.support.samples.media import HOME

CITY = HOME.city.encode()
PLACE = b"47.80453, 13.04229"
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City><dc:format>x</dc:format>")
PICTURE = b"\x30\x01\0\x9d\x01\x2a\x04\0\x04\0" + bytes(range(20))


def redact(kind: str, data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What is read; it is as long as before, and redacting it again finds nothing."""
    found = locate_in(kind, MemorySource(data), hide)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in(kind, MemorySource(out), hide).patches
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
    "a second header": (VP8, chunk(b"VP8X", CITY[:10])),
    "what is no chunk": (VP8, b"\0\1\2\3" + CITY),
}


@pytest.mark.parametrize("case", WEBP_HIDING)
def test_places_go_from_webp(case):
    out = redact("image/webp", webp(*WEBP_HIDING[case], flags=0x0C))
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
    out = parts(redact("image/webp", webp(VP8, exif, chunk(b"XMP ", XMP), flags=0x0C)))
    assert out[b"VP8X"][0] == 0x04
    assert b"EXIF" not in out
    assert b"<dc:format>" in out[b"XMP "]
    assert not out[b"JUNK"].strip(b"\0")


def gif(*blocks: bytes, behind: bytes = b"", image: bool = True) -> bytes:
    picture = b"\x2c" + bytes(4) + b"\2\0\2\0\0" + b"\2\2\x4c\x01\0" if image else b""
    return b"GIF89a\2\0\2\0\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"".join(blocks) + picture + b";" + behind


def blocks(data: bytes) -> bytes:
    rows = (data[at : at + 255] for at in range(0, len(data), 255))
    return b"".join(bytes([len(row)]) + row for row in rows) + b"\0"


def application(name: bytes, data: bytes) -> bytes:
    return b"!\xff\x0b" + name + data


XMP_END = bytes([1, *range(255, -1, -1), 0])
LOOP = application(b"NETSCAPE2.0", b"\3\1\0\0\0")
CONTROL = b"!\xf9\4\0\0\0\0\0"
GIF_HIDING = {
    "a comment": gif(b"!\xfe" + blocks(b"at " + PLACE)),
    "a long comment": gif(b"!\xfe" + blocks(b"x" * 3000 + PLACE)),
    "markup in a comment": gif(b"!\xfe" + blocks(b"<city>" + CITY)),
    "XMP": gif(application(b"XMP DataXMP", XMP + XMP_END)),
    "XMP in sub-blocks": gif(application(b"XMP DataXMP", blocks(XMP))),
    "another application's": gif(application(b"SOMEBODY1.0", blocks(CITY))),
    "a name that is too long": gif(b"!\xff" + blocks(b"NETSCAPE2.0" + CITY)),
    "behind the loop count": gif(application(b"NETSCAPE2.0", b"\3\1\0\0" + blocks(CITY))),
    "a profile that is none": gif(application(b"ICCRGBG1012", blocks(CITY))),
    "plain text": gif(b"!\x01\x0c" + bytes(12) + blocks(CITY)),
    "an unknown extension": gif(b"!\x47" + blocks(CITY)),
    "a long graphic control": gif(b"!\xf9" + blocks(CITY)),
    "behind": gif(behind=CITY),
    "a second GIF": gif(behind=gif(b"!\xfe" + blocks(PLACE))),
    "no block": gif()[:-1] + CITY,
    "cut off": gif()[:-1] + b"!\xfe\xff" + CITY,
}


@pytest.mark.parametrize("case", GIF_HIDING)
def test_places_go_from_gif(case):
    out = redact("image/gif", GIF_HIDING[case])
    assert CITY not in out
    assert PLACE not in out


def test_what_shows_a_gif_stays():
    data = gif(LOOP, CONTROL, b"!\xfe" + blocks(b"a quince"), application(b"ANIMEXTS1.0", b"\3\1\0\0\0"))
    assert redact("image/gif", data) == data
    gone = redact("image/gif", data, Tells.PEOPLE)
    assert gone == data.replace(b"a quince", b" " * 8)


@pytest.mark.parametrize("cut", [b"!", b"!\0", b"!\xfe", b"!\xfe\0", b"!\x47\1\0", b"!\xff\x0b\0"])
def test_an_extension_at_the_very_end_need_not_be_whole(cut):
    out = redact("image/gif", gif()[:-1] + cut, Tells.PEOPLE)
    assert out[: -len(cut)] == gif()[:-1]


def test_xmp_of_a_gif_keeps_the_rest():
    out = redact("image/gif", gif(application(b"XMP DataXMP", XMP + XMP_END)))
    assert b"<dc:format>x</dc:format>" in out
    assert XMP_END in out


@pytest.mark.parametrize("size", [3, *range(5, 20), *range(250, 270), *range(505, 520)])
def test_blank_comments_are_rows_of_blocks(size):
    comment = blank_comment(size)
    assert len(comment) == size
    at = 2
    while comment[at]:
        at += comment[at] + 1
    assert at == size - 1


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/webp", b"RIFF"),
        ("image/webp", webp()),
        ("image/webp", webp(VP8).replace(b"WEBP", b"WAVE")),
        ("image/gif", b"GIF88a"),
        ("image/gif", b"GIF89a"),
        ("image/gif", gif(image=False)),
    ],
)
def test_what_is_no_picture_is_refused(kind, data):
    plan = locate(kind, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")
