"""Whole TIFF files and raws, byte by byte: what nothing honest refers to becomes zero, pixels never do."""

from __future__ import annotations

import hashlib
import struct
import time

import pytest

from policyfs.formats import FORMATS
from policyfs.redact.core.patches import ByteSource, MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, locate
from tests.support.samples import jp2s, jpegs, tiffs
from tests.support.samples.jpegs import (
    EXIF_IFD,
    GPS_IFD,
    LONG,
    SOI,
    SUB_IFDS,
    Entry,
    exif,
    exif_segment,
    gps,
    ifd,
    iptc_place,
    leaks,
    long,
    pack,
    plain,
    text,
    with_segments,
    xmp_packet,
)
from tests.support.samples.media import HOME
from tests.support.samples.movies import box
from tests.support.samples.notes import CITY, MAKERS, SETTING, note_of
from tests.support.samples.redacted import redacted
from tests.support.samples.sounds import chunk
from tests.support.samples.tiffs import PIXELS, classic, picture, short
from tests.support.samples.trailers import TRAILERS

CITY_XMP = f"<photoshop:City>{HOME.city}</photoshop:City>"
BEHIND = 0x1400
"""An offset behind the directory of classic()."""


def plan_for(data: bytes, word: str = "location") -> Plan:
    return locate("image/tiff", frozenset({word}), MemorySource(data))


def read(data: bytes, word: str = "location") -> bytes:
    """What a reader gets; redacting that again finds nothing."""
    plan = plan_for(data, word)
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    out = apply(data, plan.patches)
    assert len(out) == len(data)
    assert plan_for(out, word).outcome is Outcome.CLEAN
    return out


def placed(order: str, *entries: Entry, behind: bytes, **options: int) -> bytes:
    """A TIFF with something at BEHIND."""
    data = classic(order, *entries, **options)
    assert len(data) <= BEHIND
    return data.ljust(BEHIND, b"\0") + behind


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("word", ["location", "device", "time", "people", "all-metadata"])
def test_what_tells_nothing_stays_bit_by_bit(order, word):
    data = classic(order, strips=8)
    assert plan_for(data, word).outcome is Outcome.CLEAN


@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_gps_directory_goes_with_its_values(order):
    data = placed(order, text(0x010F, "Testmaker"), long(order, GPS_IFD, BEHIND), behind=b"")
    data += ifd(order, BEHIND, gps(order))
    assert leaks(data)
    out = read(data)
    assert leaks(out) == []
    assert PIXELS in out
    assert b"Testmaker" in out
    assert not any(out[BEHIND:])


@pytest.mark.parametrize("order", ["II", "MM"])
def test_words_take_out_what_they_mean(order):
    tags = {
        "device": text(0x010F, "Testmaker"),
        "people": text(0x013B, "Rosa Kamera"),
        "time": text(0x0132, "2024:05:17 11:22:33"),
    }
    data = classic(order, *tags.values())
    for word in tags:
        out = read(data, word)
        for other, entry in tags.items():
            assert (entry[3] in out) == (other != word)
        assert PIXELS in out


HIDDEN = {
    "behind everything": lambda o: classic(o, behind=CITY.encode()),
    "in a directory that nothing refers to": lambda o: (
        classic(o).ljust(BEHIND, b"\0") + ifd(o, BEHIND, gps(o))
    ),
    "where a GPS pointer misses": lambda o: placed(
        o, long(o, GPS_IFD, BEHIND + 2), behind=ifd(o, BEHIND, gps(o))
    ),
    "in a page": lambda o: placed(
        o, behind=ifd(o, BEHIND, [*picture(o, 8), text(0x010E, jpegs.TEXT_COORDINATES)]), following=BEHIND
    ),
    "in a sub-directory": lambda o: placed(
        o,
        long(o, SUB_IFDS, BEHIND),
        behind=ifd(o, BEHIND, [*picture(o, 8), (0x8482, 12, 6, struct.pack("6d", *[HOME.latitude] * 6))]),
    ),
    "in XMP": lambda o: classic(o, (0x02BC, 1, len(xmp_packet(CITY_XMP)), xmp_packet(CITY_XMP))),
    "in IPTC": lambda o: classic(o, (0x83BB, 7, len(iptc_place()), iptc_place())),
    "in IPTC as longs": lambda o: classic(o, (0x83BB, 4, 36, iptc_place().ljust(144, b"\0")[:144])),
    "in Photoshop's": lambda o: classic(
        o, (0x8649, 7, len(jpegs.resource(0x0404, iptc_place())), jpegs.resource(0x0404, iptc_place()))
    ),
    "in a private tag": lambda o: classic(o, text(0xC999, CITY)),
    "in GeoTIFF's": lambda o: classic(o, text(0x87B1, CITY)),
    "in GDAL's": lambda o: classic(o, text(0xA480, f"<Item>{CITY}</Item>")),
    "in a tag of an unknown type": lambda o: classic(o, (0x010E, 200, 99, b"")) + CITY.encode(),
    "in the original of a DNG": lambda o: classic(o, (0xC68C, 7, len(CITY), CITY.encode())),
    "in a maker note": lambda o: classic(
        o, text(0x010F, "Nobody"), (0x927C, 7, len(CITY) + 4, b"NOB\0" + CITY.encode())
    ),
    "in private data of a DNG": lambda o: classic(o, (0xC634, 7, len(CITY) + 6, b"Adobe\0" + CITY.encode())),
}


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("case", HIDDEN)
def test_places_where_a_lazy_reader_does_not_look(case, order):
    data = HIDDEN[case](order)
    assert leaks(data) or struct.pack("d", HOME.latitude) in data
    out = read(data)
    assert leaks(out) == []
    assert struct.pack("d", HOME.latitude) not in out
    assert PIXELS in out


