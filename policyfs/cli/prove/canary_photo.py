"""A small photo with a place, a camera, a time and a person, to test whether redaction removes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

KIND: Final = "image/jpeg"

_ASCII, _LONG, _RATIONAL = 2, 4, 5  # EXIF 2.3, 4.6.2
_MAKE, _MODEL, _DATE_TIME, _ARTIST = 0x010F, 0x0110, 0x0132, 0x013B
_EXIF_IFD, _GPS_IFD, _DATE_ORIGINAL = 0x8769, 0x8825, 0x9003
_TIFF_HEADER: Final = b"II*\0\x08\0\0\0"

_LATITUDE: Final = b"".join(number.to_bytes(4, "little") for number in (47, 1, 48, 1, 163116, 10000))
_LONGITUDE: Final = b"".join(number.to_bytes(4, "little") for number in (13, 1, 2, 1, 322332, 10000))
_CAMERA: Final = b"Canary Camera 7"
_TIME: Final = b"2001:02:03 04:05:06"
_PERSON: Final = b"Canary Person"

SECRETS: Final[dict[str, tuple[bytes, ...]]] = {
    "location": (_LATITUDE, _LONGITUDE),
    "device": (_CAMERA,),
    "time": (_TIME,),
    "people": (_PERSON,),
    "all-metadata": (_LATITUDE, _LONGITUDE, _CAMERA, _TIME, _PERSON),
}
"""A dictionary from each word of a policy (such as ``location``) to the bytes that its redaction must remove
from the photo."""


def photo() -> bytes:
    """Return the photo: a JPEG of 8 by 8 pixels with EXIF and XMP."""
    exif = b"Exif\0\0" + _tiff()
    xmp = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        b' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><Iptc4xmpExt:PersonInImage>'
        b"<rdf:Bag><rdf:li>" + _PERSON + b"</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>"
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    table = b"\x01" + b"\0" * 15 + b"\0"  # a Huffman table with one code, of one bit
    return b"".join([
        b"\xff\xd8",
        _segment(0xE1, exif),
        _segment(0xE1, xmp),
        _segment(0xDB, b"\0" + b"\x01" * 64),
        _segment(0xC0, b"\x08\0\x08\0\x08\x01\x01\x11\0"),
        _segment(0xC4, b"\0" + table),
        _segment(0xC4, b"\x10" + table),
        _segment(0xDA, b"\x01\x01\0\0\x3f\0"),
        b"\x3f\xff\xd9",
    ])  # fmt: skip


def told(data: bytes, words: Iterable[str]) -> list[str]:
    """Return the words for which *data* still contains bytes that redaction must remove (SECRETS), sorted."""
    return [word for word in sorted(words) if any(secret in data for secret in SECRETS.get(word, ()))]


def _segment(code: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([code]) + (len(payload) + 2).to_bytes(2, "big") + payload


def _tiff() -> bytes:
    main = [(_MAKE, b"Canary"), (_MODEL, _CAMERA), (_DATE_TIME, _TIME), (_ARTIST, _PERSON)]
    start = len(_TIFF_HEADER)
    sizes = [(_EXIF_IFD, 0), (_GPS_IFD, 0)]
    picture_at = start + len(_directory(start, main, sizes))
    picture = _directory(picture_at, [(_DATE_ORIGINAL, _TIME)], [])
    place_at = picture_at + len(picture)
    first = _directory(start, main, [(_EXIF_IFD, picture_at), (_GPS_IFD, place_at)])
    return _TIFF_HEADER + first + picture + _place(place_at)


def _directory(at: int, texts: list[tuple[int, bytes]], numbers: list[tuple[int, int]]) -> bytes:
    entries = [(tag, _ASCII, len(text) + 1, text + b"\0") for tag, text in texts]
    entries += [(tag, _LONG, 1, number.to_bytes(4, "little")) for tag, number in numbers]
    return _packed(at, entries)


def _place(at: int) -> bytes:
    return _packed(at, [
        (1, _ASCII, 2, b"N\0"), (2, _RATIONAL, 3, _LATITUDE),
        (3, _ASCII, 2, b"E\0"), (4, _RATIONAL, 3, _LONGITUDE),
    ])  # fmt: skip


def _packed(at: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """Return a TIFF directory that will stand at the offset *at*."""
    head, values = len(entries).to_bytes(2, "little"), b""
    behind = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        head += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
        if len(value) <= 4:
            head += value.ljust(4, b"\0")
        else:
            head += (behind + len(values)).to_bytes(4, "little")
            values += value + b"\0" * (len(value) % 2)
    return head + b"\0" * 4 + values
