"""EXIF structures, tag by tag: what stays is as it was, what goes leaves nothing behind."""

from __future__ import annotations

import piexif
import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.exif import tags
from policyfs.redact.exif.exif import MAX_ENTRIES, clean_tiff
from policyfs.redact.tags.iptc import clean_iim
from tests.support.samples import jpegs
from tests.support.samples.inners import EACH, PLACES, Plain
from tests.support.samples.jpegs import (
    EXIF_IFD,
    GPS_IFD,
    INTEROP_IFD,
    SUB_IFDS,
    TEXT_COORDINATES,
    Entry,
    exif,
    gps,
    ifd,
    leaks,
    long,
    pack,
    text,
    tiff,
)


def clean(block: bytes) -> bytes:
    cleaned = clean_tiff(block, PLACES)
    assert cleaned is not None
    assert len(cleaned.data) == len(block)
    again = clean_tiff(cleaned.data, PLACES)
    assert again == Cleaned(cleaned.data)
    return cleaned.data


def one(order: str, *entries: Entry, following: int = 0) -> bytes:
    return tiff(order, (8, ifd(order, 8, [text(0x010F, "Testmaker"), *entries], following)))


@pytest.mark.parametrize("order", ["II", "MM"])
def test_without_gps_nothing_changes(order):
    block = exif(order, place=False)
    assert clean_tiff(block, PLACES) == Cleaned(block)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_gps_goes_as_if_it_had_never_been(order):
    out = clean(exif(order))
    without = exif(order, place=False)
    assert out[8:10] == without[8:10]
    assert pack(order, GPS_IFD, 4, size=2) not in out
    assert not any(out[0x300:])
    assert not leaks(out)


def test_the_tags_behind_move_up_and_the_chain_goes_on():
    second = ifd("II", 0x100, [text(0x0110, "second")])
    block = tiff(
        "II", (8, ifd("II", 8, [long("II", GPS_IFD, 0x200), text(0x9C9B, "title")], 0x100)), (0x100, second)
    )
    out = clean(block)
    assert out[8:12] == pack("II", 1, 0x9C9B, size=2)
    assert out[8 + 2 + 12 : 8 + 2 + 12 + 4] == pack("II", 0x100)
    assert out[0x100:] == second


def test_a_directory_of_nothing_but_places_goes_with_what_points_to_it():
    inner = ifd("II", 0x100, [long("II", GPS_IFD, 0x200)])
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), long("II", SUB_IFDS, 0x100)])), (0x100, inner))
    out = clean(block)
    assert out[8:10] == pack("II", 1, size=2)
    assert not any(out[0x100:])


def test_nothing_but_places_leaves_a_directory_without_tags():
    block = tiff("II", (8, ifd("II", 8, [long("II", GPS_IFD, 0x100)])), (0x100, ifd("II", 0x100, gps("II"))))
    assert clean(block) == b"II*\0\x08".ljust(len(block), b"\0")


@pytest.mark.parametrize("tag", [0x0001, 0x0002, 0x9999, 0x927C, 0xC634, 0x8481, 0x87AF, 0xEA1C, 0xFDD8])
def test_tags_that_are_not_known(tag):
    out = clean(one("MM", (tag, 7, 12, b"Zirbelstadt!"), text(0x0110, "M7")))
    assert b"Zirbel" not in out
    assert b"M7\0" in out
    assert pack("MM", tag, 7, size=2) not in out


def test_interop_tags_stay_in_their_directory():
    inner = ifd("MM", 0x100, [text(1, "R98"), (2, 7, 4, b"0100")])
    middle = ifd("MM", 0x80, [text(0x9003, "2024"), long("MM", INTEROP_IFD, 0x100)])
    first = ifd("MM", 8, [text(0x010F, "T"), long("MM", EXIF_IFD, 0x80)])
    block = tiff("MM", (8, first), (0x80, middle), (0x100, inner))
    assert clean(block) == block


