"""Texts of a PNG, each alone: what is not understood is removed whole, what is packed is packed again."""

from __future__ import annotations

import zlib

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Note
from policyfs.redact.images.png_text import clean_text
from tests.support.samples.inners import PLACES, Plain

PLACE = b"at 47.804531, 13.042287"
XMP = b"<x:xmpmeta>PLACE</x:xmpmeta>"


class Blocks(Plain):
    """Blanks the word PLACE in packets and in TIFF structures; loses a packet of one word."""

    def xmp(self, data: bytes) -> Cleaned:
        if data == b"<?xml all of it?>":
            return Cleaned(b" " * len(data), (Note(0, len(data), "XMP", "packet"),))
        return self._blank(data, "XMP")

    def tiff(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else self._blank(data, "EXIF")

    def _blank(self, data: bytes, name: str) -> Cleaned:
        at = data.find(b"PLACE")
        notes = (Note(at, 5, name, "place", Tells.LOCATION),) if at >= 0 else ()
        return Cleaned(data.replace(b"PLACE", b"     "), notes)


def plain(keyword: bytes, value: bytes) -> bytes:
    return keyword + b"\0" + value


def packed(keyword: bytes, value: bytes) -> bytes:
    return keyword + b"\0\0" + zlib.compress(value)


def international(
    value: bytes, language: bytes = b"", translated: bytes = b"", mark: bytes = b"\0\0"
) -> bytes:
    return b"Comment\0" + mark + language + b"\0" + translated + b"\0" + value


def hexadecimal(block: bytes, name: bytes = b"exif") -> bytes:
    text = block.hex().encode()
    lines = b"\n".join(text[at : at + 72] for at in range(0, len(text), 72))
    return b"\n" + name + b"\n%8d\n" % len(block) + lines + b"\n"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"tEXt", plain(b"Comment", b"a quince")),
        (b"tEXt", plain(b"Comment", b"")),
        (b"zTXt", packed(b"Comment", b"a quince")),
        (b"iTXt", international(b"a quince")),
        (b"iTXt", international(b"a quince", b"de-DE")),
        (b"iTXt", international(b"a quince", b"x-default", b"")),
        (b"iTXt", international(zlib.compress(b"a quince"), mark=b"\1\0")),
    ],
)
def test_a_text_without_a_place_stays(kind: bytes, data: bytes) -> None:
    assert clean_text(kind, data, PLACES) == (NOTHING, Cleaned(data))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"tEXt", b"no end of a keyword"),
        (b"tEXt", b"\0no keyword"),
        (b"tEXt", plain(b"k" * 80, b"a quince")),
        (b"zTXt", b"Comment\0\1" + zlib.compress(b"a quince")),
        (b"zTXt", b"Comment\0"),
        (b"zTXt", b"Comment\0\0no stream"),
        (b"iTXt", international(b"a quince", mark=b"\2\0")),
        (b"iTXt", international(b"a quince", mark=b"\0\1")),
        (b"iTXt", international(b"a quince", b"l" * 65)),
        (b"iTXt", b"Comment\0\0\0de\0no end"),
        (b"iTXt", b"Comment\0\0\0de"),
        (b"iTXt", international(b"no stream", mark=b"\1\0")),
    ],
)
def test_a_text_that_cannot_be_read_is_removed(kind: bytes, data: bytes) -> None:
    assert clean_text(kind, data, PLACES) == (UNKNOWN, None)


@pytest.mark.parametrize(
    ("kind", "data", "hide", "told"),
    [
        (b"tEXt", plain(b"Comment", PLACE), Tells.LOCATION, Tells.LOCATION),
        (b"zTXt", packed(b"Comment", PLACE), Tells.LOCATION, Tells.LOCATION),
        (b"iTXt", international(zlib.compress(PLACE), mark=b"\1\0"), Tells.LOCATION, Tells.LOCATION),
        (b"tEXt", plain(b"Author", b"a quince"), Tells.PEOPLE, Tells.PEOPLE),
        (b"tEXt", plain(b"Software", b"a quince"), Tells.DEVICE, Tells.DEVICE),
        (b"iTXt", international(b"a quince", b"de", b"Name"), Tells.PEOPLE, Tells.PEOPLE),
        (b"iTXt", b"Software\0\0\0Smith\0\0a quince", Tells.PEOPLE, Tells.PEOPLE),
        (b"iTXt", international(b"a quince", PLACE), Tells.LOCATION, Tells.PEOPLE),
        (b"tEXt", plain(PLACE, b"a quince"), Tells.LOCATION, UNKNOWN),
    ],
)
def test_a_text_goes_by_its_keyword_and_by_what_is_in_it(
    kind: bytes, data: bytes, hide: Tells, told: Tells
) -> None:
    found, cleaned = clean_text(kind, data, Plain(hide))
    assert cleaned is None
    assert found & told


