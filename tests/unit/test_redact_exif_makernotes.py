"""Maker notes: what is known to tell nothing of what is asked for stays, in its place."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import jpegs, tiffs
from tests.support.samples.jpegs import UNDEFINED, pack, text
from tests.support.samples.notes import (
    CITY,
    MAKERS,
    NOTE_AT,
    PERSON,
    SERIAL,
    SETTING,
    exif_with,
    note_of,
    photo_by,
)

FACTS = {"location": CITY, "device": SERIAL, "people": PERSON}


def read(data: bytes, word: str) -> bytes:
    """What a reader gets; redacting that again finds nothing."""
    plan = locate("image/jpeg", frozenset({word}), MemorySource(data))
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    out = apply(data, plan.patches)
    again = locate("image/jpeg", frozenset({word}), MemorySource(out))
    assert again.outcome is Outcome.CLEAN, again
    return out


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_asked_for_goes_and_the_rest_stays(name, order):
    data = photo_by(name, order)
    there = {word for word, fact in FACTS.items() if fact.encode() in data}
    assert "device" in there
    assert SETTING.encode() in data
    for word in there:
        out = read(data, word)
        assert FACTS[word].encode() not in out, word
        if word != "device":  # a note's layout tells the maker
            assert SETTING.encode() in out, word
            for other in there - {word}:
                assert FACTS[other].encode() in out, (word, other)
    assert SETTING.encode() not in read(data, "all-metadata")


@pytest.mark.parametrize("name", MAKERS)
def test_a_note_that_tells_nothing_asked_for_stays_bit_by_bit(name):
    maker = MAKERS[name]
    kept = tuple(tag for tag in maker.tags if CITY.encode() not in tag[3])
    note = note_of(maker._replace(tags=kept), "MM")
    data = jpegs.photo_with(exif_with(note, "MM", maker.make))
    assert read(data, "location") == data


def test_readers_find_the_other_tags_where_they_were(tmp_path):
    for name in MAKERS:
        (tmp_path / f"{name}.jpg").write_bytes(photo_by(name, "MM"))
        (tmp_path / f"{name} redacted.jpg").write_bytes(read(photo_by(name, "MM"), "location"))
    found = {str(tags["SourceFile"]): tags for tags in jpegs.exiftool(*sorted(tmp_path.glob("*.jpg")))}
    for name in MAKERS:
        before = found[str(tmp_path / f"{name}.jpg")]
        after = found[str(tmp_path / f"{name} redacted.jpg")]
        told = {tag: value for tag, value in before.items() if SERIAL in str(value) or SETTING in str(value)}
        assert told, (name, before)
        assert {tag: after.get(tag) for tag in told} == told
        assert CITY not in str(after)
        warned = {value for tag, value in after.items() if tag.endswith("Warning")}
        assert warned <= {value for tag, value in before.items() if tag.endswith("Warning")}, name


UNREADABLE = {
    "of an unknown maker": ("Nobody", b"XYZ\0" + jpegs.ifd("II", 4, [text(1, CITY)])),
    "text": ("DJI", b"[ae_dbg_info: " + CITY.encode()),
    "compressed": ("Google", b"HDRP\2" + CITY.encode()),
    "without entries": ("Canon", b"\0\0" + CITY.encode()),
    "with too many entries": ("Canon", b"\xff\xff" + CITY.encode() * 20),
    "cut off": ("Panasonic", b"Panasonic\0\0\0\x40\0" + CITY.encode()),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("word", FACTS)
def test_a_note_that_nobody_can_read_goes_as_a_whole(case, word):
    make, note = UNREADABLE[case]
    data = jpegs.photo_with(exif_with(note, "II", make))
    out = read(data, word)
    assert CITY.encode() not in out
    assert pack("II", 0x927C, UNDEFINED, size=2) not in out


def test_a_note_that_was_moved_without_its_offsets_goes_as_a_whole():
    """Else the bytes of one tag would stay as another's."""
    maker = MAKERS["Panasonic"]
    for by in (-40, -1, 1, 40, 5000):
        note = note_of(maker, "II", NOTE_AT + by)
        out = read(jpegs.photo_with(exif_with(note, "II", maker.make)), "location")
        assert CITY.encode() not in out
        assert SETTING.encode() not in out


