"""User data and lists of items: each value goes by its name, and texts that stay hold no place."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Note
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.udta import (
    EXIF_UUID,
    IPOD_UUID,
    PROFILE_UUID,
    SPHERICAL_UUID,
    XMP_UUID,
    clean_handler,
    clean_meta,
    clean_user_data,
    clean_uuid,
)
from policyfs.redact.plan import locate
from tests.support.samples import sounds
from tests.support.samples.inners import Plain
from tests.support.samples.movies import (
    box,
    data,
    free_form,
    full,
    handler,
    itunes,
    keyed,
    loci,
    movie,
    text_atom,
    u32,
    uuid,
)

COORDINATES = b"+47.8045+013.0423/"
PHOTO = b"\xff\xd8\xff photo PLACE"


class Blocks(Plain):
    """Blanks the word PLACE in every block; does not understand one that is broken."""

    def xmp(self, data: bytes) -> Cleaned:
        return Cleaned(data.replace(b"PLACE", b"     "), (Note(data.find(b"PLACE"), 5, "XMP", "place"),))

    def tiff(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else Cleaned(data.replace(b"PLACE", b"     "))

    def image(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else Cleaned(data.replace(b"PLACE", b"     "))


def clean(whole: bytes, hide: Tells = Tells.LOCATION) -> tuple[bytes, list[Note]]:
    block = Block(whole, 0, Blocks(hide))
    top = block.boxes(0, len(whole)).boxes[0]
    if top.kind == b"uuid":
        clean_uuid(block, top, "moov")
    elif top.kind == b"hdlr":
        clean_handler(block, top)
    else:
        {b"udta": clean_user_data, b"meta": clean_meta}[top.kind](block, top)
    return apply(whole, block.found.patches), block.found.notes


def user(*boxes: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """What becomes of boxes in ``udta``."""
    return clean(box(b"udta", *boxes), hide)[0][8:]


def free(size: int) -> bytes:
    return box(b"free", bytes(size))


@pytest.mark.parametrize(
    ("made", "hide", "stays"),
    [
        (text_atom(b"\xa9nam", b"a quince"), Tells.LOCATION, True),
        (text_atom(b"\xa9nam", b"a quince"), Tells.PEOPLE, False),
        (text_atom(b"\xa9nam", b"at " + COORDINATES), Tells.LOCATION, False),
        (text_atom(b"\xa9nam", b"at " + COORDINATES), Tells.TIME, True),
        (text_atom(b"\xa9xyz", b"anything"), Tells.LOCATION, False),
        (loci(), Tells.LOCATION, False),
        (loci(), Tells.DEVICE, True),
        (box(b"what", b"anything"), Tells.TIME, False),
        (box(b"SETT", bytes(range(100))), Tells.LOCATION, True),
        (box(b"SETT", bytes(range(100))), Tells.OTHER, False),
        (box(b"SETT", b"\1\2\3\4" * 255), Tells.LOCATION, False),
        (box(b"GPMF", b"no telemetry at all"), Tells.TIME, False),
    ],
)
def test_user_data_goes_by_its_type_and_by_what_is_in_it(made: bytes, hide: Tells, stays: bool) -> None:
    assert user(made, hide=hide) == (made if stays else free(len(made) - 8))


def test_free_space_in_user_data_is_empty_but_for_filler() -> None:
    assert user(box(b"free", b"secret words")) == free(12)
    assert user(box(b"skip", b"\x11" * 20)) == box(b"skip", b"\x11" * 20)
    assert user(text_atom(b"\xa9nam", b"a"), bytes(4), b"behind the end") == text_atom(
        b"\xa9nam", b"a"
    ) + bytes(18)


def test_packets_of_user_data_are_cleaned_and_gigantic_ones_go() -> None:
    assert user(box(b"XMP_", b"<PLACE/>")) == box(b"XMP_", b"<     />")
    gigantic = box(b"XMP_", b" " * (4 << 20))
    out, notes = clean(box(b"udta", gigantic))
    assert out[8:] == free(4 << 20)
    assert [note.broken for note in notes] == [True]


@pytest.mark.parametrize(
    ("inside", "left"),
    [
        (box(b"CNDA", PHOTO), box(b"CNDA", PHOTO.replace(b"PLACE", b"     "))),
        (box(b"CNDA", PHOTO + b"broken"), None),
        (box(b"CNDA", b"no photo"), None),
        (box(b"CNDA", PHOTO) + b"behind", None),
        (box(b"CNDA", PHOTO) + box(b"CNDA", PHOTO), None),
        (box(b"what", PHOTO), None),
    ],
)
def test_a_thumbnail_in_user_data(inside: bytes, left: bytes | None) -> None:
    assert user(box(b"CNTH", inside)) == (free(len(inside)) if left is None else box(b"CNTH", left))


@pytest.mark.parametrize(
    ("extended", "body", "left"),
    [
        (XMP_UUID, b"<PLACE/>", b"<     />"),
        (EXIF_UUID, b"II*\0PLACE", b"II*\0     "),
        (EXIF_UUID, b"broken", None),
        (IPOD_UUID, b"\0\0\1\x2c", b"\0\0\1\x2c"),
        (IPOD_UUID, b"\0\0\1\x2c5", None),
        (PROFILE_UUID, bytes(8) + box(b"FPRF", bytes(20)), bytes(8) + box(b"FPRF", bytes(20))),
        (PROFILE_UUID, bytes(8) + box(b"FPRF", bytes(21)), None),
        (PROFILE_UUID, bytes(8) + box(b"what", b""), bytes(8) + box(b"what", b"")),
        (PROFILE_UUID, bytes(8) + box(b"what", b"x"), None),
        (PROFILE_UUID, bytes(8) + box(b"APRF", bytes(48)) * 18 + bytes(9), None),
        (PROFILE_UUID, bytes(8) + box(b"APRF", bytes(48)) * 19, None),
        (b"sixteen byte id!", b"anything", None),
        (XMP_UUID, b"", b""),
    ],
)
def test_boxes_of_extended_types(extended: bytes, body: bytes, left: bytes | None) -> None:
    out, _ = clean(uuid(extended, body))
    assert out == (box(b"free", bytes(16 + len(body))) if left is None else uuid(extended, left))


@pytest.mark.parametrize("extended", [EXIF_UUID, SPHERICAL_UUID, PROFILE_UUID])
def test_boxes_that_are_longer_than_any_packet_go_unread(extended: bytes) -> None:
    body = b"II*\0" + bytes(4 << 20)
    assert clean(uuid(extended, body))[0] == box(b"free", bytes(16 + len(body)))


def test_a_projection_stays_without_what_people_wrote_beside_it() -> None:
    kept = (
        b'<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">',
        b"<GSpherical:Spherical>true</GSpherical:Spherical>",
        b"<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>",
        b"</rdf:SphericalVideo>",
    )
    gone = (
        b"<GSpherical:StitchingSoftware>by a quince</GSpherical:StitchingSoftware>",
        b"<GSpherical:ProjectionType>47.8045, 13.0422</GSpherical:ProjectionType>",
        b"<GSpherical:Spherical>true</GSpherical:Stitched>",
    )
    body = b"".join((kept[0], gone[0], kept[1], gone[1], kept[2], gone[2], kept[3]))
    left = body
    for part in gone:
        left = left.replace(part, b" " * len(part))
    out, notes = clean(uuid(SPHERICAL_UUID, body + bytes(4)))
    assert out == uuid(SPHERICAL_UUID, left + bytes(4))
    assert [note.tag for note in notes] == ["spherical video"]
    assert clean(out) == (out, [])


def test_items_by_keys() -> None:
    whole = keyed({b"com.apple.quicktime.make": b"quill", b"com.apple.quicktime.location.ISO6709": b"x"})
    out, notes = clean(whole)
    assert b"quill" in out
    assert [note.tells for note in notes] == [Tells.LOCATION]
    out, _ = clean(whole, Tells.DEVICE)
    assert b"quill" not in out


def test_an_unknown_key_loses_its_name_and_its_value() -> None:
    out, _ = clean(keyed({b"com.maker.secret-place": b"value"}))
    assert b"secret-place" not in out
    assert b"value" not in out


def test_an_item_of_a_number_that_no_key_has_goes() -> None:
    whole = keyed({b"com.apple.quicktime.title": b"a quince"})
    at = whole.index(b"ilst") + 8
    for number in (b"\0\0\0\0", b"\0\0\0\2", b"\xff\xff\xff\xff"):
        changed = whole[:at] + number + whole[at + 4 :]
        assert b"quince" not in clean(changed)[0]
    assert b"quince" in clean(whole)[0]


@pytest.mark.parametrize(
    ("item", "hide", "stays"),
    [
        (box(b"\xa9nam", data(b"a quince")), Tells.LOCATION, True),
        (box(b"\xa9nam", data(b"at " + COORDINATES)), Tells.LOCATION, False),
        (box(b"what", data(b"a quince")), Tells.LOCATION, False),
        (free_form(b"LABEL", b"a quince"), Tells.LOCATION, True),
        (free_form(b"where", b"a quince"), Tells.LOCATION, False),
        (box(b"----", data(b"a quince")), Tells.LOCATION, False),
        (box(b"\xa9nam", data(b"a quince"), b"junk"), Tells.LOCATION, False),
        (box(b"\xa9nam", data(b"a quince"), box(b"what", b"quince")), Tells.LOCATION, True),
        (box(b"trkn", data(b"quince" + bytes(1100), 0)), Tells.LOCATION, False),
        (box(b"trkn", data(b"quince" + bytes(900), 0)), Tells.LOCATION, True),
        (box(b"trkn", data(b"quince" + bytes(1100), 1)), Tells.LOCATION, True),
    ],
)
def test_items_of_itunes(item: bytes, hide: Tells, stays: bool) -> None:
    out, _ = clean(itunes(item), hide)
    assert (b"quince" in out or COORDINATES in out) is stays
    assert len(out) == len(itunes(item))


def test_only_known_boxes_stay_beside_the_value_of_an_item() -> None:
    def item(*more: bytes) -> bytes:
        return itunes(box(b"\xa9nam", data(b"a quince"), *more))

    assert clean(item(box(b"what", b"secret")))[0] == item(box(b"free", bytes(6)))
    assert clean(item(box(b"name", b"a name")))[0] == item(box(b"name", b"a name"))
    assert clean(item(box(b"name", COORDINATES)))[0] == item(box(b"free", bytes(len(COORDINATES))))
    for text, hide in ((b"17 May 2024", Tells.TIME), (b"made with iPhone", Tells.DEVICE)):
        made = item(box(b"mean", text))
        assert clean(made, hide)[0] == item(box(b"free", bytes(len(text))))
        assert clean(made)[0] == made


@pytest.mark.parametrize(
    ("value", "kind", "left"),
    [
        (PHOTO, 13, PHOTO.replace(b"PLACE", b"     ")),
        (PHOTO, 1, None),
        (PHOTO + b"broken", 13, None),
        (b"\0 no picture", 13, None),
    ],
)
def test_covers_are_looked_into(value: bytes, kind: int, left: bytes | None) -> None:
    out, _ = clean(itunes(box(b"covr", data(value, kind))))
    assert out == itunes(box(b"covr", data(bytes(len(value)) if left is None else left, kind)))


@pytest.mark.parametrize("further", [handler(b"soun"), handler(b"mdta"), full(b"keys", u32(0))])
def test_a_list_of_items_has_one_handler_and_one_list_of_keys(further: bytes) -> None:
    """Readers do not agree which one is valid."""
    made = keyed({b"com.apple.quicktime.location.name": b"a quince"})
    out, _ = clean(box(b"meta", made[8:], further))
    assert out == box(b"meta", clean(made)[0][8:], free(len(further) - 8))
    assert b"quince" not in out


def test_items_go_by_the_first_list_of_keys() -> None:
    keys = [
        full(b"keys", u32(1), box(b"mdta", b"com.apple.quicktime." + name))
        for name in (b"comment", b"location.name")
    ]
    items = box(b"ilst", box(u32(1), data(b"a quince")))
    for names, stays in ((keys, True), (keys[::-1], False)):
        out, _ = clean(full(b"meta", handler(b"mdta"), *names, items))
        assert (b"quince" in out, b"location" in out) == (stays, not stays)


@pytest.mark.parametrize("names", [(b"performer", b"location"), (b"location", b"performer")])
def test_an_item_goes_by_all_its_names(names: tuple[bytes, ...]) -> None:
    item = box(b"----", *(full(b"name", name) for name in names), data(b"a quince"))
    assert b"quince" not in clean(itunes(item))[0]


@pytest.mark.parametrize(
    "made",
    [
        full(b"meta", b""),
        full(b"meta", handler(b"pict"), box(b"ilst")),
        full(b"meta", box(b"ilst"), version=1),
        full(b"meta", handler(b"mdir"), version=1),
        full(b"meta", box(b"hdlr", b"short")),
        full(b"meta", box(b"ilst"), handler(b"mdir")),
        full(b"meta", box(b"free", bytes(8)), handler(b"mdta")),
    ],
)
def test_other_lists_of_items_go(made: bytes) -> None:
    out, notes = clean(made)
    assert out == box(b"free", bytes(len(made) - 8))
    assert len(notes) == 1


def test_the_name_of_a_handler_tells_the_software() -> None:
    made = handler(b"mdir", b"quince 7\0", b"appl")
    assert clean(made)[0] == made
    for hide in (Tells.DEVICE, Tells.PEOPLE):
        out = clean(made, hide)[0]
        assert b"quince" not in out
        assert b"mdirappl" in out, "readers know iTunes' lists by it"
    other = handler(b"vide", b"quince 7\0", b"appl")
    assert b"appl" not in clean(other, Tells.DEVICE)[0]
    assert b"13.04" not in clean(handler(b"vide", COORDINATES))[0]
    long = clean(handler(b"vide", b"quince" * 50))
    assert b"quince" not in long[0]
    assert (long[1][0].broken, long[1][0].tells) == (True, UNKNOWN)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"Created on: 05/17/2024.\0", Tells.TIME),
        (b"\x1fRecorded 2024-05-17 at 11:22:33.", Tells.TIME),
        (b"Recorded 2024-05\0", NOTHING),
        (COORDINATES, Tells.LOCATION),
    ],
)
def test_the_name_of_a_handler_is_searched(name: bytes, told: Tells) -> None:
    made = handler(b"vide", name)
    for hide in (Tells.TIME, Tells.LOCATION):
        out, notes = clean(made, hide)
        assert out == (handler(b"vide", bytes(len(name))) if hide == told else made)
        assert [told in note.tells for note in notes] == [True] * (hide == told)
        assert clean(out, hide) == (out, [])


def test_keys_that_end_before_their_list_leave_no_junk() -> None:
    keys = full(b"keys", u32(2), box(b"mdta", b"title"), b"\0\0\0\x63mdtalonger than there is room")
    made = full(b"meta", handler(b"mdta"), keys, box(b"ilst", box(b"\0\0\0\1", data(b"a quince"))))
    out, notes = clean(made)
    assert b"longer" not in out
    assert b"quince" in out
    assert [note.tag for note in notes] == ["junk"]


DATED = b"shot 2019:03:04 05:06:07"


@pytest.mark.parametrize(
    ("text", "word"),
    [(DATED, "time"), (b"Created with GIMP", "device"), (COORDINATES, "location")],
)
def test_texts_of_other_words_are_searched(text: bytes, word: str) -> None:
    """A title is a matter of people; what it says may be another word's."""
    for atoms in (
        box(b"udta", text_atom(b"\xa9nam", text)),
        keyed({b"com.apple.quicktime.title": text}),
    ):
        file = movie(moov=atoms)
        for each in ("location", "time", "device"):
            hide = frozenset({each})
            plan = locate("video/mp4", hide, MemorySource(file))
            assert (text in apply(file, plan.patches)) is (each != word)


def test_a_tag_of_id3_is_cleaned():
    """Its box has a version and a language before the tag (MP4 registration authority)."""

    def made(tag: bytes, head: bytes = b"\0\0\0\0\x15\xc7") -> bytes:
        return full(b"meta", handler(b"ID32"), box(b"ID32", head + tag))

    title, place = sounds.words("TIT2", b"Quince"), sounds.user(b"place", sounds.CITY)
    plain = made(sounds.id3(title))
    assert clean(plain)[0] == plain
    for tag in (sounds.id3(title, place), sounds.id3(title) + sounds.CITY):
        out, notes = clean(made(tag))
        assert sounds.CITY not in out
        assert title in out
        assert notes
    for other in (made(sounds.CITY), made(sounds.id3(title, place), b"\1" * 6), made(sounds.id3(place)[:-4])):
        assert sounds.CITY not in clean(other)[0]