@pytest.mark.parametrize("value", [0, 3, 0xFFFFFFF0])
def test_values_outside(value):
    broken = (0x0110, 2, 100, b"")
    block = bytearray(one("II", broken))
    at = block.index(pack("II", 0x0110, 2, size=2))
    block[at + 8 : at + 12] = pack("II", value)
    assert pack("II", 0x0110, 2, size=2) not in clean(bytes(block))


@pytest.mark.parametrize("kind", [0, 14, 255])
def test_types_that_there_are_not(kind):
    assert b"Zirb" not in clean(one("II", (0x0110, kind, 4, b"Zirb")))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II+\0\x08\0\0\0\0\0",
        b"XX*\0\x08\0\0\0",
        b"II\0*\x08\0\0\0\0\0\0\0\0\0",
        b"II*\0\x04\0\0\0\0\0\0\0\0\0",
        b"II*\0\xff\0\0\0\0\0\0\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        tiff("II", (8, ifd("II", 8, [text(0x010F, "T")] * (MAX_ENTRIES + 1)))),
        tiff("II", (8, ifd("II", 8, [])), (0x20, ifd("II", 0x20, gps("II")))),
    ],
)
def test_what_cannot_be_understood(block):
    assert clean_tiff(block, PLACES) is None


def test_a_chain_without_end_is_cut():
    blocks = [(8 + 64 * i, ifd("II", 8 + 64 * i, [text(0x010F, "T")], 8 + 64 * (i + 1))) for i in range(40)]
    assert clean_tiff(tiff("II", *blocks), PLACES) is None


def test_a_thumbnail_needs_its_bytes_for_itself():
    pair = [long("II", 0x0201, 8), long("II", 0x0202, 30)]
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "Testmaker")], 0x60)), (0x60, ifd("II", 0x60, pair)))
    out = clean(block)
    assert not any(out[0x60:])
    assert b"Testmaker" in out


@pytest.mark.parametrize("role", ["IFD", "ExifIFD"])
def test_a_pair_of_tags_that_goes_is_told_by_its_directory(role):
    pair = [long("II", 0x0201, 8), long("II", 0x0202, 30)]
    first = pair if role == "IFD" else [long("II", EXIF_IFD, 0x100)]
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), *first])), (0x100, ifd("II", 0x100, pair)))
    cleaned = clean_tiff(block, PLACES)
    assert cleaned is not None
    told = [note.tag for note in cleaned.notes if note.broken]
    assert told == [f"{role}:ThumbnailOffset", f"{role}:ThumbnailLength"]


def test_strips_of_pixels_stay():
    strips = [long("II", 0x0111, 0x100, 0x110), long("II", 0x0117, 16, 16), (0x0100, 3, 1, b"\4\0")]
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), *strips])), (0x100, b"pixel" * 6 + b"xx"))
    assert clean(block) == block


def test_strips_that_do_not_match():
    strips = [long("II", 0x0111, 0x100, 0x110), long("II", 0x0117, 16)]
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), *strips])), (0x100, b"Zirbel" * 6))
    assert b"Zirbel" not in clean(block)


def test_piexif_writes_and_reads():
    tags = {
        "0th": {piexif.ImageIFD.Make: b"Testmaker", piexif.ImageIFD.XPTitle: "Quince".encode("utf-16-le")},
        "Exif": {
            piexif.ExifIFD.DateTimeOriginal: b"2024:05:17 11:22:33",
            piexif.ExifIFD.FNumber: (28, 10),
            piexif.ExifIFD.MakerNote: b"anything",
            piexif.ExifIFD.UserComment: b"ASCII\0\0\0hello",
        },
        "GPS": {piexif.GPSIFD.GPSLatitudeRef: b"N", piexif.GPSIFD.GPSLatitude: ((47, 1), (48, 1), (16, 1))},
        "1st": {},
        "thumbnail": None,
    }
    block = piexif.dump(tags)
    read = piexif.load(block[:6] + clean(block[6:]))
    assert read["GPS"] == {}
    del tags["Exif"][piexif.ExifIFD.MakerNote]
    assert read["Exif"] == tags["Exif"]
    assert read["0th"][piexif.ImageIFD.Make] == b"Testmaker"
    assert bytes(read["0th"][piexif.ImageIFD.XPTitle]) == tags["0th"][piexif.ImageIFD.XPTitle]