@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_note_that_is_longer_than_its_tag_says_stays(order):
    """As cameras write them: what is said to be behind the note is its last value."""
    maker = MAKERS["Panasonic"]
    note = note_of(maker, order)
    block = exif_with(note, order, maker.make)
    head = pack(order, 0x927C, UNDEFINED, size=2)
    out = read(
        jpegs.photo_with(block.replace(head + pack(order, len(note)), head + pack(order, len(note) - 8))),
        "location",
    )
    assert CITY.encode() not in out
    assert SETTING.encode() in out
    assert SERIAL.encode() in out


def test_what_lies_behind_a_note_is_not_its_last_value_where_it_is_another_tags():
    """Canon's EOS 300D says that a value goes on into the directory behind the note."""
    maker = MAKERS["Panasonic"]
    note = note_of(maker, "II")
    head = pack("II", 0x927C, UNDEFINED, size=2)
    owner = (0xA430, 2, 8, note[-8:])  # its value is put where the last one of the note ends
    block = exif_with(note, "II", maker.make, owner)
    at = block.index(pack("II", 0xA430, 2, size=2)) + 8
    block = block[:at] + pack("II", NOTE_AT + len(note) - 8) + block[at + 4 :]
    block = block.replace(head + pack("II", len(note)), head + pack("II", len(note) - 8))
    out = read(jpegs.photo_with(block), "location")
    assert CITY.encode() not in out
    assert SETTING.encode() not in out[: out.index(note[-8:])]
    assert SERIAL.encode() in out
    assert note[-8:] in out


def test_tags_that_nobody_has_named_go():
    maker = MAKERS["Canon"]
    note = note_of(maker._replace(tags=(text(6, SETTING), text(0x3FFF, CITY))), "II")
    out = read(jpegs.photo_with(exif_with(note, "II", maker.make)), "people")
    assert CITY.encode() not in out
    assert SETTING.encode() in out


def test_what_no_tag_of_a_note_refers_to_goes():
    maker = MAKERS["Nikon"]
    note = note_of(maker, "MM") + CITY.encode()
    out = read(jpegs.photo_with(exif_with(note, "MM", maker.make)), "time")
    assert CITY.ljust(20).encode() in out
    assert out.count(CITY.encode()) == 1


def test_a_value_over_one_that_goes_goes_too():
    """Panasonic's title is the city's bytes."""
    maker = MAKERS["Panasonic"]
    note = bytearray(note_of(maker, "II"))
    city = NOTE_AT + note.index(CITY.encode())
    photo_style = note.index(pack("II", 0x89, 2, size=2))
    note[photo_style + 8 : photo_style + 12] = pack("II", city)
    out = read(jpegs.photo_with(exif_with(bytes(note), "II", maker.make)), "location")
    assert CITY.encode() not in out


def test_what_stands_for_a_tag_that_went_does_not_lead_to_what_stays():
    """The city of a note is said to be where the pixels are; those stay, the entry does not lead there."""
    maker = MAKERS["Panasonic"]
    note = bytearray(note_of(maker, "II", 0x2000))
    place = note.index(pack("II", 0x6D, 2, size=2))
    note[place + 8 : place + 12] = pack("II", 8)
    data = tiffs.classic("II", text(0x010F, maker.make), (0x927C, UNDEFINED, len(note), bytes(note)))
    moved = data.replace(pack("II", data.index(note)), pack("II", 0x2000)).ljust(0x2000, b"\0") + note
    out = apply(moved, locate("image/tiff", frozenset({"location"}), MemorySource(moved)).patches)
    assert tiffs.PIXELS in out
    assert out[0x2000:].count(SETTING.encode()) == 1
    assert out[0x2000 + place : 0x2000 + place + 12] == pack("II", 0xFFFF, 7, size=2) + pack("II", 4, 0)


