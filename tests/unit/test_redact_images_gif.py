"""GIF: what goes from where, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.images.gif import blank_comment
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs
from tests.support.samples.media import HOME

CITY = HOME.city.encode()
PLACE = b"47.80453, 13.04229"
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City><dc:format>x</dc:format>")


def redact(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What is read; it is as long as before, and redacting it again finds nothing."""
    found = locate_in("image/gif", MemorySource(data), hide)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in("image/gif", MemorySource(out), hide).patches
    assert len(out) == len(data)
    return out


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
    "a gamma that is none": gif(application(b"ImageMagick", blocks(b"gamma=47.80453, 13.04229"))),
    "a gamma above 10": gif(application(b"ImageMagick", blocks(b"gamma=47.80453, 13.04229"[:14] + CITY))),
    "behind the gamma": gif(application(b"ImageMagick", blocks(b"gamma=1")[:-1] + blocks(CITY))),
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
    out = redact(GIF_HIDING[case])
    assert CITY not in out
    assert PLACE not in out


def test_what_shows_a_gif_stays():
    data = gif(LOOP, CONTROL, b"!\xfe" + blocks(b"a quince"), application(b"ANIMEXTS1.0", b"\3\1\0\0\0"))
    assert redact(data) == data
    gone = redact(data, Tells.PEOPLE)
    assert gone == data.replace(b"a quince", b" " * 8)


@pytest.mark.parametrize("gamma", [b"gamma=0.5", b"gamma=1", b"gamma=0.454545"])
def test_the_gamma_of_imagemagick_stays_without_device(gamma):
    data = gif(application(b"ImageMagick", blocks(gamma)), CONTROL)
    assert redact(data) == data
    assert b"ImageMagick" not in redact(data, Tells.DEVICE)


@pytest.mark.parametrize("cut", [b"!", b"!\0", b"!\xfe", b"!\xfe\0", b"!\x47\1\0", b"!\xff\x0b\0"])
def test_an_extension_at_the_very_end_need_not_be_whole(cut):
    out = redact(gif()[:-1] + cut, Tells.PEOPLE)
    assert out[: -len(cut)] == gif()[:-1]


def test_xmp_of_a_gif_keeps_the_rest():
    out = redact(gif(application(b"XMP DataXMP", XMP + XMP_END)))
    assert b"<dc:format>x</dc:format>" in out
    assert XMP_END in out


def test_pictures_between_two_packets_stay():
    """The first packet lacks the bytes behind it. Those of the second one do not end the first."""
    picture = gif()[19:-1]
    bare = application(b"XMP DataXMP", blocks(XMP))
    out = redact(gif(bare, picture * 3, application(b"XMP DataXMP", XMP + XMP_END)))
    assert out.count(picture) == 4
    assert CITY not in out
    assert b"<dc:format>x</dc:format>" in out


def test_xmp_with_a_zero_in_it_ends_there_for_decoders():
    packet = XMP[:40] + b"\0" + XMP[40:]
    assert CITY not in redact(gif(application(b"XMP DataXMP", packet + XMP_END)))


@pytest.mark.parametrize("size", [3, *range(5, 20), *range(250, 270), *range(505, 520)])
def test_blank_comments_are_rows_of_blocks(size):
    comment = blank_comment(size)
    assert len(comment) == size
    at = 2
    while comment[at]:
        at += comment[at] + 1
    assert at == size - 1


@pytest.mark.parametrize("data", [b"GIF88a", b"GIF89a", gif(image=False)])
def test_what_is_no_picture_is_refused(data):
    plan = locate("image/gif", frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")
