"""IPTC records and Photoshop resources: what goes, what moves up, which digests follow."""

from __future__ import annotations

import hashlib
import struct

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.registry import locate_in
from policyfs.redact.tags.iptc import clean_iim as clean_records
from policyfs.redact.tags.iptc import clean_irb
from tests.support.samples import jpegs
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.jpegs import (
    TEXT_COORDINATES,
    iptc_place,
    leaks,
    plain,
    record,
    resource,
    with_segments,
)
from tests.support.samples.media import HOME


def clean_iim(data: bytes) -> Cleaned:
    return clean_records(data, PLACES)


class _WithRecords(Plain):
    def iim(self, data: bytes) -> Cleaned:
        return clean_iim(data)


def test_the_kept_records_move_up():
    out = clean_iim(iptc_place())
    kept = record(2, 0, b"\0\4") + record(2, 80, b"Rosa Kamera") + record(2, 120, b"a quince")
    assert out.data == kept + bytes(len(iptc_place()) - len(kept))
    assert [note.tag for note in out.notes] == ["2:27", "2:90", "2:92", "2:95", "2:101"]


@pytest.mark.parametrize("dataset", [1, 13, 26, 27, 90, 91, 92, 93, 95, 100, 101, 102, 149, 200, 202, 230])
def test_datasets_that_go(dataset):
    data = record(2, 80, b"Rosa") + record(2, dataset, HOME.city.encode())
    assert clean_iim(data).data == record(2, 80, b"Rosa").ljust(len(data), b"\0")


def test_a_caption_as_a_picture_is_peoples_words():
    data = record(2, 80, b"Rosa") + record(2, 125, bytes(range(100)))
    assert clean_records(data, Plain(Tells.DEVICE)).data == data
    assert not clean_records(data, Plain(Tells.PEOPLE)).data.strip(b"\0")


@pytest.mark.parametrize("number", [0x07D0, 0x0804, 0x0BB6])
def test_a_path_consists_of_records_of_one_length(number):
    path = resource(number, bytes(range(26)) * 2)
    assert clean_irb(path, PLACES).data == path
    other = resource(number, record(2, 90, HOME.city.encode()))
    assert HOME.city.encode() not in clean_irb(other, PLACES).data


@pytest.mark.parametrize("number", [0, 3, 7, 8, 9, 240])
def test_records_that_are_not_known(number):
    assert not any(clean_iim(record(number, 90, HOME.city.encode())).data)


def test_coordinates_in_a_caption():
    assert not any(clean_iim(record(2, 120, TEXT_COORDINATES.encode())).data)


def test_long_records():
    size = (70000).to_bytes(4)
    data = b"\x1c\x02\x50\x80\x04" + size + b"x" * 70000 + record(2, 90, b"Z")
    assert clean_iim(data).data == data[:-6] + bytes(6)


@pytest.mark.parametrize(
    "tail",
    [
        b"\x1c\x02\x5a\x00\xff" + HOME.city.encode(),
        b"\x1c\x02\x5a\x80\x09" + bytes(9),
        HOME.city.encode(),
        b"\x1c\x02",
    ],
)
def test_what_is_no_record_goes_with_all_behind_it(tail):
    data = record(2, 80, b"Rosa") + tail + record(2, 80, b"Otto")
    out = clean_iim(data).data
    assert out == record(2, 80, b"Rosa").ljust(len(data), b"\0")


def test_a_digest_of_the_records_follows_them():
    old = iptc_place()
    block = resource(0x0404, old) + resource(0x0425, hashlib.md5(old).digest())
    out = clean_irb(block, _WithRecords()).data
    new = clean_iim(old).data
    assert out == resource(0x0404, new) + resource(0x0425, hashlib.md5(new).digest())
    assert clean_irb(out, _WithRecords()).data == out


def test_a_digest_of_something_else_goes():
    block = resource(0x0404, iptc_place()) + resource(0x0425, hashlib.md5(b"other").digest())
    assert clean_irb(block, _WithRecords()).data.endswith(resource(0x0425, bytes(16)))