def test_a_strip_over_a_note_does_not_keep_what_went():
    maker = MAKERS["Nikon"]
    note = note_of(maker, "II", 0x2000)
    data = tiffs.classic("II", jpegs.text(0x010F, maker.make), (0x927C, UNDEFINED, len(note), note))
    where = data.index(note)
    data = data.replace(pack("II", where), pack("II", 0x2000)).replace(note, bytes(len(note)))
    data = data.replace(
        pack("II", 0x0117, 4, size=2) + pack("II", 1, len(tiffs.PIXELS)),
        pack("II", 0x0117, 4, size=2) + pack("II", 1, 0x2000 + len(note) - 8),
    )
    data = data.ljust(0x2000, b"\0") + note
    plan = locate("image/tiff", frozenset({"location"}), MemorySource(data))
    out = apply(data, plan.patches)
    assert CITY.encode() in data
    assert plan.outcome is Outcome.PATCH
    assert CITY.encode() not in out


def test_a_packet_that_reaches_into_the_head_of_a_note_goes():
    """Not the head: the next reader would not know the note without."""
    maker = MAKERS["Nikon"]
    note = note_of(maker, "II", 0x2000)
    records = jpegs.record(2, 5, b"Quince")
    data = tiffs.classic(
        "II",
        text(0x010F, maker.make),
        (0x83BB, UNDEFINED, len(records) + 9, records + bytes(9)),
        (0x927C, UNDEFINED, len(note), note),
    )
    for value, at in ((note, 0x2000), (records + bytes(9), 0x2000 - len(records))):
        data = data.replace(pack("II", data.index(value)), pack("II", at)).replace(value, bytes(len(value)))
    data = data.ljust(0x2000 - len(records), b"\0") + records + note
    out = apply(data, locate("image/tiff", frozenset({"location"}), MemorySource(data)).patches)
    assert SETTING.encode() in out
    assert CITY.encode() not in out
    assert locate("image/tiff", frozenset({"location"}), MemorySource(out)).outcome is Outcome.CLEAN


def test_a_note_of_which_a_value_went_is_as_sound_as_before():
    """One value of four lies outside of a Casio's note; what stands for one that went still counts."""
    maker = MAKERS["Casio"]
    note = note_of(maker._replace(tags=(*maker.tags, text(0x3015, "portrait"))), "II", 0x2000)
    data = tiffs.classic("II", text(0x010F, maker.make), (0x927C, UNDEFINED, len(note), note))
    data = data.replace(pack("II", data.index(note)), pack("II", 0x2000)).replace(note, bytes(len(note)))
    where = note.index(pack("II", 0x3007, 2, size=2)) + 8
    note = note[:where] + pack("II", 0x1800) + note[where + 4 :]
    data = (data.ljust(0x1800, b"\0") + SETTING.encode()).ljust(0x2000, b"\0") + note
    out = apply(data, locate("image/tiff", frozenset({"location"}), MemorySource(data)).patches)
    assert CITY.encode() not in out
    assert SETTING.encode() in out
    assert locate("image/tiff", frozenset({"location"}), MemorySource(out)).outcome is Outcome.CLEAN


IN_PLACE = {
    0x000: "49492a0008000000 0300 0f0102000600000032000000 1001090003000000af020000 698704000100000000010000",
    0x032: "43616e6f6e",
    0x100: "0200 0090070092030000 76020000 7c920700740000000202",
    0x202: "0400 060002000b00000038020000 090002000c000000b5020000",
    0x21c: "9600060002000b0000003802 000002001100000076020000",
    0x238: "534f4654204c49474854",
    0x276: "534e2d343731312d3038",
    0x2c0: "70",
}
"""A CR2 whose Canon note has values one behind the other, also behind it. Two tags are broken."""