def test_no_table_knows_a_tag_that_tells_a_place():
    for table in (tags.EXIF_TABLE, tags.MPF_TABLE):
        for role, known in table.rules.items():
            unknown = {tags.MAKER_NOTE, 0xC634, 0x8481, 0x8482, 0x87AF, 0x87B0, 0x87B1}
            assert not known.keys() & unknown
            if role == tags.GPS:
                assert all(Tells.LOCATION in rule.tells for rule in known.values())
            elif role != tags.INTEROP:
                assert not known.keys() & set(range(0x0B))
                assert {tag for tag, rule in known.items() if Tells.LOCATION in rule.tells} <= {GPS_IFD}


# --- every word ---


def everything(order: str) -> bytes:
    """EXIF with a tag of each kind, none of which shares its bytes with another."""
    exif_ifd = [
        text(0x9003, "2024:05:17 11:22:33"),
        text(0xA431, "SN-004711-X"),
        (0x9286, 7, 16, b"ASCII\0\0\0Fixy Fox"),
        (0x829A, 5, 1, pack(order, 1, 125)),
        (0xA002, 4, 1, pack(order, 48)),
    ]
    main = [
        text(0x010F, "Testmaker"),
        text(0x013B, "Rosa Kamera"),
        (0x0112, 3, 1, pack(order, 6, size=2)),
        long(order, EXIF_IFD, 0x200),
        long(order, GPS_IFD, 0x300),
    ]
    gps_ifd = [*gps(order), text(0x1D, "2024:05:16")]
    return tiff(
        order,
        (8, ifd(order, 8, main)),
        (0x200, ifd(order, 0x200, exif_ifd)),
        (0x300, ifd(order, 0x300, gps_ifd)),
    )


FACTS = {
    "location": (jpegs.HOME.city.encode(),),
    "device": (b"Testmaker", b"SN-004711-X"),
    "time": (b"2024:05:17 11:22:33", b"2024:05:16"),
    "people": (b"Rosa Kamera", b"Fixy Fox"),
    "other": (pack("II", 1, 125),),
}
ALSO = {("location", b"2024:05:16")}


@pytest.mark.parametrize("word", FACTS)
def test_each_word_takes_what_it_names_and_nothing_else(word):
    block = everything("II")
    cleaned = clean_tiff(block, Plain(EACH[word]))
    assert cleaned is not None
    assert clean_tiff(cleaned.data, Plain(EACH[word])) == Cleaned(cleaned.data)
    for other, facts in FACTS.items():
        for fact in facts:
            gone = other == word or (word, fact) in ALSO
            assert (fact in cleaned.data) != gone, (word, fact)
    assert pack("II", 0x0112, 3, size=2) in cleaned.data
    assert all(note.tells & EACH[word] and not note.broken for note in cleaned.notes)


@pytest.mark.parametrize("word", [w for w in FACTS if w != "location"])
def test_without_its_word_a_place_stays_to_the_byte(word):
    """Everything but the directories that lose a tag is as it was."""
    block = exif("MM")
    cleaned = clean_tiff(block, Plain(EACH[word]))
    assert cleaned is not None
    assert cleaned.data[0x300:] == block[0x300:]