def test_a_digest_of_the_records_stays_while_they_do():
    records = record(2, 80, b"Rosa")
    block = resource(0x0404, records) + resource(0x0425, hashlib.md5(records).digest())
    assert clean_irb(block, _WithRecords()) == Cleaned(block)
    without = resource(0x0425, hashlib.md5(b"").digest())
    assert clean_irb(without, _WithRecords()) == Cleaned(without)


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        (hashlib.md5(b"other").digest(), True),
        (b"47.80453,13.0422", False),
        (b"Zirbelstadt", False),
        (f"at {TEXT_COORDINATES}".encode(), False),
    ],
)
def test_what_is_no_digest_of_the_records_goes(value, bare):
    """A digest of older records would confirm a guess of their place."""
    kept = resource(0x0404, record(2, 80, b"Rosa"))
    out = clean_irb(kept + resource(0x0425, value), _WithRecords())
    assert out.data == kept + resource(0x0425, bytes(len(value)))
    assert [note.bare for note in out.notes] == [bare]
    assert clean_irb(out.data, _WithRecords()) == Cleaned(out.data)


def test_the_header_of_a_thumbnail_stays_if_its_fields_fit():
    jpeg = plain()
    header = struct.pack(">6I2H", 1, 47, 48, 144, 144 * 48, len(jpeg), 24, 1)
    block = resource(0x040C, header + jpeg)
    assert clean_irb(block, PLACES) == Cleaned(block)
    for other in (
        f"at {TEXT_COORDINATES}".encode().ljust(28)[:28],
        header[:20] + len(jpeg).to_bytes(4, "little") + header[24:],
        struct.pack(">6I2H", 1, 47, 48, 141, 141 * 48, len(jpeg), 24, 1),
    ):
        out = clean_irb(resource(0x040C, other + jpeg), PLACES)
        assert out.data == resource(0x040C, bytes(28) + jpeg)
        assert [note.tag for note in out.notes] == ["thumbnail header"]
    short = clean_irb(resource(0x040C, TEXT_COORDINATES.encode()[:18]), PLACES)
    assert not any(short.data[12:])


def test_kept_resources_stay_as_they_are():
    block = resource(0x03ED, bytes(range(16)), b"resolution") + resource(0x0421, b"version", b"")
    block += resource(0x043B, b"print style") + resource(0x042D, bytes(range(6)))
    assert clean_irb(block, _WithRecords()) == Cleaned(block)


def test_unknown_resources_keep_their_frame():
    block = resource(0x0FA0, HOME.city.encode()) + resource(0x0421, b"version")
    assert clean_irb(block, _WithRecords()).data == resource(0x0FA0, bytes(len(HOME.city))) + resource(
        0x0421, b"version"
    )


def test_other_signatures_are_not_read():
    block = resource(0x0404, iptc_place()).replace(b"8BIM", b"PHUT")
    assert not leaks(clean_irb(block, _WithRecords()).data)


def test_exiftool_reads_the_resources_as_before(tmp_path):
    path = tmp_path / "out.jpg"
    old = iptc_place()
    block = resource(0x03ED, b"\0\x48\0\0\0\1\0\1" * 2) + resource(0x0404, old)
    block += resource(0x0425, hashlib.md5(old).digest())
    data = with_segments(plain(), jpegs.photoshop_segment(block))
    path.write_bytes(apply(data, locate_in("image/jpeg", MemorySource(data), Tells.LOCATION).patches))
    (tags,) = jpegs.exiftool(path)
    names = {name.rpartition(":")[2]: value for name, value in tags.items()}
    assert names["By-line"] == "Rosa Kamera"
    assert names["Caption-Abstract"] == "a quince"
    assert names["IPTCDigest"] == names["CurrentIPTCDigest"]
    assert "Warning" not in names


# --- what says nothing of a place ---


@pytest.mark.parametrize(
    "data",
    [
        record(1, 5, b"Kamera AG"),
        record(7, 10, b"\1"),
        record(7, 20, b"\0\0\x20\0"),
        record(7, 90, b"\0\0\x20\0"),
        record(9, 10, b"\0\0\x20\0"),
    ],
)
def test_sizes_and_the_addressee_of_records_stay(data):
    assert clean_iim(data).data == data


@pytest.mark.parametrize("data", [record(7, 10, b"Zirbelstadt"), record(1, 5, TEXT_COORDINATES.encode())])
def test_they_go_where_a_place_stands_in_them(data):
    assert clean_iim(data).data == bytes(len(data))


