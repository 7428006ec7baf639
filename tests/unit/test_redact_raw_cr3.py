"""CR3: Canon's boxes, tracks and blocks, put together as its cameras do."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.plan import Outcome, Plan, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs
from tests.support.samples.cr3s import CITY, COLOURS, LATITUDE, RAW, SECRET, canon, cr3, tiff
from tests.support.samples.movies import box, full, mvhd, u16, u32

KIND = "image/x-canon-cr3"


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
    assert len(SECRET).to_bytes(4, "little") + bytes(len(SECRET) - 4) in out  # a record of CTMD


@pytest.mark.parametrize("lead", [b"\0", b"\xff", bytes(900)])
def test_decoders_skip_bytes_before_a_jpeg(lead):
    found, out = plan(cr3(lead=lead))
    assert found.outcome is Outcome.PATCH
    assert LATITUDE not in out
    assert out.count(RAW) == 1


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


def test_canons_box_may_have_a_long_size():
    own = canon()
    found, out = plan(cr3(own=u32(1) + own[4:8] + (len(own) + 8).to_bytes(8) + own[8:]))
    assert found.outcome is Outcome.PATCH
    assert LATITUDE not in out
    assert RAW in out


def test_the_second_hand_of_gps_is_a_time():
    clock = tiff(*jpegs.gps("II"), (0x1D, jpegs.ASCII, 11, b"2024:05:17\0"))
    out = told(cr3(own=canon(CMT4=clock)), Tells.TIME)
    assert b"2024:05:17" not in out
    assert LATITUDE in out


@pytest.mark.parametrize("name", ["CMT1", "CMT2", "CMT3", "CMT4", "THMB", "CNCV", "ABCD", "CTBO"])
def test_blocks_that_are_none(name):
    long = SECRET * (2 if name != "CTBO" else 300)
    out = plan(cr3(own=canon(**{name: long})))[1]
    assert SECRET not in out
    for hide in (Tells.TIME, Tells.PEOPLE):
        told(cr3(own=canon(**{name: long})), hide)
    assert RAW in out


def test_other_boxes_of_the_movie():
    out = plan(cr3(moov=box(b"udta", box(b"\xa9xyz", u16(20, 0), SECRET)) + full(b"meta", SECRET)))[1]
    assert SECRET not in out


def test_other_files_are_refused():
    assert plan(b"no photo")[0].outcome is Outcome.REFUSE
    assert plan(cr3().replace(b"ftypcrx ", b"ftypisom"))[0].outcome is Outcome.REFUSE
    assert plan(cr3()[:200])[0].outcome is Outcome.REFUSE
    assert plan(box(b"ftyp", b"crx ", u32(1)) + box(b"moov", canon(), mvhd()))[0].outcome is Outcome.REFUSE


def test_a_preview_that_is_none():
    photo = jpegs.photo_with(jpegs.exif("II"))
    broken = b"\xff\xd8\xff\xe1" + SECRET
    out = plan(cr3().replace(photo, broken.ljust(len(photo), b"\0")))[1]
    assert SECRET not in out
    assert RAW in out


def test_a_block_of_the_makers_numbers_is_no_text():
    """The same tag stays in a CR2, where long binary values are not searched."""
    block = bytes(range(0x80, 0xB0)) * 20 + b"0\xb01" + bytes(range(0x80, 0xB0)) * 20
    maker = tiff((0x0006, jpegs.ASCII, 10, b"Canon R99\0"), (0x4005, 7, len(block), block))
    assert block in plan(cr3(own=canon(CMT3=maker)))[1]
    hidden = block[:40] + SECRET + block[40 + len(SECRET) :]
    maker = tiff((0x0006, jpegs.ASCII, 10, b"Canon R99\0"), (0x4005, 7, len(block), hidden))
    assert SECRET not in plan(cr3(own=canon(CMT3=maker)))[1]
