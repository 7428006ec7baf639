"""Tables of HEIF's items: read in all versions, rebuilt without a byte that no standard prescribes."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import TooMuchError
from policyfs.redact.heif.tables import (
    IN_FILE,
    IN_IDAT,
    Extent,
    Item,
    Location,
    Reference,
    Texts,
    data_information,
    groups,
    handler,
    item_infos,
    locations,
    primary,
    references,
)
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.movies import box, full, u16, u32

SECRET = b"secret"
NONE = bytes(len(SECRET))
PLACE = b"47.804531, 13.042287"


def payload(*parts: bytes, version: int = 0) -> bytes:
    return bytes([version, 0, 0, 0]) + b"".join(parts)


def infe(*parts: bytes, version: int = 2) -> bytes:
    return full(b"infe", *parts, version=version)


def infos(*boxes: bytes, behind: bytes = b"", inner: Plain = PLACES) -> tuple[bytes, list[Item], Tells]:
    texts = Texts(inner)
    out, items = item_infos(payload(u16(len(boxes)), *boxes, behind), texts)
    return out, items, texts.told


def test_items_of_all_versions() -> None:
    out, items, told = infos(
        infe(u16(1, 0), b"hvc1", b"\0"),
        infe(u32(70000), u16(2), b"hvc1", b"a name\0", version=3),
        infe(u16(3, 0), b"mime", b"\0application/rdf+xml\0deflate\0"),
        infe(u16(4, 0), b"\0Image/JPEG\0\0", version=0),
        infe(u16(5, 0), b"uri ", b"\0urn:x\0"),
    )
    assert items == [
        Item(1, b"hvc1"),
        Item(70000, b"hvc1", protected=2),
        Item(3, b"mime", b"application/rdf+xml", b"deflate"),
        Item(4, b"mime", b"image/jpeg"),
        Item(5, b"uri "),
    ]
    assert told == NOTHING
    again = item_infos(out, Texts(PLACES))
    assert again == (out, items)


def test_names_of_items_go_by_their_words_and_keep_their_place() -> None:
    named = infe(u16(1, 0), b"mime", b"by a quince\0text/plain\0\0")
    assert b"by a quince" in infos(named)[0]
    out, items, told = infos(named, inner=Plain(Tells.PEOPLE))
    assert named.replace(b"by a quince", b" " * 11) in out
    assert items[0].content == b"text/plain"
    assert told & Tells.PEOPLE
    assert PLACE not in infos(infe(u16(1, 0), b"hvc1", PLACE + b"\0"))[0]


def test_a_media_type_of_no_shape_makes_the_item_one_of_no_known_type() -> None:
    out, items, told = infos(infe(u16(1, 0), b"mime", b"\0secret words/x\0\0"))
    assert items[0].content.strip() == b""
    assert b"secret" not in out
    assert told == UNKNOWN


def test_bytes_that_no_item_has_go() -> None:
    out, _, told = infos(infe(u16(1, 0), b"hvc1", b"\0", SECRET), box(b"what", SECRET), behind=SECRET)
    assert out == payload(u16(2), infe(u16(1, 0), b"hvc1", b"\0", NONE), box(b"free", NONE), NONE)
    assert told == UNKNOWN
    assert infos(infe(u16(1, 0), b"hvc1", b"\0"), behind=bytes(6))[2] == NOTHING


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        payload(b"\0"),
        payload(u16(1), infe(u16(1, 0), b"hvc1", b"\0", version=4)),
        payload(u16(1), infe(u16(1, 0), b"hv")),
        payload(u16(1), b"\0\0\0\x63infe"),
    ],
)
def test_a_list_of_items_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"too short|unknown version|cut off"):
        item_infos(data, Texts(PLACES))


def iloc(*rows: bytes, sizes: int = 0x4440, version: int = 1, count: int | None = None) -> bytes:
    number = len(rows) if count is None else count
    return payload(u16(sizes), u32(number) if version == 2 else u16(number), *rows, version=version)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (iloc(u16(1, 0) + u32(100) + u16(1) + u32(5, 7), version=0), Location(1, IN_FILE, (Extent(105, 7),))),
        (iloc(u16(1, 1, 0) + u32(0) + u16(1) + u32(5, 7)), Location(1, IN_IDAT, (Extent(5, 7),))),
        (
            iloc(u32(70000) + u16(0, 0) + u32(0) + u16(1) + u32(5, 7), version=2),
            Location(70000, IN_FILE, (Extent(5, 7),)),
        ),
        (
            iloc(u16(1, 2, 0) + u32(0) + u16(2) + u32(9, 5, 7) + u32(8, 6, 0), sizes=0x4444),
            Location(1, 2, (Extent(5, 7, 9), Extent(6, 0, 8))),
        ),
        (
            iloc(u16(1, 0, 0) + u16(1) + bytes(7) + b"\5" + u32(7), sizes=0x8400),
            Location(1, 0, (Extent(5, 7),)),
        ),
        (iloc(u16(1, 0, 1) + u32(0) + u16(1) + u32(5, 7)), Location(1, IN_FILE, ())),  # in another file
        (iloc(u16(1, 0, 0) + u32(0) + u16(0)), Location(1, IN_FILE, ())),
    ],
)
def test_places_of_items(data: bytes, found: Location) -> None:
    assert locations(data + SECRET, PLACES) == (data + NONE, [found])


@pytest.mark.parametrize(
    "data",
    [
        iloc(version=3),
        iloc(sizes=0x1440),
        iloc(sizes=0x4450),
        iloc(sizes=0x4443),
        iloc(u16(1, 0, 0) + u32(0) + u16(2) + u32(5, 7)),
        iloc(u16(1, 0, 0) + u16(2), sizes=0),
        iloc(count=1),
    ],
)
def test_places_that_cannot_be_read_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"too short|no such item|more pieces"):
        locations(data, PLACES)


def test_places_and_references_cost_parts() -> None:
    inner = Plain()
    inner._budget.parts = 1
    with pytest.raises(TooMuchError):
        locations(iloc(u16(1, 0, 0) + u32(0) + u16(1) + u32(5, 7)), inner)
    inner._budget.parts = 3
    with pytest.raises(TooMuchError):
        references(payload(box(b"cdsc", u16(1, 3, 7, 8, 9))), inner)


def test_references_of_both_widths() -> None:
    small = payload(box(b"cdsc", u16(1, 2, 7, 8), SECRET), box(b"thmb", u16(9, 0)))
    assert references(small + b"junk", PLACES) == (
        payload(box(b"cdsc", u16(1, 2, 7, 8), NONE), box(b"thmb", u16(9, 0))) + bytes(4),
        [Reference(b"cdsc", 1, (7, 8)), Reference(b"thmb", 9, ())],
    )
    wide = payload(box(b"cdsc", u32(70000), u16(1), u32(80000)), version=1)
    assert references(wide, PLACES)[1] == [Reference(b"cdsc", 70000, (80000,))]
    with pytest.raises(ValueError, match="too short"):
        references(payload(box(b"cdsc", u16(1, 2, 7))), PLACES)


def test_the_item_to_show_first() -> None:
    assert primary(payload(u16(1)) + SECRET) == payload(u16(1)) + NONE
    assert primary(payload(u32(1), version=1) + SECRET) == payload(u32(1), version=1) + NONE
    with pytest.raises(ValueError, match="too short"):
        primary(payload(b"\1"))


def test_a_handler_keeps_its_type() -> None:
    data = payload(bytes(4), b"pict", b"makerabcdefg", b"a quince\0", SECRET)
    out, kind = handler(data, Texts(PLACES))
    assert kind == b"pict"
    assert out[:33] == data[:33]
    assert not any(out[33:])
    texts = Texts(Plain(Tells.DEVICE))
    out, _ = handler(data, texts)
    assert out[:24] == data[:12] + bytes(12)
    assert texts.told & Tells.DEVICE
    assert b"quince" not in out


@pytest.mark.parametrize(
    ("kind", "stays"), [(b"altr", False), (b"pano", True), (b"ster", True), (b"what", False)]
)
def test_groups_keep_their_numbers_and_some_more_of_them(kind: bytes, stays: bool) -> None:
    made = full(kind, u32(1, 2, 7, 8), SECRET)
    assert groups(made, PLACES) == (made if stays else full(kind, u32(1, 2, 7, 8), NONE))
    assert groups(full(b"pano", u32(1, 0), bytes(1025)), PLACES) == full(b"pano", u32(1, 0), bytes(1025))
    long = full(b"pano", u32(1, 0), b"x" * 1025)
    assert groups(long, PLACES) == full(b"pano", u32(1, 0), bytes(1025))
    assert groups(full(b"altr", u32(1, 9, 7)), PLACES) == box(b"free", bytes(16))


def test_addresses_of_other_files_go() -> None:
    data = box(b"dref", payload(u32(1), full(b"url ", SECRET, flags=1))) + box(b"what", SECRET)
    assert data_information(data, PLACES) == (
        box(b"dref", payload(u32(1), full(b"url ", NONE, flags=1))) + box(b"free", NONE)
    )