def test_the_thumbnail_goes_with_all_metadata():
    pair = [(0x0103, 3, 1, b"\6\0"), long("II", 0x0201, 0x100), long("II", 0x0202, 30)]
    block = tiff("II", (8, ifd("II", 8, [(0x0112, 3, 1, b"\6\0")], 0x60)), (0x60, ifd("II", 0x60, pair)))
    block += bytes(0x100 - len(block)) + b"\xff\xd8".ljust(30, b"x")
    assert clean_tiff(block, PLACES) == Cleaned(block)
    cleaned = clean_tiff(block, Plain(UNKNOWN))
    assert cleaned is not None
    assert not any(cleaned.data[0x20:])


def test_a_value_that_goes_stays_in_no_other_tag():
    """An artist whose bytes are the maker's."""
    entries = [text(0x010F, "Testmaker"), (0x013B, 2, 10, b"Testmaker\0")]
    block = bytearray(tiff("II", (8, ifd("II", 8, entries))))
    at = 8 + 2 + 8
    block[at + 12 : at + 16] = block[at : at + 4]
    cleaned = clean_tiff(bytes(block), Plain(Tells.DEVICE))
    assert cleaned is not None
    first = int.from_bytes(block[at : at + 4], "little")
    assert not any(cleaned.data[first : first + 10])


def over(block: bytes, tag: int, to: int) -> bytes:
    """The structure with the value of a tag (UNDEFINED) at another offset."""
    at = block.index(pack("II", tag, 7, size=2))
    return block[: at + 8] + pack("II", to) + block[at + 12 :]


@pytest.mark.parametrize("kind", [3, 4, 8, 9, 13])
def test_no_value_stays_over_a_gps_directory_of_any_pointer(kind):
    """Readers follow a pointer of two bytes, too."""
    places = ifd("II", 0x300, gps("II"))
    pointer = (GPS_IFD, kind, 1, pack("II", 0x300, size=2 if kind in (3, 8) else 4))
    main = ifd("II", 8, [text(0x010F, "Testmaker"), long("II", EXIF_IFD, 0x200), pointer])
    exif_ifd = ifd("II", 0x200, [(0x8828, 7, len(places), bytes(len(places)))])
    block = over(tiff("II", (8, main), (0x200, exif_ifd), (0x300, places)), 0x8828, 0x300)
    out = clean(block)
    assert not leaks(out)
    assert not any(out[0x300:])
    assert b"Testmaker" in out


def test_no_value_stays_over_that_of_a_tag_without_a_known_name():
    secret = b"Zirbelstadt, at the mill"
    entries = [text(0x010F, "Testmaker"), long("II", EXIF_IFD, 0x100), (0xC700, 2, len(secret), secret)]
    inside = ifd("II", 0x100, [(0x8828, 7, len(secret), bytes(len(secret)))])
    block = tiff("II", (8, ifd("II", 8, entries)), (0x100, inside))
    out = clean(over(block, 0x8828, block.index(secret)))
    assert b"Zirbelstadt" not in out
    assert b"Testmaker" in out
    stale = over(tiff("II", (8, ifd("II", 8, [*entries[::2], (0xC701, 7, 8, bytes(8))]))), 0xC701, 8)
    assert b"Testmaker" in clean(stale), "a wrong offset, to the directory itself"


@pytest.mark.parametrize(
    ("tag", "words"),
    [(0x9286, b"ASCII\0\0\0" + TEXT_COORDINATES.encode()), (0x9C9C, TEXT_COORDINATES.encode("utf-16-le"))],
)
@pytest.mark.parametrize("kind", [3, 4, 5, 7])
def test_words_of_people_are_searched_in_every_type(tag, words, kind):
    """ExifTool reads UserComment and XPComment as text, whatever their type is."""
    size = tags.TYPE_SIZES[kind]
    words = words.ljust(-(-len(words) // size) * size, b"\0")
    entry = (tag, kind, len(words) // size, words)
    inside = (0x200, ifd("II", 0x200, [entry]))
    out = clean(tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), long("II", EXIF_IFD, 0x200)])), inside))
    assert not leaks(out)
    quiet = (tag, kind, len(words) // size, b"quince".ljust(len(words), b"\0"))
    inside = (0x200, ifd("II", 0x200, [quiet]))
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), long("II", EXIF_IFD, 0x200)])), inside)
    assert clean(block) == block


