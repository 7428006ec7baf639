"""Blocks of metadata with a position, which a writer may put into any value: what readers search for."""

from __future__ import annotations

import struct
from typing import Final

POSITION: Final = b"47.804531,13.042290"
_NOISE: Final = bytes(range(0x80, 0xA0)) + b"\x01\x02\xfe\xff"


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def _description(kind: bytes, label: bytes) -> bytes:
    return _box(b"jumd", kind + bytes.fromhex("00110010800000aa00389b71") + b"\x03" + label + b"\0")


def manifest() -> bytes:
    """A manifest of C2PA in boxes of JUMBF (ISO/IEC 19566-5), whose EXIF assertion has a position."""
    text = b'{"exif:GPSLatitude":"47,48.27N","exif:GPSLongitude":"13,2.53E","note":"' + POSITION + b'"}'
    assertion = _box(b"jumb", _description(b"json", b"stds.exif") + _box(b"json", text))
    store = _box(b"jumb", _description(b"c2as", b"c2pa.assertions") + assertion)
    claim = _box(b"jumb", _description(b"c2ma", b"urn:uuid:1") + store)
    return _box(b"jumb", _description(b"c2pa", b"c2pa") + claim)


def packet() -> bytes:
    """A packet of XMP whose position is written in degrees and minutes."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="47,48.27N"'
        b' exif:GPSLongitude="13,2.53E"/></rdf:RDF></x:xmpmeta>'
    )


def exif() -> bytes:
    """EXIF with a GPS directory, behind JPEG's mark."""
    rational = struct.pack("<6I", 47, 1, 48, 1, 1631, 100)
    gps = struct.pack("<H", 2) + b"\x01\0\x02\0\x02\0\0\0N\0\0\0" + b"\x02\0\x05\0\x03\0\0\0"
    root = struct.pack("<H", 1) + b"\x25\x88\x04\0\x01\0\0\0" + struct.pack("<II", 26, 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + root + gps + struct.pack("<II", 56, 0) + rational


PLANTS: Final = {
    "manifest": _NOISE + manifest() + _NOISE,
    "XMP": _NOISE + packet() + _NOISE,
    "XMP in UTF-16": _NOISE + packet().decode().encode("utf-16-le") + _NOISE,
    "EXIF": _NOISE + exif() + _NOISE,
    "text": _NOISE + b"GPS " + POSITION + _NOISE,
    "text in UTF-16": _NOISE + b"\0" + (b"GPS " + POSITION).decode().encode("utf-16-be") + _NOISE,
}
"""A dictionary from a name to a value of bytes that are mostly no text, with one of these blocks in it."""
_DEGREES: Final = struct.pack("<6I", 47, 1, 48, 1, 1631, 100)
_NEEDLES: Final = (b"47.804531", b"47,48.27N", _DEGREES)
_TEXTS: Final = (b"47.804531", b"47,48.27N")


def tells(view: bytes) -> bool:
    """Return True if a view of a file has one of the positions, in any encoding."""
    plain = view.replace(b"\0", b"")
    return any(needle in view for needle in _NEEDLES) or any(text in plain for text in _TEXTS)