def test_a_keyword_has_79_bytes_at_most() -> None:
    told, cleaned = clean_text(b"tEXt", plain(b"k" * 79, b"a quince"), PLACES)
    assert (told, cleaned) == (UNKNOWN, None), "of a name that nobody knows"


def test_xmp_is_cleaned_under_its_keyword_and_under_others() -> None:
    for keyword in (b"XML:com.adobe.xmp", b"Comment"):
        data = plain(keyword, XMP)
        assert clean_text(b"tEXt", data, Blocks()) == (
            UNKNOWN,
            Cleaned(
                data.replace(b"PLACE", b"     "),
                (Note(data.index(b"PLACE"), 5, "XMP", "place", Tells.LOCATION),),
            ),
        )
    # a packet that is nothing any more: its keyword alone says what it was
    gone = plain(b"XML:com.adobe.xmp", b"<?xml all of it?>")
    assert clean_text(b"tEXt", gone, Blocks())[1] is not None
    assert clean_text(b"tEXt", plain(b"Comment", b"<?xml all of it?>"), Blocks()) == (UNKNOWN, None)


def test_a_packed_text_is_packed_again_in_its_room() -> None:
    data = packed(b"XML:com.adobe.xmp", XMP * 9)
    _, cleaned = clean_text(b"zTXt", data, Blocks())
    assert cleaned is not None
    assert len(cleaned.data) == len(data)
    start = data.index(b"\0") + 2
    assert zlib.decompress(cleaned.data[start:]) == XMP.replace(b"PLACE", b"     ") * 9
    assert {(note.offset, note.length) for note in cleaned.notes} == {(start, len(data) - start)}


def test_bytes_behind_a_stream_go_even_if_the_text_stays() -> None:
    data = packed(b"Comment", b"a quince" * 9)
    _, cleaned = clean_text(b"zTXt", data + b"secret", PLACES)
    assert cleaned is not None
    assert b"secret" not in cleaned.data
    assert len(cleaned.data) == len(data) + 6


@pytest.mark.parametrize(
    "block", [b"Exif\0\0II*\0 PLACE ", b"MM\0* PLACE ", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>PLACE<"]
)
@pytest.mark.parametrize("name", [b"exif", b"APP1", b"XMP", b"8bim"])
def test_a_block_of_digits_is_cleaned_by_its_first_bytes(block: bytes, name: bytes) -> None:
    data = plain(b"Raw profile type " + name, hexadecimal(block, name))
    _, cleaned = clean_text(b"tEXt", data, Blocks())
    assert cleaned is not None
    assert cleaned.data == plain(
        b"Raw profile type " + name, hexadecimal(block.replace(b"PLACE", b"     "), name)
    )
    assert [(note.offset, note.tag) for note in cleaned.notes] == [(data.index(b"\0") + 1, "place")]


@pytest.mark.parametrize(
    "value",
    [
        hexadecimal(b"no block of a kind that is known"),
        hexadecimal(b"Exif\0\0II*\0 broken"),
        hexadecimal(b""),
        b"\nexif\n      8\n0a0b0",
        b"\nexif\n      8\n0a0b0g",
        b"no digits",
    ],
)
def test_a_block_of_digits_that_is_not_understood_is_removed(value: bytes) -> None:
    assert clean_text(b"tEXt", plain(b"Raw profile type exif", value), Blocks()) == (UNKNOWN, None)


@pytest.mark.parametrize(
    "name", [b"47.80453 13.04229", b"Rosa Quince", b"exif Rosa", b"exif\rRosa", b"exi", b""]
)
def test_a_block_of_digits_with_an_unknown_name_is_removed(name: bytes) -> None:
    """The name is a text, too: of the first line, and behind the keyword."""
    block = b"Exif\0\0II*\0"
    data = plain(b"Raw profile type exif", hexadecimal(block, name))
    assert clean_text(b"tEXt", data, Blocks()) == (UNKNOWN, None)
    data = plain(b"Raw profile type " + name.replace(b" ", b","), hexadecimal(block))
    assert clean_text(b"tEXt", data, Blocks())[1] is None


@pytest.mark.parametrize("name", [b"exif", b"generic profile", b"IPTC profile", b"icm", b"iptc\r"])
def test_a_block_of_digits_with_a_known_name_stays(name: bytes) -> None:
    data = plain(b"Raw profile type exif", hexadecimal(b"Exif\0\0II*\0", name))
    assert clean_text(b"tEXt", data, Blocks()) == (UNKNOWN, Cleaned(data))


def test_a_colour_profile_in_digits_stays() -> None:
    data = plain(b"Raw profile type icc", hexadecimal(bytes(36) + b"acsp" + bytes(90)))
    assert clean_text(b"tEXt", data, PLACES) == (UNKNOWN, Cleaned(data))
