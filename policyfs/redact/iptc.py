"""IPTC-IIM records and the Photoshop image resource blocks that carry them.

Sources: IPTC Information Interchange Model 4.2; Adobe Photoshop File Formats Specification
(image resources). Allow lists both: a dataset or resource that is not known may tell a place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.redact.blocks import Cleaned, Inner, Note, shifted
from policyfs.redact.text import bytes_tell_place

_PLACE_DATASETS: Final = frozenset({26, 27, 90, 92, 95, 100, 101})
# Not kept in record 2: those above, and 200 to 202 (a preview of any format).
_APPLICATION: Final = frozenset(range(151)) - _PLACE_DATASETS
_ENVELOPE: Final = frozenset({0, 5, 20, 22, 30, 40, 50, 60, 70, 80, 90, 100, 120, 122})
_KNOWN: Final = {1: _ENVELOPE, 2: _APPLICATION}

IRB_CAPTION: Final = 0x03F0
IRB_IPTC: Final = 0x0404
IRB_THUMBNAILS: Final = frozenset({0x0409, 0x040C})
IRB_EXIF: Final = frozenset({0x0422, 0x0423})
IRB_XMP: Final = 0x0424
IRB_IPTC_DIGEST: Final = 0x0425
_THUMBNAIL_HEADER_BYTES: Final = 28
# Numbers, flags and curves of the print and display settings; names of guides and slices.
_IRB_KEPT: Final = frozenset(
    {
        *range(0x03E8, 0x03F9),
        *range(0x03FA, 0x0404),
        *(0x0405, 0x0406, 0x0408, 0x040A, 0x040B, 0x040D, 0x040E, 0x040F, 0x0410, 0x0411, 0x0412),
        *(0x0413, 0x0414, 0x0415, 0x0416, 0x0417, 0x0419, 0x041A, 0x041B, 0x041D, 0x041E, 0x0421),
        *(0x0426, 0x0428, 0x0430, 0x0434, 0x0BB7, 0x2710),
        *range(0x07D0, 0x0BB7),  # paths
    }
)
_SIGNATURES: Final = frozenset({b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa"})


def clean_iim(data: bytes) -> Cleaned:
    """Records without those that tell a place; the others move up, zeros follow them."""
    kept: list[bytes] = []
    notes: list[Note] = []
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C:
        record, dataset, size = data[at + 1], data[at + 2], int.from_bytes(data[at + 3 : at + 5])
        start = at + 5
        if size & 0x8000:
            width = size & 0x7FFF
            if width > 4:
                break
            size = int.from_bytes(data[start : start + width])
            start += width
        if start + size > len(data):
            break
        known = dataset in _KNOWN.get(record, frozenset())
        if known and not bytes_tell_place(data[start : start + size]):
            kept.append(data[at : start + size])
        else:
            notes.append(Note(at, start + size - at, "IPTC", f"{record}:{dataset}"))
        at = start + size
    if data[at:].strip(b"\0"):
        notes.append(Note(at, len(data) - at, "IPTC", "unreadable"))
    return Cleaned(b"".join(kept).ljust(len(data), b"\0"), tuple(notes))


@dataclass(slots=True)
class _Resource:
    """One resource block: its id, its signature, where its data is."""

    signature: bytes
    id: int
    head: int
    start: int
    end: int


def _resources(block: bytes) -> Iterator[_Resource]:
    """Resource blocks up to the first thing that is none."""
    at = 0
    while block[at : at + 4] in _SIGNATURES and at + 7 <= len(block):
        head = at
        number = int.from_bytes(block[at + 4 : at + 6])
        name = (block[at + 6] + 2) & ~1  # Pascal string, padded to an even length
        start = at + 6 + name + 4
        size = int.from_bytes(block[start - 4 : start])
        if start > len(block) or start + size > len(block):
            return
        yield _Resource(block[head : head + 4], number, head, start, start + size)
        at = start + size + (size & 1)


def clean_irb(block: bytes, inner: Inner) -> Cleaned:
    """Resource blocks without places; unknown ones keep their frame and hold zeros.

    From the first thing on that is no resource block, all is zero.
    """
    out = bytearray(len(block))
    notes: list[Note] = []
    digests: list[_Resource] = []
    changed = False
    renewed: dict[bytes, bytes] = {}
    done = 0
    for resource in _resources(block):
        head, start, end = resource.head, resource.start, resource.end
        old = block[start:end]
        out[head : head + 6] = block[head : head + 6]
        _name(out, block, resource, notes)
        out[start - 4 : start] = block[start - 4 : start]
        done = end
        if resource.id == IRB_IPTC_DIGEST and resource.signature == b"8BIM":
            digests.append(resource)
            continue
        cleaned = _clean_resource(resource, old, inner)
        if cleaned is None:
            if old.strip(b"\0"):
                notes.append(Note(start, end - start, "Photoshop", f"0x{resource.id:04x}"))
            continue
        out[start:end] = cleaned.data
        notes += shifted(cleaned.notes, start)
        if resource.id == IRB_IPTC:
            renewed[_md5(old)] = _md5(cleaned.data)
            changed = changed or cleaned.data != old
    for resource in digests:
        # A digest of the records as they were would confirm a guessed place.
        old = block[resource.start : resource.end]
        new = renewed.get(old, bytes(len(old))) if changed else old
        out[resource.start : resource.end] = new
    if block[done:].strip(b"\0"):
        notes.append(Note(done, len(block) - done, "Photoshop", "unreadable"))
    return Cleaned(bytes(out), tuple(notes))


def _name(out: bytearray, block: bytes, resource: _Resource, notes: list[Note]) -> None:
    """A resource's name stays unless it reads like a place; then spaces."""
    at, end = resource.head + 6, resource.start - 4
    length = block[at]
    name = block[at + 1 : at + 1 + length]
    out[at] = length
    if bytes_tell_place(name):
        notes.append(Note(at, end - at, "Photoshop", "name"))
        name = b" " * length
    out[at + 1 : at + 1 + length] = name


def _clean_resource(resource: _Resource, data: bytes, inner: Inner) -> Cleaned | None:
    if resource.signature != b"8BIM":
        return None
    number = resource.id
    if number == IRB_IPTC:
        return clean_iim(data)
    if number in IRB_EXIF:
        return inner.tiff(data)
    if number == IRB_XMP:
        return inner.xmp(data)
    if number in IRB_THUMBNAILS:
        head, image = data[:_THUMBNAIL_HEADER_BYTES], data[_THUMBNAIL_HEADER_BYTES:]
        cleaned = inner.jpeg(image)
        if cleaned is None:
            return None
        notes = shifted(cleaned.notes, _THUMBNAIL_HEADER_BYTES)
        return Cleaned(head + cleaned.data, notes)
    if number not in _IRB_KEPT or bytes_tell_place(data):
        return None
    return Cleaned(data)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