@pytest.mark.parametrize("behind", [b"", b"\0\0"])
def test_an_empty_directory_at_the_very_end(behind):
    """Without room for where the next one would be."""
    block = b"II*\0" + pack("II", 8) + b"\0\0" + behind
    assert clean(block) == block
    assert clean_tiff(block + b"x", PLACES) is None


# --- what says nothing ---


def test_tags_that_are_not_known_stay_if_nothing_stands_in_them():
    padding = (0xEA1C, 7, 300, b"\x1c\xea\0\0\0\x08".ljust(300, b"\0"))
    entries = [(0x8889, 3, 1, pack("MM", 4, size=2)), (0x3030, 7, 40, b" " * 40), padding]
    block = one("MM", *entries)
    assert clean(block) == block


@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_gps_directory_with_only_its_version_stays(order):
    """Cameras without a receiver write it."""
    def block(*entries: Entry) -> bytes:
        first = ifd(order, 8, [text(0x010F, "T"), long(order, GPS_IFD, 0x100)])
        return tiff(order, (8, first), (0x100, ifd(order, 0x100, entries)))

    version = (0, 1, 4, b"\2\3\0\0")
    assert clean(block(version)) == block(version)
    told = [
        [(0, 1, 4, b"\7\4\1\2")],
        [(0, 7, 4, b"\2\3\0\0")],
        [version, text(0x12, "WGS-84")],
        [version, *gps(order)],
        [version, version],
    ]
    for entries in told:
        out = clean(block(*entries))
        assert pack(order, GPS_IFD, 4, size=2) not in out
        assert not out[0x100:].strip(b"\0")


@pytest.mark.parametrize("tag", [0xEA1C, 0x8889])
def test_padding_in_which_a_place_stands_goes(tag):
    value = b"\x1c\xea\0\0\0\x08".ljust(300, b"\0") + TEXT_COORDINATES.encode()
    assert not leaks(clean(one("MM", (tag, 7, len(value), value))))


def test_a_gps_tag_goes_even_if_it_says_nothing():
    block = tiff(
        "II",
        (8, ifd("II", 8, [text(0x010F, "T"), long("II", SUB_IFDS, 0x100)])),
        (0x100, ifd("II", 0x100, gps("II"))),
    )
    assert not leaks(clean(block))


def test_tags_that_programs_write_beside_those_of_exif_stay():
    entries = [
        (0x0155, 3, 3, pack("II", 255, 255, 255, size=2)),
        (0xC612, 1, 4, b"\1\4\0\0"),
        (0xC621, 10, 2, pack("II", 7, 10, 3, 10)),
        text(0x9A00, "M2102J20SG"),
        text(0xFDE8, "Owner's Name: Rosa"),
    ]
    block = one("II", *entries)
    assert clean(block) == block
    spoiled = one("II", *entries[:-1], text(0xFDE8, f"Owner: {TEXT_COORDINATES}"))
    assert not leaks(clean(spoiled))


def test_a_directory_that_was_empty_stays_empty():
    empty = tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), long("II", EXIF_IFD, 0x100)])), (0x100, bytes(2)))
    assert clean(empty) == empty


def test_bytes_that_nothing_refers_to_are_told():
    block = one("II") + b"\7" + bytes(20) + b"Zirbelstadt"
    cleaned = clean_tiff(block, PLACES)
    assert cleaned is not None
    assert [(note.tag, note.tells) for note in cleaned.notes] == [("unreferenced", UNKNOWN)]
    assert b"Zirbel" not in cleaned.data


@pytest.mark.parametrize("left", [b"\7", b" " * 30, b"\xff" * 9, bytes(9) + b"ab"])
def test_filler_that_nothing_refers_to_stays(left):
    block = one("II") + left
    assert clean(block) == block