@pytest.mark.parametrize("word", ["location", "device", "time", "people", "all-metadata"])
def test_a_note_whose_values_follow_each_other_is_known_by_those_that_stay(word: str) -> None:
    """Where one between them goes, the next reader would not know the note."""
    data = bytearray(max(IN_PLACE) + 1)
    for at, part in IN_PLACE.items():
        data[at : at + len(bytes.fromhex(part))] = bytes.fromhex(part)
    what = frozenset({word})
    out = apply(bytes(data), locate("image/x-canon-cr2", what, MemorySource(bytes(data))).patches)
    assert locate("image/x-canon-cr2", what, MemorySource(out)).outcome is Outcome.CLEAN


def test_private_data_that_the_maker_explains_goes_with_the_maker():
    """The maker's value overlaps the directory that only a Sony has."""
    data = bytes.fromhex(
        "4d4d002a00000008 0003 00fe00040000000100000034 010f00020000000500000032 c634000200000004 00000036"
        "00000000 534f4e5900 0000"
    )
    for word in ("location", "time", "people"):
        plan = locate("image/x-canon-cr2", frozenset({word}), MemorySource(data))
        assert plan.outcome is Outcome.REFUSE
        assert "maker" in plan.reason


def with_unnamed(*tags: jpegs.Entry, make: str = "Nikon") -> bytes:
    """A photo whose note has these tags beside one that stays."""
    maker = MAKERS[make]
    note = note_of(maker._replace(tags=(text(0x8F, SETTING), *tags)), "MM")
    return jpegs.photo_with(exif_with(note, "MM", maker.make))


@pytest.mark.parametrize(
    "tag",
    [
        (0x3FF0, jpegs.LONG, 1, pack("MM", 4)),
        (0x3FF0, UNDEFINED, 40, bytes(40)),
        (0x3FF0, jpegs.SHORT, 4, b"\xff" * 8),
        (0x3FF0, UNDEFINED, 4, b"0210"),
        text(0x3FF0, "AUTO"),
    ],
)
@pytest.mark.parametrize("word", ["location", "time", "people"])
def test_a_tag_that_nobody_has_named_stays_if_nothing_stands_in_it(tag, word):
    data = with_unnamed(tag)
    assert read(data, word) == data


@pytest.mark.parametrize(
    "tag",
    [
        (0x3FF0, jpegs.LONG, 1, pack("MM", 478045)),
        (0x3FF0, jpegs.SHORT, 2, pack("MM", 47, 13, size=2)),
        (0x3FF0, jpegs.LONG, 2, pack("MM", 47, 13)),
        (0x3FF0, jpegs.RATIONAL, 3, pack("MM", *jpegs.LATITUDE)),
        (0x3FF0, UNDEFINED, 4, b"4780"),
        text(0x3FF0, "u26n7"),
        text(0x3FF0, CITY),
    ],
)
def test_a_tag_that_nobody_has_named_goes_if_a_place_may_stand_in_it(tag):
    out = read(with_unnamed(tag), "location")
    assert tag[3].rstrip(b"\0") not in out
    assert SETTING.encode() in out


def test_a_small_number_does_not_lead_to_a_directory():
    """Nor is a value of a known tag kept for being small: it may be a city's number."""
    for tag in ((jpegs.GPS_IFD, jpegs.LONG, 1, pack("MM", 8)), (0x39, UNDEFINED, 1, b"\x07")):
        data = with_unnamed(tag)
        assert read(data, "location") != data


def test_a_place_that_is_not_set_stays():
    maker = MAKERS["Panasonic"]
    tags = (text(0x89, SETTING), text(0x6D, "---"), (0x6F, UNDEFINED, 64, bytes(64)))
    data = jpegs.photo_with(exif_with(note_of(maker._replace(tags=tags), "II"), "II", maker.make))
    assert read(data, "location") == data


def saying(said: bytes) -> bytes:
    """A photo by nobody whose note is this."""
    inner = jpegs.ifd("II", 0x100, [(0x927C, UNDEFINED, len(said), said), (0x9000, UNDEFINED, 4, b"0232")])
    main = jpegs.ifd("II", 8, [text(0x010F, "Nobody"), jpegs.long("II", jpegs.EXIF_IFD, 0x100)])
    return jpegs.photo_with(jpegs.tiff("II", (8, main), (0x100, inner)))