def test_a_place_within_pixels_goes_if_a_tag_called_it_one():
    """A strip covers the whole file, the GPS directory, too."""
    data = bytearray(placed("II", long("II", GPS_IFD, BEHIND), behind=ifd("II", BEHIND, gps("II"))))
    counts = data.index(pack("II", 0x0117, 4, size=2))
    data[counts + 8 : counts + 12] = pack("II", len(data) - 8)
    assert leaks(bytes(data))
    assert leaks(read(bytes(data))) == []


def test_values_over_one_that_goes_go_too():
    data = bytearray(placed("II", text(0x010F, "x" * 40), long("II", GPS_IFD, BEHIND), behind=b""))
    data += ifd("II", BEHIND, gps("II"))
    make = data.index(pack("II", 0x010F, 2, size=2))
    data[make + 8 : make + 12] = pack("II", BEHIND + bytes(data[BEHIND:]).index(pack("II", *jpegs.LATITUDE)))
    assert leaks(read(bytes(data))) == []


def test_pages_and_sub_directories_keep_their_pixels():
    behind = bytes(range(256)) * 4
    second = ifd("MM", BEHIND, [*picture("MM", BEHIND + 0x400, size=1024)], BEHIND + 0x800)
    third = ifd("MM", BEHIND + 0x800, [*picture("MM", BEHIND + 0xC00, size=1024)])
    parts = [second.ljust(0x400, b"\0"), behind, third.ljust(0x400, b"\0"), behind]
    data = placed("MM", behind=b"".join(parts), following=BEHIND)
    assert plan_for(data, "all-metadata").outcome is Outcome.CLEAN


def test_a_preview_in_jpeg_is_cleaned_in_place():
    preview = with_segments(plain(), exif_segment(exif("MM")))
    pair = [long("II", 0x0201, BEHIND), long("II", 0x0202, len(preview)), short("II", 0x0103, 6)]
    data = placed("II", long("II", SUB_IFDS, BEHIND + 0x4000), behind=preview)
    data = data.ljust(BEHIND + 0x4000, b"\0") + ifd("II", BEHIND + 0x4000, pair)
    out = read(data)
    assert leaks(out) == []
    shown = out[BEHIND : BEHIND + len(preview)]
    assert jpegs.pixels(shown) == jpegs.pixels(preview)
    assert b"Testmaker" in shown


def test_comments_in_strips_of_jpeg_go():
    strip = with_segments(plain(), jpegs.segment(0xFE, CITY.encode()), jpegs.segment(0xE5, CITY.encode()))
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0103, 0x0111, 0x0117)]
    both = [
        (0x0111, 4, 2, pack("II", 0x800, 0x800 + len(strip))),
        (0x0117, 4, 2, pack("II", *[len(strip)] * 2)),
    ]
    head = b"II" + pack("II", 42, size=2) + pack("II", 8)
    data = (head + ifd("II", 8, [*tags, *both, short("II", 0x0103, 7)])).ljust(0x800, b"\0") + strip * 2
    out = read(data)
    assert CITY.encode() not in out
    assert jpegs.pixels(out[0x800:]) == jpegs.pixels(strip)


def big(order: str) -> bytes:
    """A BigTIFF with a GPS directory."""

    def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
        return pack(order, tag, kind, size=2) + pack(order, count, size=8) + value.ljust(8, b"\0")

    def number(tag: int, value: int) -> bytes:
        return entry(tag, 16, 1, pack(order, value, size=8))

    at = 16 + len(PIXELS)
    latitude = pack(order, *jpegs.LATITUDE)
    gps_at, value_at = at + 400, at + 600
    tags = [number(0x0100, 64), number(0x0101, 64), number(0x0111, 16), number(0x0117, len(PIXELS))]
    tags.append(entry(GPS_IFD, 18, 1, pack(order, gps_at, size=8)))
    first = pack(order, len(tags), size=8) + b"".join(tags) + bytes(8)
    second = pack(order, 1, size=8) + entry(2, 5, 3, pack(order, value_at, size=8)) + bytes(8)
    head = order.encode() + pack(order, 43, 8, 0, size=2) + pack(order, at, size=8)
    data = (head + PIXELS + first).ljust(gps_at, b"\0") + second
    return data.ljust(value_at, b"\0") + latitude


@pytest.mark.parametrize("order", ["II", "MM"])
def test_bigtiff(order):
    data = big(order)
    assert leaks(data)
    out = read(data)
    assert leaks(out) == []
    assert out[: 16 + len(PIXELS)] == data[: 16 + len(PIXELS)]