def test_the_end_of_a_value_that_goes_does_not_stay_as_filler():
    """The text of the place is three bytes longer than its tag says."""
    block = one("II", (0x9999, 2, 8, b"Salzburg")) + b"erg"
    assert b"erg" not in clean(block)
    assert clean(one("II") + b"erg").endswith(b"erg")


@pytest.mark.parametrize("left", [b"\xff" * 6, b"ab", b" " * 30])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_filler_behind_a_directory_that_gets_shorter_is_judged_once(left, order):
    """What a next look takes for one stretch with the room of the tag that went, must say nothing, too."""
    first = ifd(order, 8, [long(order, EXIF_IFD, 0x100), long(order, GPS_IFD, 0x300)])
    middle = ifd(order, 0x100, [text(0x9003, "2024"), (0x9999, 7, 4, b"Linz")])
    block = tiff(
        order, (8, first + left), (0x100, middle + left), (0x300, ifd(order, 0x300, gps(order)) + left)
    )
    assert b"Linz" not in clean(block)


def test_filler_on_both_sides_of_a_thumbnail_that_goes_is_two_fillers():
    class Blind(Plain):
        def jpeg(self, data: bytes) -> Cleaned | None:
            return None

    second = ifd("II", 0x80, [long("II", 0x0201, 0x140), long("II", 0x0202, 0x20)])
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "T")], 0x80)), (0x80, second), (0x13E, b"ab"))
    block += b"\xff\xd8" + b"x" * 0x1E + b"cd"
    cleaned = clean_tiff(block, Blind())
    assert cleaned is not None
    assert clean_tiff(cleaned.data, Blind()) == Cleaned(cleaned.data)


def test_filler_beside_records_that_change_is_their_end():
    """The tag says that they are three bytes shorter than they are."""

    class Records(Plain):
        def iim(self, data: bytes) -> Cleaned:
            return clean_iim(data, self)

    for dataset, stays in ((90, False), (105, True)):
        records = jpegs.record(2, 80, b"Rosa") + jpegs.record(2, dataset, b"Salzb")
        cleaned = clean_tiff(one("II", (0x83BB, 7, len(records), records)) + b"urg", Records())
        assert cleaned is not None
        assert (b"Salzb" in cleaned.data) is stays
        assert (b"urg" in cleaned.data) is stays


def unnamed(order: str, *numbers: int) -> list[Entry]:
    """Tags that nobody has named, each with one small number."""
    return [(0xE850 + i, jpegs.SHORT, 1, pack(order, n, size=2)) for i, n in enumerate(numbers)]


@pytest.mark.parametrize("order", ["II", "MM"])
def test_few_small_numbers_without_a_name_stay(order):
    for numbers in ((), (48, 11), (48, 11, 11, 48, 0, 0)):
        block = one(order, *unnamed(order, *numbers))
        assert clean(block) == block


@pytest.mark.parametrize("order", ["II", "MM"])
def test_many_small_numbers_without_a_name_may_be_degrees_minutes_and_seconds(order):
    out = clean(one(order, *unnamed(order, 48, 51, 30), (0xE870, jpegs.SHORT, 1, bytes(2))))
    assert b"Testmaker" in out
    assert pack(order, 0xE870, jpegs.SHORT, size=2) in out
    for tag in range(0xE850, 0xE853):
        assert pack(order, tag, jpegs.SHORT, size=2) not in out
    for number in (48, 51, 30):
        assert pack(order, number, size=2) not in out[10:]


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 7])
def test_numbers_of_every_type_count(kind):
    size = {1: 1, 3: 2, 4: 4, 6: 1, 7: 1}[kind]
    numbers = [(0xE850 + n, kind, 1, pack("II", n, size=size)) for n in (48, 51, 30)]
    assert clean(one("II", *numbers)).count(b"\xe8") == 0