@pytest.mark.parametrize("word", ["location", "time", "people"])
@pytest.mark.parametrize("said", [b"0", b"{}", b"Auto", b"auto\0\0\0\0", bytes(300)])
def test_a_word_is_no_note(said, word):
    """Some phones write one where a note would be."""
    data = saying(said)
    assert read(data, word) == data


@pytest.mark.parametrize("said", [b"u26n7xyz", b"47.8", b"Linz", b"{47,13}"])
def test_a_short_note_that_is_no_known_word_goes(said):
    out = read(saying(said), "location")
    assert pack("II", 0x927C, UNDEFINED, size=2) not in out
    assert said not in out


def test_a_pad_byte_of_a_note_stays_and_the_end_of_a_value_that_went_does_not():
    maker = MAKERS["Nikon"]
    note = note_of(maker._replace(tags=(text(0x8F, SETTING),)), "MM")
    data = jpegs.photo_with(exif_with(note + b"\x07\0", "MM", maker.make))
    assert read(data, "location") == data
    for tail in (b"rg", b"\0\0burg"):
        cut = note_of(maker, "MM")
        assert cut.index(CITY.encode()) < len(cut)
        place = cut.index(pack("MM", 0x39, UNDEFINED, size=2))
        short = cut[: place + 4] + pack("MM", 20 - len(tail)) + cut[place + 8 :]
        where = short.index(CITY.encode()) + 20 - len(tail)
        short = short[:where] + tail + short[where + len(tail) :]
        out = read(jpegs.photo_with(exif_with(short, "MM", maker.make)), "location")
        assert tail not in out[out.index(b"Nikon") : out.index(b"Nikon") + len(short)]


@pytest.mark.parametrize("gap", [0, 3])
def test_a_value_that_starts_in_the_last_byte_of_a_note_ends_it(gap):
    """The note and the maker's name share a byte. What goes before it makes no leftover of it."""
    setting = text(0x8F, SETTING)
    note = note_of(MAKERS["Nikon"]._replace(tags=(setting,)), "MM") + b"Linz, 47.8" + bytes(gap) + b"N"
    more = len(note) - 1
    block = exif_with(note, "MM", "NIKON CORPORATION") + b"IKON CORPORATION\0"
    make = block.index(pack("MM", 0x010F, 2, size=2))
    data = jpegs.photo_with(block[: make + 8] + pack("MM", NOTE_AT + more) + block[make + 12 :])
    out = read(data, "location")
    assert b"Linz" not in out
    assert b"NIKON CORPORATION\0" in out[out.index(SETTING.encode()) :]


def test_what_goes_of_a_note_is_told():
    maker = MAKERS["Nikon"]
    note = note_of(maker._replace(tags=(text(0x8F, SETTING),)), "MM") + b"Linz, 47.8"
    data = jpegs.photo_with(exif_with(note, "MM", maker.make))
    plan = locate("image/jpeg", frozenset({"location"}), MemorySource(data))
    assert [(f.container, f.tag) for f in plan.findings] == [("MakerNote", "unreferenced")]
    assert plan.findings[0].offset <= data.index(b"Linz, 47.8") < plan.findings[0].offset + 2


def of_zones(name: str, *tags: jpegs.Entry) -> bytes:
    maker = MAKERS[name]
    setting = next(tag for tag in maker.tags if SETTING.encode() in tag[3])
    return jpegs.photo_with(exif_with(note_of(maker._replace(tags=(setting, *tags)), "II"), "II", maker.make))


def test_of_a_time_zone_only_the_city_goes():
    def canon(city: int, zone: int = 120) -> bytes:
        return of_zones("Canon", (0x35, 4, 4, pack("II", 16, zone, city, 60)))

    assert read(canon(20), "location") == canon(0)
    assert read(canon(20), "people") == canon(20)
    assert pack("II", 120) not in read(canon(20), "time")
    hidden = read(canon(20, zone=478045), "location")
    assert pack("II", 478045) not in hidden