@pytest.mark.parametrize("magic", [b"IIRO", b"IIRS", b"MMOR", b"IIU\0"])
def test_raws_with_a_magic_of_their_own(magic):
    order = magic[:2].decode()
    data = classic(order, long(order, GPS_IFD, BEHIND)).ljust(BEHIND, b"\0") + ifd(order, BEHIND, gps(order))
    out = read(magic + data[4:])
    assert leaks(out) == []
    assert PIXELS in out


def test_canon_raws_keep_their_header():
    data = classic("II")
    moved = b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + ifd("II", 16, picture("II", 0x800))
    data = moved.ljust(0x800, b"\0") + PIXELS
    assert plan_for(data, "all-metadata").outcome is Outcome.CLEAN


def test_panasonic_raws_keep_pixels_without_a_length():
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0111, 0x0117)]
    pixels = [long("II", 0x0111, 0xFFFFFFFF), long("II", 0x0118, 0x800)]
    data = (b"IIU\0" + pack("II", 8) + ifd("II", 8, [*tags, *pixels])).ljust(0x800, b"\0") + PIXELS
    assert plan_for(data, "all-metadata").outcome is Outcome.CLEAN


@pytest.mark.parametrize("name", ["Nikon", "Panasonic", "Olympus"])
def test_maker_notes_of_raws(name):
    maker = MAKERS[name]
    for order in ("II", "MM"):
        note = note_of(maker, order, BEHIND + 0x200)
        directory = [(0x927C, 7, len(note), b"\0" * len(note))]
        at = ifd(order, BEHIND, directory).index(pack(order, len(note))) + BEHIND
        data = placed(order, text(0x010F, maker.make), long(order, EXIF_IFD, BEHIND), behind=b"")
        data = (data + ifd(order, BEHIND, directory)[:18]).ljust(BEHIND + 0x200, b"\0") + note
        data = data[: at + 4] + pack(order, BEHIND + 0x200) + data[at + 8 :]
        out = read(data)
        assert CITY.encode() not in out
        assert SETTING.encode() in out
        assert SETTING.encode() not in read(data, "device")


