"""Properties of HEIF's items: those of the picture's look stay, others leave free space and no reference."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.heif.properties import (
    MAX_TABLE_BYTES,
    PROPERTIES,
    Properties,
    Property,
    clean_properties,
)
from policyfs.redact.isobmff.boxes import read_box
from policyfs.redact.isobmff.item_data import Ground
from tests.support.samples.heifs import hvcc
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.movies import box, full, u16, u32

ISPE = full(b"ispe", u32(64, 64))
TITLE = full(b"udes", b"en\0a quince\0\0\0")
DATE = full(b"crtt", u32(0, 12345))
PLACE = b"47.804531, 13.042287"
DEPTH = b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth"


def clean(data: bytes, inner: Plain = PLACES) -> tuple[Properties, bytes]:
    """The properties of an ``iprp``, and the box with its changes and with zeros in what was freed."""
    source = MemorySource(data)
    top = read_box(source, 0, len(data))
    assert top is not None
    ground = Ground(source, inner.budget)
    found = clean_properties(source, top, inner, ground)
    out = bytearray(apply(data, found.found.patches))
    for area in ground.areas:
        out[area.start : area.end] = bytes(area.end - area.start)
    return found, bytes(out)


def ipma(
    *items: tuple[int, tuple[int, ...]], version: int = 0, wide: bool = False, behind: bytes = b""
) -> bytes:
    rows = b""
    for item, numbers in items:
        rows += (u32(item) if version else u16(item)) + bytes([len(numbers)])
        rows += u16(*numbers) if wide else bytes(numbers)
    return full(b"ipma", u32(len(items)), rows, behind, version=version, flags=int(wide))


def iprp(*properties: bytes, tables: tuple[bytes, ...] = ()) -> bytes:
    return box(b"iprp", box(b"ipco", *properties), *tables)


def one(data: bytes, inner: Plain = PLACES) -> bytes:
    """What becomes of one property."""
    return clean(iprp(data), inner)[1][16:]


def freed(data: bytes) -> bytes:
    return box(b"free", bytes(len(data) - 8))


def test_the_look_of_a_picture_stays() -> None:
    data = iprp(hvcc((33, b"\1\2\3")), ISPE, TITLE, tables=(ipma((1, (1, 0x82)), (2, ())),))
    found, out = clean(data)
    assert out == data
    assert found.found.notes == []
    assert found.of_item == {1: {1, 2}, 2: set()}
    assert found.configuration(1) == (4, frozenset({b"hvcC", b"ispe"}))
    assert found.configuration(7) == (4, frozenset())


@pytest.mark.parametrize(("version", "wide"), [(0, False), (0, True), (1, False), (1, True)])
def test_no_table_refers_to_a_property_that_went(version: int, wide: bool) -> None:
    essential = 0x8000 if wide else 0x80
    data = iprp(
        DATE, ISPE, box(b"what", PLACE),
        tables=(ipma((1, (1, essential | 2, essential | 3)), version=version, wide=wide, behind=PLACE),),
    )  # fmt: skip
    found, out = clean(data, Plain(Tells.TIME))
    left = ipma((1, (0, essential | 2, 0)), version=version, wide=wide, behind=bytes(len(PLACE)))
    assert out == iprp(freed(DATE), ISPE, freed(box(b"what", PLACE)), tables=(left,))
    assert (found.gone, found.of_item) == ({1, 3}, {1: {2}})
    assert {(note.tag, note.tells) for note in found.found.notes} == {
        ("property crtt", Tells.TIME), ("property what", UNKNOWN)
    }  # fmt: skip
    assert found.listed == [Property(b"free"), Property(b"ispe"), Property(b"free")]


def test_a_number_of_no_property_counts_for_no_configuration() -> None:
    found, _ = clean(iprp(ISPE, tables=(ipma((1, (0, 1, 9))),)))
    assert found.configuration(1) == (4, frozenset({b"ispe"}))


@pytest.mark.parametrize(
    ("kind", "most"),
    [(b"irot", 1), (b"pasp", 8), (b"ispe", 12), (b"clap", 32), (b"a1lx", 13), (b"prdi", 1024)],
)
def test_numbers_longer_than_they_can_be_may_be_anything(kind: bytes, most: int) -> None:
    assert one(box(kind, b"x" * most)) == box(kind, b"x" * most)
    assert one(box(kind, b"x" * (most + 1))) == box(b"free", bytes(most + 1))


def test_texts_go_by_their_words_and_by_what_is_in_them() -> None:
    assert one(TITLE) == TITLE
    assert one(TITLE, Plain(Tells.PEOPLE)) == freed(TITLE)
    place = full(b"udes", b"en\0" + PLACE + b"\0\0\0")
    assert one(place) == freed(place)
    assert one(place, Plain(Tells.TIME)) == place
    inner = Plain()
    inner._budget.texts = len(TITLE) - 9
    assert one(TITLE, inner) == freed(TITLE), "nobody has read it"


def test_a_long_text_stays_and_a_gigantic_one_goes() -> None:
    long = full(b"udes", b"quince " * 500)
    assert one(long) == long
    gigantic = full(b"udes", b" " * MAX_TABLE_BYTES)
    assert one(gigantic) == freed(gigantic)


@pytest.mark.parametrize(
    ("payload", "left"),
    [
        (DEPTH + b"\0", DEPTH + b"\0"),
        (b"urn:com:maker:aux\0" + b"numbers", b"urn:com:maker:aux\0" + bytes(7)),
        (b"urn:mpeg:hevc:2015:auxid:1\0" + b"x" * 256, b"urn:mpeg:hevc:2015:auxid:1\0" + b"x" * 256),
        (b"urn:mpeg:hevc:2015:auxid:1\0" + b"x" * 257, b"urn:mpeg:hevc:2015:auxid:1\0" + bytes(257)),
        (b"a quince\0", None),
        (b"urn:47.804531,13.042287\0", None),
        (b"", None),
    ],
)
def test_the_purpose_of_an_auxiliary_picture_is_a_name(payload: bytes, left: bytes | None) -> None:
    made = full(b"auxC", payload)
    assert one(made) == (freed(made) if left is None else full(b"auxC", left))
    assert one(box(b"auxC", b"\0\0")) == box(b"free", bytes(2))


@pytest.mark.parametrize(
    ("made", "stays"),
    [
        (box(b"colr", b"nclx", bytes(7)), True),
        (box(b"colr", b"what", bytes(7)), False),
        (box(b"j2kH", box(b"ihdr", bytes(14)), box(b"colr", bytes(7))), True),
        (box(b"j2kH", box(b"ihdr", bytes(14)), box(b"xml ", PLACE)), False),
        (box(b"j2kH", u32(99), b"ihdr"), False),
        (box(b"hvcC", b"no configuration"), False),
        (box(b"free", PLACE), False),
        (box(b"skip", bytes(9)), False),
    ],
)
def test_colours_headers_and_configurations_stay_if_they_are_some(made: bytes, stays: bool) -> None:
    assert one(made) == (made if stays else freed(made))


def test_lengths_of_units_are_those_of_the_configuration_if_all_agree() -> None:
    two = bytearray(hvcc((33, b"\1\2\3")))
    two[8 + 21] = two[8 + 21] & ~3 | 1
    found, _ = clean(iprp(bytes(two), hvcc((33, b"\1")), tables=(ipma((1, (1,)), (2, (2,)), (3, (1, 2))),)))
    assert [found.configuration(number)[0] for number in (1, 2, 3)] == [2, 4, 0]


def test_boxes_beside_the_properties_become_free_space() -> None:
    data = box(b"iprp", box(b"ipco", ISPE), box(b"what", PLACE), box(b"free", PLACE), box(b"ipco", TITLE))
    found, out = clean(data)
    assert out == box(b"iprp", box(b"ipco", ISPE), *(box(b"free", bytes(n)) for n in (20, 20, len(TITLE))))
    assert [note.tag for note in found.found.notes] == ["properties"] * 2


@pytest.mark.parametrize(
    "table",
    [
        full(b"ipma", u32(2), u16(1), b"\0"),
        full(b"ipma", u32(1), u16(1), b"\3\1\2"),
        box(b"ipma", b"\0\0"),
        full(b"ipma", u32(0), bytes(MAX_TABLE_BYTES)),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(table: bytes) -> None:
    with pytest.raises(ValueError, match=r"too short|no such table"):
        clean(iprp(ISPE, tables=(table,)))


def test_what_has_no_word_of_its_own_is_known_to_be_numbers() -> None:
    assert set(PROPERTIES.values()) == {Tells(0), Tells.PEOPLE, Tells.TIME, Tells.OTHER}
