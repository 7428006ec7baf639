"""CR3: Canon's boxes, tracks and blocks, put together as its cameras do."""

from __future__ import annotations

import pytest

from policyfs.redact.locators import locate_in
from policyfs.redact.plan import Outcome, Plan, locate
from policyfs.redact.ranges import MemorySource, apply, in_order
from policyfs.redact.tells import Tells
from tests.support import jpegs
from tests.support.media import HOME
from tests.support.movies import Track as Trak
from tests.support.movies import box, full, mvhd, u16, u32, uuid

KIND = "image/x-canon-cr3"
CITY = HOME.city.encode()
XMP = jpegs.xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
SECRET = b"47.804531, 13.042287"
LATITUDE = jpegs.pack("II", *jpegs.LATITUDE)
CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
PREVIEW = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
RAW = bytes(range(1, 200)) * 3
COLOURS = bytes(range(60))


def tiff(*entries: jpegs.Entry) -> bytes:
    return jpegs.tiff("II", (8, jpegs.ifd("II", 8, entries)))


MAKER = tiff(
    (0x0006, jpegs.ASCII, 10, b"Canon R99\0"),
    (0x4001, jpegs.SHORT, 30, COLOURS),
    (0x0035, jpegs.LONG, 4, b"zone" * 4),
    (0x7777, jpegs.ASCII, len(SECRET), SECRET),
)


def canon(**other: bytes) -> bytes:
    """Canon's own box."""
    blocks = {
        "CNCV": b"CanonCR3_001/00.09.00/00.00.00",
        "CTBO": u32(1, 1) + bytes(16),
        "CMT1": tiff(jpegs.text(0x010F, "Canon"), jpegs.text(0x0110, "EOS R99"), jpegs.text(0x013B, "Rosa")),
        "CMT2": tiff(jpegs.text(0x9003, "2024:05:17 11:22:33")),
        "CMT3": MAKER,
        "CMT4": tiff(*jpegs.gps("II")),
        "THMB": bytes(4) + u16(160, 120) + u32(0, 1) + jpegs.photo_with(jpegs.exif("II")),
    }
    return uuid(CANON, *(box(k.encode(), v) for k, v in (blocks | other).items()))


def craw(kind: bytes, sample: bytes, number: int) -> tuple[Trak, bytes]:
    entry = u16(1, 1) + box(kind, bytes(8))
    return Trak(format=b"CRAW", samples=(sample,), number=number, entry=entry), sample


def cr3(*, after: bytes = b"", own: bytes | None = None, moov: bytes = b"") -> bytes:
    """A whole file: a JPEG, raw pixels, timed metadata."""
    photo = jpegs.photo_with(jpegs.exif("II"))
    timed = Trak(kind=b"meta", format=b"CTMD", samples=(SECRET,), number=3)
    tracks = [craw(b"JPEG", photo, 1), craw(b"CMP1", RAW, 2), (timed, SECRET)]
    extra = uuid(XMP_UUID, XMP) + uuid(PREVIEW, bytes(8), box(b"PRVW", bytes(16) + photo))
    at, whole = 0, b""
    for _ in range(2):
        offsets, places = at, []
        for _, sample in tracks:
            places.append(offsets)
            offsets += len(sample)
        traks = b"".join(t.trak([p]) for (t, _), p in zip(tracks, places, strict=True))
        mine = canon() if own is None else own
        whole = box(b"ftyp", b"crx ", u32(1), b"crx isom") + box(b"moov", mine, mvhd(), traks, moov) + extra
        at = len(whole) + 8
    return whole + box(b"mdat", *(sample for _, sample in tracks), b"between") + after


def plan(data: bytes) -> tuple[Plan, bytes]:
    found = locate(KIND, frozenset({"location"}), MemorySource(data))
    assert not found.reason.startswith("internal error"), found.reason
    out = apply(data, found.patches)
    if found.outcome is not Outcome.REFUSE:
        again = locate(KIND, frozenset({"location"}), MemorySource(out))
        assert again.outcome is Outcome.CLEAN, again
    return found, out


def told(data: bytes, hide: Tells) -> bytes:
    source = MemorySource(data)
    out = apply(data, in_order(locate_in(KIND, source, hide).patches, len(data)))
    assert not locate_in(KIND, MemorySource(out), hide).patches
    return out


def test_every_place_of_it():
    found, out = plan(cr3(after=box(b"free", SECRET) + box(b"abcd", SECRET) + b"\0\0\0\7" + SECRET))
    assert found.outcome is Outcome.PATCH
    for secret in (LATITUDE, CITY, SECRET, b"zone", b"between"):
        assert secret not in out
    for kept in (RAW, COLOURS, b"EOS R99", b"Canon R99", b"Rosa", b"2024:05:17", b"CMP1", b"CanonCR3"):
        assert kept in out
    assert out.count(b"Testmaker") == 3


@pytest.mark.parametrize(
    ("hide", "gone", "kept"),
    [
        (Tells.DEVICE, [b"EOS R99", b"Canon R99", b"Testmaker"], [b"Rosa", b"2024:05:17", LATITUDE, CITY]),
        (Tells.TIME, [b"2024:05:17"], [b"EOS R99", b"Rosa", LATITUDE]),
        (Tells.PEOPLE, [b"Rosa"], [b"EOS R99", b"2024:05:17", LATITUDE]),
    ],
)
def test_by_word(hide, gone, kept):
    out = told(cr3(), hide)
    for secret in (*gone, SECRET):
        assert secret not in out
    for each in (*kept, RAW, COLOURS):
        assert each in out


def test_the_second_hand_of_gps_is_a_time():
    clock = tiff(*jpegs.gps("II"), (0x1D, jpegs.ASCII, 11, b"2024:05:17\0"))
    out = told(cr3(own=canon(CMT4=clock)), Tells.TIME)
    assert b"2024:05:17" not in out
    assert LATITUDE in out


@pytest.mark.parametrize("name", ["CMT1", "CMT2", "CMT3", "CMT4", "THMB", "CNCV", "ABCD", "CTBO"])
def test_blocks_that_are_none(name):
    long = SECRET * (1 if name != "CTBO" else 300)
    out = plan(cr3(own=canon(**{name: long})))[1]
    assert SECRET not in out
    assert RAW in out


def test_other_boxes_of_the_movie():
    out = plan(cr3(moov=box(b"udta", box(b"\xa9xyz", u16(20, 0), SECRET)) + full(b"meta", SECRET)))[1]
    assert SECRET not in out


def test_other_files_are_refused():
    assert plan(b"no photo")[0].outcome is Outcome.REFUSE
    assert plan(cr3().replace(b"ftypcrx ", b"ftypisom"))[0].outcome is Outcome.REFUSE
    assert plan(cr3()[:200])[0].outcome is Outcome.REFUSE
    assert plan(box(b"ftyp", b"crx ", u32(1)) + box(b"moov", canon(), mvhd()))[0].outcome is Outcome.REFUSE