REFUSED = {
    "no TIFF": b"II*\0",
    "an offset outside": b"II*\0" + pack("II", 5000) + bytes(100),
    "Phase One": b"II*\0" + pack("II", 8) + b"IIIIwaR\0" + bytes(100),
    "pixels that nothing refers to": classic("II", behind=bytes(range(1, 251)) * 8000),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_redacted_is_refused(case):
    assert plan_for(REFUSED[case]).outcome is Outcome.REFUSE


class Counting:
    """A source of zeros of any size with a TIFF at its start; counts what is read of it."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head, self._size = head, size
        self.bytes = 0

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int, /) -> bytes:
        size = max(0, min(size, self._size - offset))
        self.bytes += size
        return self._head[offset : offset + size].ljust(size, b"\0")


@pytest.mark.parametrize("kind", next(one.kinds for one in FORMATS if "image/tiff" in one.kinds))
def test_pixels_are_not_read(kind):
    size = 2 << 30
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0111, 0x0117)]
    pixels = [long("II", 0x0111, 0x1000), long("II", 0x0117, size - 0x1000)]
    head = b"II*\0" + pack("II", 8) + ifd("II", 8, [*tags, *pixels, text(0x010F, "Testmaker")])
    source: ByteSource = Counting(head, size)
    assert locate(kind, frozenset({"device"}), source).outcome is Outcome.PATCH
    assert source.bytes < 64 << 10


def test_many_tiles_take_no_time():
    count = 120_000
    starts = struct.pack(f"<{count}I", *range(0x1000, 0x1000 + 300 * count, 300))
    lengths = struct.pack(f"<{count}I", *[292] * count)
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0111, 0x0117)]
    at = 0x1000 + 300 * count
    both = [(0x0144, 4, count, starts), (0x0145, 4, count, lengths)]
    tail = ifd("II", at, [*tags, *both])
    data = (b"II*\0" + pack("II", at)).ljust(at, b"\0") + tail
    assert plan_for(data).outcome is Outcome.CLEAN


def test_directories_that_go_round_end():
    data = bytearray(placed("II", long("II", SUB_IFDS, BEHIND), behind=b"", following=8 + len(PIXELS)))
    data += ifd("II", BEHIND, [*picture("II", 8), long("II", SUB_IFDS, BEHIND)], BEHIND)
    assert PIXELS in read(bytes(data))


def test_files_made_by_hand_are_what_their_readers_take_them_for(tmp_path):
    path = tmp_path / "made.tif"
    path.write_bytes(classic("MM", strips=8))
    assert tiffs.strips_of(path).replace("\n", "") == PIXELS.hex()


@pytest.mark.parametrize("length", [None, 0, 100])
def test_pixels_whose_length_is_not_said_stay(length):
    """Readers reckon it from the picture's size; so does redaction."""
    tags = [entry for entry in picture("II", 0x800) if entry[0] != 0x0117]
    said = [] if length is None else [long("II", 0x0117, length)]
    data = (b"II*\0" + pack("II", 8) + ifd("II", 8, [*tags, *said])).ljust(0x800, b"\0") + PIXELS
    assert plan_for(data).outcome is Outcome.CLEAN


def test_one_long_text_called_by_many_tags_takes_no_time():
    words = b"12.34 " * 30_000
    entries = [(0x010E, 2, len(words), b"")] * 900
    data = bytearray(classic("II", *entries))
    at = len(data)
    for place in range(len(data) - 12):
        if data[place : place + 4] == pack("II", 0x010E, 2, size=2):
            data[place + 8 : place + 12] = pack("II", at)
    started = time.process_time()
    plan_for(bytes(data) + words)
    assert time.process_time() - started < 5


def test_a_directory_at_the_end_of_a_file_may_lack_what_follows_it():
    data = classic("II")[:-4]
    assert plan_for(data).outcome is Outcome.CLEAN


def test_strips_that_are_told_by_no_numbers_are_none():
    """Offsets of a type that is none of whole numbers: no reader finds pixels there."""
    data = classic("II")
    at = data.index(pack("II", 0x0111, LONG, size=2))
    out = read(data[: at + 2] + pack("II", 6, size=2) + data[at + 4 :])
    assert PIXELS not in out


def moved_to(data: bytes, tag: int, at: int, kind: int = 7) -> bytes:
    """The value of a tag of such a type is said to be somewhere else."""
    where = data.index(pack("II", tag, kind, size=2)) + 8
    return data[:where] + pack("II", at) + data[where + 4 :]


def test_no_packet_takes_a_part_of_what_stays_with_it():
    """One that overlaps another value goes, and that value, too, rather than a part of its bytes."""
    packet = xmp_packet(CITY_XMP)
    behind = ifd("II", BEHIND, picture("II", 8)).ljust(0x100, b"\0")
    behind += ifd("II", BEHIND + 0x100, picture("II", 8)).ljust(0x100, b"\0")
    subs = long("II", SUB_IFDS, BEHIND, BEHIND + 0x100)
    data = placed("II", text(0x010F, "x" * 40), subs, (0x02BC, 7, len(packet), packet), behind=behind)
    offsets = data.index(pack("II", BEHIND, BEHIND + 0x100))
    out = read(moved_to(data, 0x02BC, offsets - 8))
    assert not any(out[BEHIND:])
    assert PIXELS in out


def test_packets_that_overlap_go():
    """Neither leaves a part of itself within the other."""
    packet = xmp_packet("<dc:format>image/tiff</dc:format>")
    data = classic("II", (0x02BC, 7, len(packet), packet), (0x83BB, 7, 40, b"\x1c\2\5\0\x22" + bytes(35)))
    out = read(moved_to(data, 0x83BB, data.index(packet) + 9))
    assert b"image/tiff" not in out
    assert PIXELS in out


@pytest.mark.parametrize("records", [iptc_place(), jpegs.record(2, 80, b"Rosa Kamera")])
def test_a_digest_of_records_in_a_tag_of_their_own_goes(records):
    block = jpegs.resource(0x0425, hashlib.md5(records).digest())
    out = read(classic("II", (0x83BB, 7, len(records), records), (0x8649, 7, len(block), block)))
    assert jpegs.resource(0x0425, bytes(16)) in out


def test_a_preview_that_lies_over_something_else_is_refused():
    """It would stay as it is, with what is between its segments and behind its end."""
    preview = plain() + CITY.encode()
    pair = [long("II", 0x0201, BEHIND), long("II", 0x0202, len(preview)), short("II", 0x0103, 6)]
    sub = ifd("II", BEHIND + 0x4000, [*pair, text(0x010F, "Testmaker")])
    data = placed("II", long("II", SUB_IFDS, BEHIND + 0x4000), behind=preview).ljust(BEHIND + 0x4000, b"\0")
    data += sub
    assert CITY.encode() not in read(data)
    over = moved_to(data, 0x010F, BEHIND + len(preview) - 10, 2)
    assert "other data" in plan_for(over).reason


def test_a_note_without_a_directory_takes_no_room():
    """What is taken for one, but is longer than any, does not keep a preview from being cleaned."""
    preview = plain() + CITY.encode()
    note = b"Nikon\0\x02\x10\0\0II\x2a\0\x08\0\0\0\x40\1" + b"\1\0\7\0"
    pair = [long("II", 0x0201, BEHIND), long("II", 0x0202, len(preview)), short("II", 0x0103, 6)]
    tags = (long("II", SUB_IFDS, BEHIND + 0x4000), (0x927C, 7, len(note), note))
    data = placed("II", *tags, behind=preview).ljust(BEHIND + 0x4000, b"\0") + ifd(
        "II", BEHIND + 0x4000, pair
    )
    out = read(data)
    assert CITY.encode() not in out
    assert jpegs.pixels(out[BEHIND : BEHIND + len(preview)]) == jpegs.pixels(preview)


def test_a_table_of_jpeg_is_not_read_from_what_goes():
    """The length of a Huffman table is the sum of its first bytes: here, of the artist's name."""
    tags = (text(0x013B, "Rosa Kamera, Zirbel"), long("II", 0x0208, 0x7A7B7C7D), text(0x010F, "Testmaker"))
    data = placed("II", *tags, behind=CITY.encode() * 99)
    moved = data.replace(pack("II", 0x7A7B7C7D), pack("II", data.index(b"Rosa")))
    assert CITY.encode() not in read(moved, "people")


def test_tables_of_jpeg_stay():
    table = bytes([1, *[0] * 15, 7])
    data = placed("II", long("II", 0x0208, BEHIND), behind=table)
    assert plan_for(data).outcome is Outcome.CLEAN


def test_what_only_a_dropped_directory_refers_to_goes_with_it():
    """Its offset lies in a text that goes; its EXIF, and its XMP, would stay with nothing leading to them."""
    packet = xmp_packet("<dc:format>image/tiff</dc:format>")
    parts = (
        ifd("II", BEHIND, [long("II", EXIF_IFD, BEHIND + 0x1000), (0x02BC, 7, len(packet), packet)]),
        ifd("II", BEHIND + 0x1000, [short("II", 0x9207, 5)]),
        ifd("II", BEHIND + 0x2000, picture("II", 8)),
    )
    offsets = pack("II", BEHIND, BEHIND + 0x2000)
    data = placed(
        "II",
        (0x010F, 2, 8, offsets),
        long("II", SUB_IFDS, 0, 0),
        behind=b"".join(part.ljust(0x1000, b"\0") for part in parts),
    )
    out = read(moved_to(data, SUB_IFDS, data.index(offsets), LONG), "device")
    assert not any(out[BEHIND:])
    assert PIXELS in out


ODD = [
    b"\xff\xc0\0\x09\x08\0\1\0\1\1\1",
    b"\xff\xf0\0\4ab",
    b"\xff\x01\0\x02",
    b"\xff\xff\xff",
    b"\xff\xfe\0\3a\0junk",
    b"\xff\xd3",
]
"""What may stand in a JPEG's header: a frame that is none, a reserved marker, fill bytes, junk."""


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("last", [b"", plain()[2:], plain()[2:-2]])
def test_a_preview_with_an_odd_header_tells_no_place(odd, last):
    """What of it decides how it is read stays, and what is behind the odd bytes is not left unread."""
    exif = exif_segment(jpegs.exif("MM"))
    pair = [long("II", 0x0201, BEHIND), text(0x010F, "Testmaker")]
    scan = last.replace(b"\xff\xda\0\x0c\3", b"\xff\xda\0\x0c\2")
    for preview in (SOI + odd + exif + last, SOI + exif + odd + last, SOI + exif + scan):
        tags = [*pair, long("II", 0x0202, len(preview))]
        data = placed("II", *tags, behind=preview)
        for word in ("location", "device", "people"):
            read(data, word)
        if last or preview.startswith(exif, 2):
            assert not leaks(read(data))


def test_a_packet_that_lies_over_a_directory_does_not_stay_within_pixels():
    """Where a strip is said to reach, since no length is said, its bytes would stay as they were."""
    packet = xmp_packet(CITY_XMP)
    strip = (0x0111, LONG, 1, pack("II", BEHIND))
    sub = ifd("II", BEHIND + 20 + len(packet) - 8, [short("II", 0x0103, 1)])
    entries = [long("II", SUB_IFDS, BEHIND + 20 + len(packet) - 8), (0x02BC, 7, len(packet), packet), strip]
    data = tiffs.classic("II", *entries)
    data = data.replace(pack("II", 0x0117, LONG, size=2), pack("II", 0x0116, LONG, size=2)).ljust(
        BEHIND, b"\0"
    )
    data += bytes(20) + packet[:-8] + sub + b"pixels"
    assert CITY.encode() not in read(moved_to(data, 0x02BC, BEHIND + 20))[BEHIND:]


@pytest.mark.parametrize("left", [b"\xff" * 40, b"\0\0\7\0", b"  "])
def test_filler_that_no_tag_refers_to_stays(left):
    data = tiffs.classic("II") + left
    assert locate("image/tiff", frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN


def test_the_end_of_a_value_that_goes_is_no_filler():
    data = tiffs.classic("II", (0x9999, 2, 8, b"Salzburg"))
    assert data.index(b"Salzburg")
    data = data.replace(
        pack("II", 0x9999, 2, size=2) + pack("II", 8), pack("II", 0x9999, 2, size=2) + pack("II", 5)
    )
    out = apply(data, locate("image/tiff", frozenset({"location"}), MemorySource(data)).patches)
    assert b"urg" not in out


@pytest.mark.parametrize("left", [b"\xff" * 6, b"ab", b" " * 30])
def test_filler_behind_a_directory_that_gets_shorter_is_judged_once(left):
    data = tiffs.classic("II", (0x9999, 7, 4, b"Linz")) + left
    out = apply(data, locate("image/tiff", frozenset({"location"}), MemorySource(data)).patches)
    assert b"Linz" not in out
    assert locate("image/tiff", frozenset({"location"}), MemorySource(out)).outcome is Outcome.CLEAN


def test_filler_beside_records_that_change_is_their_end():
    """The tag says that they are three bytes shorter than they are."""

    def file(dataset: int) -> bytes:
        records = jpegs.record(2, 80, b"Rosa") + jpegs.record(2, dataset, b"Salzb")
        data = tiffs.classic("II", (0x83BB, 7, len(records) + 3, records + b"urg"))
        head = pack("II", 0x83BB, 7, size=2)
        assert data.count(head + pack("II", len(records) + 3)) == 1
        return data.replace(head + pack("II", len(records) + 3), head + pack("II", len(records)))

    for dataset, stays in ((90, False), (105, True)):
        data = file(dataset)
        out = apply(data, locate("image/tiff", frozenset({"location"}), MemorySource(data)).patches)
        assert (b"Salzb" in out) is stays
        assert (b"urg" in out) is stays


@pytest.mark.parametrize("order", ["II", "MM"])
def test_small_numbers_without_a_name_stay_while_they_are_few(order):
    few = classic(order, short(order, 0xE850, 48), short(order, 0xE851, 11))
    assert plan_for(few).outcome is Outcome.CLEAN
    many = [short(order, 0xE850 + i, number) for i, number in enumerate((48, 51, 30))]
    out = read(classic(order, *many))
    for tag in range(0xE850, 0xE853):
        assert pack(order, tag, jpegs.SHORT, size=2) not in out


@pytest.mark.parametrize("word", ["location", "device", "time", "people", "all-metadata"])
def test_what_goes_from_a_note_keeps_its_place_if_it_is_no_picture(word):
    """The places of values show whether a note was moved: three of these four are in it, just enough."""
    note_at, exif_at = 514, 256
    values = (  # the first lies over the note's directory, the number over the name before it
        (0x0006, 2, 11, pack("MM", 548)),
        (0x0009, 2, 12, pack("MM", 580)),
        (0x0035, 4, 4, pack("MM", 581)),
        (0x0096, 2, 13, pack("MM", 608)),
    )
    data = jpegs.tiff(
        "MM",
        (8, ifd("MM", 8, [text(0x010F, "Canon"), long("MM", EXIF_IFD, exif_at)])),
        (exif_at, ifd("MM", exif_at, [(0x927C, 7, 116, pack("MM", note_at))])),
        (note_at, ifd("MM", note_at, values)),
        (580, b"Rosa Kamera"),
        (608, b"SN-4711-0815".ljust(22, b"\0")),
    )
    read(data, word)


@pytest.mark.parametrize("word", ["location", "device", "time", "people", "all-metadata"])
def test_private_data_does_not_begin_within_a_note(word):
    """A note may be longer than it says: its directory is rebuilt where the private data has its name."""
    setting = (0x0404, 2, 13, b"SN-4711-0815\0")
    inner = b"OLYMPUS\0II\3\0" + ifd("II", 12, [setting])
    private = b"Adobe\0MakN" + (len(inner) + 6).to_bytes(4) + b"II\0\0\0\0" + inner
    note_at, private_at = 0x200, 0x21C
    note = b"OLYMP\0\1\0" + ifd("II", note_at + 8, [(0x0404, 2, 4, b"abc"), (0x5448, 0, 0, b"")])[:-10]
    main = [
        text(0x010F, "OLYMPUS"),
        (0x927C, 7, len(note), pack("II", note_at)),
        (0xC634, 7, len(private), pack("II", private_at)),
    ]
    assert note_at + len(note) == private_at
    data = jpegs.tiff("II", (8, ifd("II", 8, main)), (note_at, note), (private_at, private))
    read(data, word)


@pytest.mark.parametrize("tag", [0xC6F3, 0xC6F4, 0xC6F6, 0xC6F8, 0xC6FE, 0xC7A1, 0xC789])
def test_names_of_a_dngs_profiles_are_the_makers(tag):
    name = "Testmaker Embedded Profile"
    data = tiffs.digital_negative("II", text(tag, name))
    assert name.encode() not in read(data, "device")
    assert name.encode() in read(data, "time")


def rw2(*entries: Entry) -> bytes:
    """A raw of Panasonic: pixels to the file's end, without a length."""
    ends = [long("II", 0x0111, 0xFFFFFFFF), long("II", 0x0118, 0x2000), text(0x010F, "Panasonic")]
    head = b"IIU\0" + pack("II", 24) + bytes.fromhex("88e774d8f8251d4d947a6e77822b5d6a")
    return (head + ifd("II", 24, [*ends, *entries])).ljust(0x2000, b"\0") + PIXELS


@pytest.mark.parametrize("word", ["location", "time", "device", "all-metadata"])
@pytest.mark.parametrize("tag", [0x002E, 0x0127])
def test_both_pictures_of_panasonics_raws_are_cleaned(tag, word):
    preview = with_segments(plain(), exif_segment(exif("MM")))
    data = rw2((tag, 7, len(preview), preview))
    out = redacted("image/x-panasonic-rw2", data, word)
    told = {"location": "", "time": "2024:05:17", "device": "Testmaker", "all-metadata": "Testmaker"}[word]
    assert told.encode() in data
    assert not told or told.encode() not in out
    assert word not in ("location", "all-metadata") or leaks(out) == []
    shown = out[data.index(preview) :][: len(preview)]
    assert jpegs.pixels(shown) == jpegs.pixels(preview)
    assert out.endswith(PIXELS)


def test_the_artist_in_panasonics_raws_goes_under_people():
    out = redacted("image/x-panasonic-rw2", rw2(text(0x013B, "Rosa Kamera")), "people")
    assert b"Rosa" not in out


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("counts", ["stated", "none"])
def test_a_trailer_behind_pixels_goes(trailer, bits, counts):
    """Also if the length of the pixels is not stated, or if the size of the picture makes a longer one."""
    tags = [entry for entry in picture("II", 0x800) if entry[0] not in (0x0102, 0x0117)]
    stated = [long("II", 0x0117, len(PIXELS))] if counts == "stated" else []
    data = b"IIRO" + pack("II", 8) + ifd("II", 8, [*tags, short("II", 0x0102, bits), *stated])
    data = data.ljust(0x800, b"\0") + PIXELS
    out = redacted("image/x-olympus-orf", data + TRAILERS[trailer](len(data)))
    assert out[: len(data)] == data
    assert not any(out[len(data) :])


@pytest.mark.parametrize("trailer", TRAILERS)
def test_a_trailer_behind_panasonics_pixels_goes(trailer):
    data = rw2()
    out = redacted("image/x-panasonic-rw2", data + TRAILERS[trailer](len(data)))
    assert out == data.ljust(len(out), b"\0")


def test_unknown_data_behind_packed_pixels_goes():
    """The size of the picture makes the pixels longer than the file."""
    tags = [entry for entry in picture("II", 0x800) if entry[0] != 0x0102]
    data = b"IIRO" + pack("II", 8) + ifd("II", 8, [*tags, short("II", 0x0102, 16)])
    data = data.ljust(0x800, b"\0") + PIXELS
    assert CITY.encode() not in redacted("image/x-olympus-orf", data + CITY.encode())


def with_many_strips(*entries: Entry, padding: bytes = b"") -> bytes:
    """A TIFF of 512 strips; `padding` is before and behind each."""
    each, count = len(PIXELS) // 512, 512
    step = each + 2 * len(padding)
    strips = b"".join(padding + PIXELS[i : i + each] + padding for i in range(0, len(PIXELS), each))
    at = 8 + len(strips)
    starts = [8 + len(padding) + step * i for i in range(count)]
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0111, 0x0117)]
    both = [(0x0111, LONG, count, pack("II", *starts)), (0x0117, LONG, count, pack("II", *[each] * count))]
    return b"II*\0" + pack("II", at) + strips + ifd("II", at, [*tags, *both, *entries])