def test_of_numbers_that_have_none_for_no_city_nothing_stays():
    """Pentax' first city is Pago Pago; flags beside the tags of cities tell no place."""
    flags = ((0x22, UNDEFINED, 1, b"\1"), (0x25, UNDEFINED, 1, b"\1"))
    for city in (0, 33):
        home = (0x23, jpegs.SHORT, 1, pack("II", city, size=2))
        zones = (0x6B, UNDEFINED, 4, bytes((1, 0, city, city)))
        out = read(of_zones("Pentax", *flags, home, zones), "location")
        for tag in (home, zones):
            assert pack("II", tag[0], tag[1], size=2) not in out
        for tag in flags:
            assert pack("II", tag[0], tag[1], size=2) in out


def test_whether_somebody_was_at_home_tells_no_place():
    data = of_zones("Panasonic", (0x3A, jpegs.SHORT, 1, pack("II", 2, size=2)))
    assert read(data, "location") == data
    named = of_zones("Panasonic", text(0x3A, "47.80453, 13.04229"))
    assert b"47.80453" not in read(named, "location")


def moved(by: int, order: str = "II", *, said: int = 0) -> bytes:
    """A photo with a Canon note that was made elsewhere; said: how far off its footer is."""
    maker = MAKERS["Canon"]
    note = note_of(maker, order, NOTE_AT + by)[:-4] + pack(order, NOTE_AT + by + said)
    return jpegs.photo_with(exif_with(note, order, maker.make))


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("by", [-40, -4, -2, 2, 4, 40, 5000])
def test_a_canon_note_that_was_moved_is_read_by_its_footer(by, order):
    data = moved(by, order)
    out = read(data, "location")
    assert CITY[:4].encode() not in out
    for fact in (SETTING, SERIAL, PERSON):
        assert fact.encode() in out
    assert PERSON.encode() not in read(data, "people")


@pytest.mark.parametrize("by", [-40, -2, 2, 40])
@pytest.mark.parametrize("said", [-8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 100])
def test_a_footer_that_lies_moves_no_value_over_another(by, said):
    """What is hidden would stay as the end of another value."""
    data = moved(by, said=said)
    for word, fact in (("location", CITY), ("people", PERSON)):
        out = read(data, word)
        assert not any(fact[at : at + 4].encode() in out for at in range(len(fact) - 3))


def with_preview(picture: bytes, *, extra: bytes = b"") -> bytes:
    """A photo with a Nikon note that has a picture at its end, and a directory that says so."""
    maker = MAKERS["Nikon"]
    kept = tuple(tag for tag in maker.tags if CITY.encode() not in tag[3])
    plain = note_of(maker._replace(tags=(*kept, jpegs.long("II", 0x11, 0))), "II")
    at = len(plain) - 10  # from where the note's offsets count
    inner = jpegs.ifd("II", at, [jpegs.long("II", 0x201, at + 30), jpegs.long("II", 0x202, len(picture))])
    note = plain.replace(
        pack("II", 0x11, jpegs.LONG, size=2) + pack("II", 1, 0),
        pack("II", 0x11, jpegs.LONG, size=2) + pack("II", 1, at),
    )
    assert note != plain
    assert len(inner) == 30
    return jpegs.photo_with(exif_with(note + inner + picture + extra, "II", maker.make))


def test_a_picture_within_a_note_stays_and_is_cleaned():
    data = with_preview(jpegs.plain())
    assert read(data, "location") == data
    told = read(with_preview(jpegs.photo_with(jpegs.exif("MM"))), "location")
    assert pack("MM", *jpegs.LATITUDE) not in told
    assert b"Modell 7" in told
    assert told.count(jpegs.plain()[20:]) == 2  # the picture's, and the preview's


def test_what_is_no_picture_in_a_note_goes():
    for fake in (b"\xff\xd8" + CITY.encode() * 9, CITY.encode() * 9, jpegs.plain()[:90] + CITY.encode()):
        assert CITY.encode() not in read(with_preview(fake), "location")


