"""Samsung's trailer: blocks by name, the directory behind them, and bytes in neither."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.jpeg.samsung_trailer import clean_trailer, find_trailer
from tests.support.samples import jpegs
from tests.support.samples.inners import Plain
from tests.support.samples.motion import blocks

PHOTO = b"\xff\xd8 a photo \xff\xd9"
PLACE = b"47.80453, 13.04229"
PICTURE = jpegs.plain()


def read(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What is read of a file with a trailer; the trailer is found again, and has no more to hide."""
    trailer = find_trailer(MemorySource(data), len(PHOTO))
    assert trailer is not None
    found = clean_trailer(MemorySource(data), trailer, Plain(hide))
    out = apply(data, in_order(found.patches, len(data)))
    assert bool(found.notes) == bool(found.patches)
    again = find_trailer(MemorySource(out), len(PHOTO))
    assert again == trailer
    assert not clean_trailer(MemorySource(out), again, Plain(hide)).patches
    return out


def made(*parts: tuple[int, bytes, bytes]) -> bytes:
    return PHOTO + blocks(parts)


UTC = (0x0A01, b"Image_UTC_Data", b"1715937753000")


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_trailer_cut_off_is_none(cut):
    assert find_trailer(MemorySource(made(UTC)[:-cut]), len(PHOTO)) is None


def test_a_trailer_and_its_blocks():
    data = made(UTC, (0x0A30, b"MotionPhoto_Version", b"mpv3"))
    trailer = find_trailer(MemorySource(data), len(PHOTO))
    assert trailer is not None
    assert trailer.start == len(PHOTO)
    assert trailer.end == len(data)
    assert [data[one.start + 8 : one.end] for one in trailer.blocks] == [
        b"Image_UTC_Data1715937753000",
        b"MotionPhoto_Versionmpv3",
    ]
    assert find_trailer(MemorySource(data), len(PHOTO) + 1) is None
    for text in (b"", b"SEFT", b"x" * 7, PHOTO):
        assert find_trailer(MemorySource(text), 0) is None


@pytest.mark.parametrize(("offset", "value"), [(8, 9), (16, 1), (16, 200), (20, 7), (20, 2000)])
def test_a_directory_that_lies_is_none(offset, value):
    """Its count; a block's distance; a block's size."""
    data = bytearray(made(UTC, UTC))
    at = data.index(b"SEFH") + offset
    data[at : at + 4] = value.to_bytes(4, "little")
    assert find_trailer(MemorySource(bytes(data)), len(PHOTO)) is None