@pytest.mark.parametrize(
    ("word", "tag", "kind", "value"),
    [
        ("device", 0x0131, 2, b"GIMP 2.\0"),
        ("people", 0x013B, 2, b"Jo Doe\0\0"),
        ("location", 0xC700, 12, struct.pack("<d", HOME.latitude)),
    ],
)
def test_a_short_value_is_no_padding_of_strips(word, tag, kind, value):
    size = {2: 1, 12: 8}[kind]
    around = [(at, 5, 1, pack("II", 72, 1)) for at in (0x011A, 0x011B)]
    data = with_many_strips(*around, (tag, kind, len(value) // size, value))
    assert value.strip(b"\0") in data
    assert value.strip(b"\0") not in read(data, word)


def test_padding_of_many_strips_stays():
    assert plan_for(with_many_strips(padding=b"\1\2\3\4")).outcome is Outcome.CLEAN


PREVIEW = with_segments(plain(), exif_segment(exif("MM")))


def one_strip(data: bytes, compression: int, magic: bytes = b"") -> bytes:
    """A TIFF whose only strip is `data`; no Compression if it is 0."""
    tags = [entry for entry in picture("II", BEHIND) if entry[0] not in (0x0103, 0x0117)]
    tags += [short("II", 0x0103, compression)] if compression else []
    head = b"II*\0" + pack("II", 8 + len(magic)) + magic
    head += ifd("II", len(head), [*tags, long("II", 0x0117, len(data))])
    return head.ljust(BEHIND, b"\0") + data


@pytest.mark.parametrize("compression", [0, 1, 6, 7, 8, 33007, 34712, 52546])
@pytest.mark.parametrize("magic", [b"", b"CR\2\0\0\0\0\0"])
def test_a_jpeg_in_a_strip_is_cleaned_whatever_its_compression_is_called(compression, magic):
    data = one_strip(PREVIEW, compression, magic)
    assert leaks(data)
    out = read(data)
    assert leaks(out) == []
    assert jpegs.pixels(out[BEHIND:]) == jpegs.pixels(PREVIEW)


VP8 = b"\x30\x01\0\x9d\x01\x2a\x04\0\x04\0" + bytes(range(20))


def _webp(block: bytes) -> bytes:
    body = b"WEBP" + chunk(b"VP8X", bytes(4) + b"\3\0\0" * 2) + chunk(b"VP8 ", VP8) + chunk(b"EXIF", block)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


CONTAINERS = {
    "JPEG XL": lambda block: jp2s.jxl(box(b"Exif", b"\0\0\0\0" + block)),
    "JP2": lambda block: jp2s.jp2(box(b"uuid", b"JpgTiffExif->JP2" + block)),
    "WebP": _webp,
}


@pytest.mark.parametrize("compression", [1, 34712, 50001, 50002, 52546])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_picture_with_metadata_in_a_strip_is_cleaned(name, compression):
    data = one_strip(CONTAINERS[name](exif("II")), compression)
    assert leaks(data)
    assert leaks(read(data)) == []


def test_a_picture_that_cannot_be_read_is_refused():
    assert plan_for(one_strip(jp2s.JXL_SIGNATURE + bytes(range(100)), 1)).outcome is Outcome.REFUSE


@pytest.mark.parametrize("first", [0, 1, 6])
def test_pixels_of_two_directories_are_cleaned_once_one_calls_them_a_jpeg(first):
    data = one_strip(PREVIEW, first)
    at = len(data)
    pair = [short("II", 0x0103, 6), long("II", 0x0201, BEHIND), long("II", 0x0202, len(PREVIEW))]
    following = 10 + 12 * int.from_bytes(data[8:10], "little")
    data = data[:following] + pack("II", at) + data[following + 4 :] + ifd("II", at, pair)
    out = read(data)
    assert leaks(out) == []
    assert jpegs.pixels(out[BEHIND:]) == jpegs.pixels(PREVIEW)


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe1\0\x40", b"\xff\xd8\xff\xfe\x01\0", b"RIFF\0\0\0\0WEBQ"])
def test_pixels_that_look_like_a_jpeg_stay(start):
    """White and light grey, for example: a JPEG has a frame header, too."""
    assert plan_for(classic("II").replace(PIXELS[:16], start.ljust(16, b"\x7f"), 1)).outcome is Outcome.CLEAN


def test_a_preview_behind_many_strips_is_cleaned():
    strip = plain()
    count, at = 4100, 0x30000
    tags = [entry for entry in picture("II", 8) if entry[0] not in (0x0103, 0x0111, 0x0117)]
    starts = range(0x20000, 0x20000 + count)
    both = [(0x0111, LONG, count, pack("II", *starts)), (0x0117, LONG, count, pack("II", *[8] * count))]
    pair = [long("II", 0x0201, at), long("II", 0x0202, len(PREVIEW))]
    main = [*tags, *both, short("II", 0x0103, 7), long("II", SUB_IFDS, at + 0x2000)]
    data = (b"II*\0" + pack("II", 8) + ifd("II", 8, main)).ljust(0x20000, b"\0") + strip
    data = data.ljust(at, b"\1") + PREVIEW
    out = read(data.ljust(at + 0x2000, b"\0") + ifd("II", at + 0x2000, pair))
    assert leaks(out) == []


@pytest.mark.parametrize(("tag", "kind", "word"), [(0xC700, 7, "location"), (0x010F, 2, "device")])
@pytest.mark.parametrize("strips", [1, 8])
def test_pixels_never_change_for_a_tag_that_refers_to_them(tag, kind, word, strips):
    data = moved_to(classic("II", (tag, kind, 1500, b"q" * 1500), strips=strips), tag, 100, kind)
    plan = plan_for(data, word)
    assert plan.outcome is Outcome.REFUSE
    assert "pixels" in plan.reason
    other = "people" if tag == 0x010F else None
    assert other is None or PIXELS in read(data, other)


def test_no_pixels_are_at_offset_0():
    """A directory without a picture of its own: some programs write zeros, and the size of the picture."""
    tags = [entry for entry in picture("II", 0) if entry[0] != 0x0117]
    tags += [long("II", 0x0117, 4096), text(0x010F, "Testmaker")]
    data = b"II*\0" + pack("II", 8) + ifd("II", 8, tags)
    assert b"Testmaker" not in read(data, "device")


@pytest.mark.parametrize(
    ("tag", "kind", "words"),
    [
        (0xCD48, 2, {"device"}),
        (0xC7EE, 2, {"device"}),
        (0xCD44, 7, {"device", "time"}),
        (0xCD2E, 2, {"people"}),
        (0xCD30, 2, {"people"}),
    ],
)
def test_texts_of_newer_dngs_go_with_their_words(tag, kind, words):
    name = b"Rosa, IMG-4711-0815\0"
    data = tiffs.digital_negative("II", (tag, kind, len(name), name))
    for word in ("location", "device", "time", "people"):
        assert (name in read(data, word)) is (word not in words)


def test_many_lists_of_jpeg_tiles_take_no_time():
    """Each length is another one, so that each is a strip of its own."""
    jpeg = SOI + jpegs.segment(0xDD, b"\0\0") * 50 + plain()[2:]
    data = bytearray(b"II*\0" + bytes(4) + jpeg + bytes(70_000))
    at = 4
    for number in range(16):
        lengths = range(len(jpeg) + 4096 * number, len(jpeg) + 4096 * (number + 1))
        both = [(0x0111, LONG, 4096, pack("II", *[8] * 4096)), (0x0117, LONG, 4096, pack("II", *lengths))]
        data[at : at + 4] = pack("II", len(data))
        at = len(data) + 2 + 12 * 3
        data += ifd("II", len(data), [short("II", 0x0103, 7), *both])
    started = time.process_time()
    assert plan_for(bytes(data)).outcome is Outcome.CLEAN
    assert time.process_time() - started < 0.6