def entry_of(kind: int, count: int, room: bytes) -> bytes:
    """A photo whose Nikon note has an unnamed tag with these four bytes in its entry."""
    data = with_unnamed((0x3FF0, UNDEFINED, 4, b"\xaa\xbb\xcc\xdd"))
    old = pack("MM", 0x3FF0, UNDEFINED, size=2) + pack("MM", 4) + b"\xaa\xbb\xcc\xdd"
    assert data.count(old) == 1
    return data.replace(old, pack("MM", 0x3FF0, kind, size=2) + pack("MM", count) + room)


@pytest.mark.parametrize(
    ("kind", "count", "room"),
    [(jpegs.SHORT, 1, b"\0\1\xff\xff"), (UNDEFINED, 0, bytes(4)), (UNDEFINED, 4, b"\0\0\0\3")],
)
def test_room_that_is_not_used_says_nothing(kind, count, room):
    assert read(entry_of(kind, count, room), "location") == entry_of(kind, count, room)


@pytest.mark.parametrize(
    ("kind", "count", "room"),
    [(jpegs.SHORT, 1, b"\0\x2f\x0d\x0d"), (UNDEFINED, 0, b"Linz"), (UNDEFINED, 4, b"\x2f\0\0\x0d")],
)
def test_room_in_which_something_stands_goes(kind, count, room):
    assert room not in read(entry_of(kind, count, room), "location")


@pytest.mark.parametrize("tag", [0x0E01, 0x0E13])
@pytest.mark.parametrize("word", ["location", "time", "people"])
def test_edits_of_nikons_programs_go(tag, word):
    """They hold IPTC records, once for each version that somebody stored."""
    edits = b"\1\0\0\0\0\1\0\0" + bytes(range(128, 256)) + jpegs.iptc_place()
    out = read(with_unnamed((tag, UNDEFINED, len(edits), edits)), word)
    assert CITY.encode() not in out
    assert SETTING.encode() in out


def kodak(name: str, tail: bytes = b"") -> bytes:
    """Notes of Kodak's cameras, with numbers like theirs."""
    if name == "DC210":
        head = bytes.fromhex("010403000201ffff0001378e0e5d6df6010000fb0004ff2000002800000c3500")
        return head + b"DCP01011.JPG" + (tail or bytes.fromhex("000400000001e4e0")).ljust(28, b"\0")
    if name == "DC220":
        names = b"Eastman Kodak Company".ljust(32, b"\0") + b"KODAK DIGITAL SCIENCE DC220".ljust(32, b"\0")
        return b"\1\0\0\0\0\0\4\0" + names + b"\0\3\0\0\2\x40" * 40 + tail
    numbers = bytes.fromhex("030100010990066007d205010a161c3e00000000000002a1000001d00000ffff")
    return name.encode() + numbers + b"\xff\xfe\x5e\x1e\x5e\xff" * 30 + tail


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("KDK INFODX4900  ", "EASTMAN KODAK COMPANY"),
        ("KDK0102IC663    ", "EASTMAN KODAK COMPANY"),
        ("DC210", "Eastman Kodak Company"),
        ("DC220", "Eastman Kodak Company"),
    ],
)
def test_notes_of_kodak_with_a_fixed_layout_stay_under_location_alone(name, make):
    def photo(note: bytes, maker: str = make) -> bytes:
        return jpegs.photo_with(exif_with(note, "MM", maker))

    start = kodak(name)[:44]
    data = photo(kodak(name))
    assert read(data, "location") == data
    for word in ("device", "time", "people"):
        assert start not in read(data, word)
    for place in (b"47.80453, 13.04229", b"N47 48.271 E13 2.5", b"Exif\0\0II*\0\x08\0\0\0"):
        assert place not in read(photo(kodak(name, b"\0" + place)), "location")
    assert start not in read(photo(kodak(name), "Nobody"), "location")
    assert start[12:] not in read(photo(b"KDL" + kodak(name)[3:12] + b"\xff" + kodak(name)[13:]), "location")
    assert start not in read(photo(kodak(name, bytes(1 << 14) + b"\1")), "location")