@pytest.mark.parametrize("number", [0x03ED, 0x0408, 0x041A, 0x042F, 0x0431, 0x0433, 0x0436, 0x043A, 0x043B])
def test_resources_of_numbers_stay(number):
    block = resource(number, bytes(8) + b"\x31\xb0\x32\0\0" + bytes(range(256)))
    assert clean_irb(block, PLACES) == Cleaned(block)


@pytest.mark.parametrize("number", [0x03ED, 0x0408, 0x041A, 0x042F, 0x0431, 0x0433, 0x0436, 0x043A, 0x043B])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-be"])
@pytest.mark.parametrize("text", [TEXT_COORDINATES, "47\xb048'16\" N", "latitude: 47.8"])
def test_resources_of_numbers_in_which_a_place_is_written_go(number, encoding, text):
    said = text.encode(encoding)
    block = resource(number, b"\1\xff" + said + b"\xff\2\0\0")
    assert said not in clean_irb(block, PLACES).data


@pytest.mark.parametrize("number", [0x042E, 0x0438, 0x0FFF])
def test_resources_that_are_not_listed_still_go(number):
    block = resource(number, b"Zirbelstadt!")
    assert b"Zirbel" not in clean_irb(block, PLACES).data


def test_texts_go_unread_once_the_budget_for_texts_is_used_up():
    inner = Plain()
    inner.budget.texts = 20
    two = jpegs.record(2, 120, b"A quince") * 2
    assert clean_records(two, inner).data == two
    assert clean_records(two, inner).data == bytes(len(two))
    caption = jpegs.resource(0x03F0, b"A quince")
    assert clean_irb(caption, Plain()).data == caption
    assert b"A quince" not in clean_irb(caption, inner).data


@pytest.mark.parametrize("number", [0x03EE, 0x0415, 0x041A, 0x0BB7])
def test_names_of_slices_channels_and_a_path_are_peoples_words(number):
    """Photoshop names the group of slices as the document."""
    block = resource(number, bytes(24) + "Rosa Kamera".encode("utf-16-be"))
    assert clean_irb(block, Plain(Tells.TIME)).data == block
    assert "Rosa".encode("utf-16-be") not in clean_irb(block, Plain(Tells.PEOPLE)).data


def _frame(number: bytes, again: bytes, tail: bytes = b"") -> bytes:
    """The resource of an animation that Photoshop CS2 writes into a still picture."""

    def long(key: bytes, value: bytes) -> bytes:
        return bytes(4) + key + b"long" + value

    def one(key: bytes, members: int) -> bytes:
        return bytes(4) + key + b"VlLs\0\0\0\1Objc\0\0\0\1" + bytes(6) + b"null\0\0\0" + bytes([members])

    frames = one(b"FrIn", 1) + long(b"FrID", number)
    sets = one(b"FSts", 4) + long(b"FsID", bytes(4)) + long(b"AFrm", bytes(4))
    sets += bytes(4) + b"FsFrVlLs\0\0\0\1long" + again + long(b"LCnt", bytes(4))
    data = b"\0\0\0\x10\0\0\0\1" + bytes(6) + b"null\0\0\0\3" + long(b"AFSt", bytes(4)) + frames + sets
    inside = b"8BIMAnDs" + len(data).to_bytes(4) + data + b"\0\0" + b"8BIMRoll\0\0\0\x08" + bytes(8)
    return b"maniIRFR" + len(inside).to_bytes(4) + inside + tail


STILL = bytes.fromhex("6d667269000000020000001000000001000000000000000100000000")


def test_the_only_frame_of_a_still_picture_stays():
    for number, data in ((0x0FA0, _frame(b"s\x8b\xab\xe7", b"s\x8b\xab\xe7")), (0x0FA1, STILL)):
        block = resource(number, data)
        assert clean_irb(block, PLACES).data == block
        assert data[:4] not in clean_irb(block, Plain(Tells.OTHER)).data
    for number, data in (
        (0x0FA0, _frame(b"47.8", b"13.0")),
        (0x0FA0, _frame(b"s\x8b\xab\xe7", b"s\x8b\xab\xe7", HOME.city.encode())),
        (0x0FA1, STILL + HOME.city.encode()),
        (0x0FA1, STILL[:-4] + b"47.8"),
    ):
        assert data[:4] not in clean_irb(resource(number, data), PLACES).data