@pytest.mark.parametrize(
    ("block", "hide", "stays"),
    [
        (UTC, Tells.LOCATION, True),
        (UTC, Tells.TIME, False),
        ((0x0AA1, b"MCC_Data", b"232"), Tells.LOCATION, False),
        ((0x0AA1, b"MCC_Data", b"232"), Tells.TIME, True),
        ((0x0A01, b"MCC_Data", b"232"), Tells.TIME, False),
        ((0x0A01, b"MotionPhoto_AutoPlay", UTC[2]), Tells.TIME, False),
        ((0x0AA1, b"MotionPhoto_Version", b"228"), Tells.LOCATION, False),
        ((0x0AA1, b"MotionPhoto_Version", b"228"), Tells.TIME, True),
        ((0x0A01, b"Own_Data", b"quince"), Tells.TIME, False),
        ((0x0A01, b"Burst_Shot_Info", b"quince"), Tells.DEVICE, False),
        ((0x0AB1, b"DualShot_DepthMap_1", b"quince"), Tells.LOCATION, True),
        ((0x0AB1, b"DualShot_DepthMap_1", b"quince"), Tells.OTHER, False),
        ((0x0AB1, b"DualShot_DepthMap_1", PLACE), Tells.LOCATION, False),
        ((0x0AB1, b"DualShot_DepthMap_1", PLACE + bytes(9)), Tells.LOCATION, False),
        ((0x0AB1, b"DualShot_DepthMap_1", bytes(range(256)) * 300), Tells.LOCATION, True),
        ((0x0AB1, b"DualShot_DepthMap_1234", b"quince"), Tells.LOCATION, False),
        ((0x0A33, b"MotionPhoto_AutoPlay", b"1"), UNKNOWN, True),
        ((0x0A01, b"MotionPhoto_AutoPlay", PLACE), Tells.LOCATION, False),
        ((0x0A01, b"Camera_Capture_Mode_Info", b"1"), Tells.LOCATION, True),
        ((0x0A01, b"Camera_Capture_Mode_Info", PLACE), Tells.LOCATION, False),
        ((0x0A01, b"Camera_Capture_Mode_Info", bytes(1 << 16)), Tells.LOCATION, True),
        ((0x0C81, b"Color_Display_P3", b"\1\0\0\0"), Tells.LOCATION, True),
        ((0x0D01, b"Camera_Scene_Info", b"2"), Tells.LOCATION, True),
        ((0x0D01, b"Camera_Scene_Info", PLACE), Tells.LOCATION, False),
        ((0x0D01, b"Camera_Scene_Info", b"2345"), Tells.OTHER, False),
        ((0x0CD2, b"Photo_HDR_Info", b"\0"), Tells.LOCATION, True),
        ((0x0CD2, b"Photo_HDR_Info", b"\0\1\2\3\x2f"), Tells.LOCATION, False),
        ((0x0100, b"MotionPhoto_Version", PICTURE), Tells.LOCATION, False),
        ((0x0100, b"Camera_Capture_Mode_Info", PICTURE), Tells.TIME, False),
        ((0x0AB1, b"DualShot_DepthMap_1", PICTURE), Tells.LOCATION, True),
        ((0x0AB1, b"DualShot_DepthMap_1", b"\0\0\0\x18ftypmp42" + bytes(12)), Tells.LOCATION, False),
        ((0x0A01, b"Camera_Capture_Mode_Info", bytes(1 << 16) + PLACE), Tells.LOCATION, False),
    ],
)
def test_blocks(block, hide, stays):
    data = made(block)
    out = read(data, hide)
    assert (out == data) is stays
    if not stays:
        assert block[1] not in out
        assert block[2].strip(b"\0") not in out


@pytest.mark.parametrize("cleaned", [True, False])
def test_a_depth_map_that_is_a_picture_is_cleaned_as_one(cleaned):
    class Pictures(Plain):
        def image(self, data: bytes) -> Cleaned | None:
            return Cleaned(data.replace(PLACE, bytes(len(PLACE)))) if cleaned else None

    data = made((0x0AB1, b"DualShot_DepthMap_1", b"\xff\xd8\xff" + PLACE + b"\xff\xd9"))
    trailer = find_trailer(MemorySource(data), len(PHOTO))
    assert trailer is not None
    out = apply(data, in_order(clean_trailer(MemorySource(data), trailer, Pictures()).patches, len(data)))
    assert PLACE not in out
    assert (b"DualShot_DepthMap_1" in out) is cleaned


@pytest.mark.parametrize("entry", [False, True])
@pytest.mark.parametrize("at", [0, 2])
def test_a_block_of_two_types_goes(entry, at):
    """ExifTool reads a block as its directory says; another reader may look at the block."""
    data = bytearray(made((0x0A30, b"MotionPhoto_Version", b"mpv3")))
    assert read(bytes(data)) == data
    start = data.index(b"SEFH") + 12 if entry else len(PHOTO)
    data[start + at] ^= 1
    assert b"mpv3" not in read(bytes(data))


def test_a_block_whose_name_is_longer_than_it_goes():
    data = made(UTC)
    at = data.index(UTC[1]) - 4
    long = data[:at] + (99).to_bytes(4, "little") + data[at + 4 :]
    assert UTC[2] not in read(long)


def test_bytes_in_no_block_go():
    second = (0x0A01, b"MotionPhoto_AutoPlay", b"1")
    whole = made(UTC, second)
    at = whole.index(second[1]) - 8
    entry = whole.index(b"SEFH") + 12
    moved = bytearray(whole[:at] + PLACE + whole[at:])
    entry += len(PLACE)
    far = int.from_bytes(moved[entry + 4 : entry + 8], "little") + len(PLACE)
    moved[entry + 4 : entry + 8] = far.to_bytes(4, "little")
    out = read(bytes(moved))
    assert PLACE not in out
    assert UTC[2] in out
    tail = (
        whole[:-8]
        + PLACE
        + (int.from_bytes(whole[-8:-4], "little") + len(PLACE)).to_bytes(4, "little")
        + b"SEFT"
    )
    assert PLACE not in read(tail)
