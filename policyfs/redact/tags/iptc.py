"""IPTC-IIM records and the Photoshop image resource blocks that carry them.

Sources: IPTC Information Interchange Model 4.2; Adobe Photoshop File Formats Specification (image resources).
The tables are allow lists: every word of a policy removes an unknown dataset or resource.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, shifted
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.free_text import BYTES_PER_PART, told_in
from policyfs.redact.core.kept_values import told_in_kept


def _by_number(*rows: tuple[Tells, Iterable[int]]) -> dict[int, Tells]:
    return {number: tells for tells, numbers in rows for number in numbers}


# Categories of the datasets. Datasets 200 to 202 (a preview of any format) are left out. Numbers that the
# standard does not define are left out, too: some agencies write places there.
_APPLICATION: Final = _by_number(
    (NOTHING, (0,)),
    (OTHER, (3, 4, 7, 8, 10, 35, 42, 75, 130, 131, 135, 150, 151, 152, 153, 154)),
    (PEOPLE, (5, 12, 15, 20, 25, 40, 45, 80, 85, 105, 110, 115, 116, 118, 120, 121, 122, 125)),
    (PEOPLE | DEVICE, (22, 50, 103)),
    (TIME, (30, 35, 37, 38, 47, 55, 60, 62, 63)),
    (DEVICE, (65, 70)),
    (LOCATION, (26, 27, 90, 92, 95, 100, 101)),
)
_ENVELOPE: Final = _by_number(
    (NOTHING, (0, 90)),
    (OTHER, (20, 22, 60, 120, 122)),
    (PEOPLE, (5, 30, 50)),
    (TIME, (70, 80)),
    (DEVICE, (40,)),
    (DEVICE | TIME | PEOPLE, (100,)),
)
_DATASETS: Final = {1: _ENVELOPE, 2: _APPLICATION}
_SIZES: Final = frozenset({(7, 10), (7, 20), (7, 90), (7, 95), (9, 10)})
"""Datasets with the size of the object (the picture's data): numbers of at most four bytes."""
_SIZE_BYTES: Final = 4

IRB_CAPTION: Final = 0x03F0
IRB_IPTC: Final = 0x0404
IRB_THUMBNAILS: Final = frozenset({0x0409, 0x040C})
IRB_EXIF: Final = frozenset({0x0422, 0x0423})
_PROFILE: Final = 0x040F
IRB_XMP: Final = 0x0424
IRB_IPTC_DIGEST: Final = 0x0425
_DIGEST_BYTES: Final = 16
_NO_RECORDS: Final = hashlib.md5(b"", usedforsecurity=False).digest()
_THUMBNAIL_HEADER: Final = struct.Struct(">6I2H")
_MAX_THUMBNAIL: Final = 1 << 12
"""Maximum width and height of a thumbnail in pixels; Photoshop writes 160."""
_IRB_GONE: Final = 0x0FA0
"""Id of a resource with removed content: the id of a plug-in's resource, which readers skip."""
# Categories of the known resources: settings of print and display, names of guides and slices, paths.
_RESOURCES: Final = _by_number(
    (OTHER, (0x03E8, 0x03EB, 0x03ED, 0x03EF, 0x03F1, 0x03F2, 0x03F3, 0x03F4, 0x03F5, 0x03F6, 0x03F7)),
    (OTHER, (0x03F8, 0x03FA, 0x03FB, 0x03FD, 0x03FE, 0x0400, 0x0401, 0x0402, 0x2710)),
    (OTHER, (0x0405, 0x0406, 0x0408, 0x040D, 0x040E, 0x0410, 0x0412, 0x0413, 0x0414, 0x0416)),
    (OTHER, (0x0417, 0x0419, 0x041D, 0x0426, 0x042D, 0x0430, 0x0434, 0x0435)),
    (OTHER, (0x0431, 0x0433, 0x0436)),
    (DEVICE | TIME | PEOPLE | OTHER, (0x042F,)),
    (DEVICE | TIME | OTHER, (0x03E9, 0x03EA)),  # a printer's settings, as XML too
    (DEVICE | TIME | PEOPLE | OTHER, (0x043A, 0x043B)),  # settings of a printer, with titles
    (PEOPLE, (IRB_CAPTION, 0x040A, 0x040B, 0x041A, 0x041B, 0x041E)),
    (PEOPLE | OTHER, (0x03EE, 0x0415, 0x0BB7)),  # names of channels and of a path, which people may choose
    (DEVICE, (0x0421,)),
    (NOTHING, (0x03ED, 0x040F, 0x0411, 0x0428)),
)
_FRAMES: Final = {
    0x0FA0: re.compile(
        rb"maniIRFR\0\0[\0\x01].8BIMAnDs\0{3}.\0{3}\x10\0{3}\x01\0{6}null\0{3}\x03\0{4}AFStlong\0{8}FrInVlLs\0{3}\x01"
        rb"Objc\0{3}\x01\0{6}null\0{3}[\x01\x02]\0{4}FrIDlong(?P<id>.{4})(?:\0{4}FrGAdoub@>\0{6})?"
        rb"\0{4}FStsVlLs\0{3}\x01Objc\0{3}\x01\0{6}null\0{3}\x04\0{4}FsIDlong\0{8}AFrmlong\0{8}FsFrVlLs\0{3}\x01"
        rb"long(?P=id)\0{4}LCntlong\0{3}.(?:\0{2})?8BIMRoll\0{3}\x08\0{8}",
        re.DOTALL,
    ),
    0x0FA1: re.compile(rb"mfri\0{3}\x02\0{3}\x10\0{3}\x01\0{7}\x01\0{4}"),
}
"""Resource of Photoshop's animation -> its form in a still picture: one frame, and the frame's id."""
_TEXTS: Final = frozenset({IRB_CAPTION, 0x03E9, 0x03EA, 0x040B, 0x0421})
"""Resources that are texts. All other known resources are numbers, with names and titles between them."""
_RUNS: Final = re.compile(rb"(?:\0[\x20-\x7e\xb0\xba]){4,}|[\x20-\x7e\xb0\xba\xc2]{4,}")
"""Runs of text in UTF-16 or Latin-1. Shorter runs may be numbers that look like digits and a degree sign."""
_PATHS: Final = range(0x07D0, 0x0BB7)
"""Resources of saved paths: the specification gives all of these ids one form, which _is_path() checks."""
_PATH_RECORD_BYTES: Final = 26
_MAX_SELECTOR: Final = 8
_SIGNATURES: Final = frozenset({b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa"})


def clean_iim(data: bytes, inner: Inner) -> Cleaned:
    """Remove the IPTC records that hold data to hide. The other records move up, and zeros follow them."""
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
        inner.budget.part(1 + size // BYTES_PER_PART)
        tells = _DATASETS.get(record, {}).get(dataset, UNKNOWN)
        if (record, dataset) in _SIZES and size <= _SIZE_BYTES:
            tells = OTHER
        value = data[start : start + size]
        tells |= _told(value, inner.hide & ~tells, inner) | told_in_kept(value, NOTHING, inner.budget)
        if tells & inner.hide:
            bare = tells == LOCATION and not data[start : start + size].strip(b"\0 ")
            notes.append(Note(at, start + size - at, "IPTC", f"{record}:{dataset}", tells, bare=bare))
        else:
            kept.append(data[at : start + size])
        at = start + size
    if data[at:].strip(b"\0"):
        notes.append(Note(at, len(data) - at, "IPTC", "unreadable", broken=True))
    return Cleaned(b"".join(kept).ljust(len(data), b"\0"), tuple(notes))


@dataclass(slots=True)
class Resource:
    """One resource block: its signature, its id, the offset of its header, and its data [start, end)."""

    signature: bytes
    id: int
    head: int
    start: int
    end: int


def resources(block: bytes) -> Iterator[Resource]:
    """Yield resource blocks; stop at the first bytes that begin no block."""
    at = 0
    while block[at : at + 4] in _SIGNATURES and at + 7 <= len(block):
        head = at
        number = int.from_bytes(block[at + 4 : at + 6])
        name = (block[at + 6] + 2) & ~1  # Pascal string, padded to an even length
        start = at + 6 + name + 4
        size = int.from_bytes(block[start - 4 : start])
        if start > len(block) or start + size > len(block):
            return
        yield Resource(block[head : head + 4], number, head, start, start + size)
        at = start + size + (size & 1)


def clean_irb(block: bytes, inner: Inner) -> Cleaned:
    """Clean resource blocks. A removed block keeps its offset and its size, and its data becomes zeros.

    If some bytes are no resource block, these bytes and all bytes behind them become zeros. A digest
    of the block's IPTC records becomes that of the cleaned records, a digest of other records zeros.
    """
    out = bytearray(len(block))
    notes: list[Note] = []
    digests: list[Resource] = []
    renewed = {_NO_RECORDS: _NO_RECORDS}
    done = 0
    for resource in resources(block):
        inner.budget.part(2)
        head, start, end = resource.head, resource.start, resource.end
        old = block[start:end]
        out[head : head + 6] = block[head : head + 6]
        _name(out, block, resource, inner, notes)
        out[start - 4 : start] = block[start - 4 : start]
        done = end
        if resource.id == IRB_IPTC_DIGEST and resource.signature == b"8BIM":
            digests.append(resource)
            continue
        cleaned = _clean_resource(resource, old, inner)
        if isinstance(cleaned, Tells):
            if resource.signature == b"8BIM":
                out[head + 4 : head + 6] = _IRB_GONE.to_bytes(2)
            if old.strip(b"\0"):
                notes.append(Note(start, end - start, "Photoshop", f"0x{resource.id:04x}", cleaned))
            continue
        out[start:end] = cleaned.data
        notes += shifted(cleaned.notes, start)
        if resource.id == IRB_IPTC:
            renewed[_md5(old)] = _md5(cleaned.data)
    for resource in digests:
        # A digest of records that the file does not hold (any more) would confirm a guessed place.
        old = block[resource.start : resource.end]
        out[resource.start : resource.end] = renewed.get(old, bytes(len(old)))
        if old not in renewed and any(old):
            bare = len(old) == _DIGEST_BYTES and not _told(old, inner.hide, inner)
            notes.append(Note(resource.start, len(old), "Photoshop", "IPTCDigest", bare=bare))
    if block[done:].strip(b"\0"):
        notes.append(Note(done, len(block) - done, "Photoshop", "unreadable", broken=True))
    return Cleaned(bytes(out), tuple(notes))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _name(out: bytearray, block: bytes, resource: Resource, inner: Inner, notes: list[Note]) -> None:
    """Write a resource's name into *out*, or spaces of the same length if the name holds data to hide."""
    at, end = resource.head + 6, resource.start - 4
    length = block[at]
    name = block[at + 1 : at + 1 + length]
    out[at] = length
    if name.strip(b" ") and inner.text(name):
        notes.append(Note(at, end - at, "Photoshop", "name"))
        name = b" " * length
    out[at + 1 : at + 1 + length] = name


def _clean_resource(resource: Resource, data: bytes, inner: Inner) -> Cleaned | Tells:
    """Return a resource's cleaned data, or its categories if the resource must be removed."""
    if resource.signature != b"8BIM":
        return UNKNOWN
    number = resource.id
    if number == IRB_IPTC:
        return inner.iim(data)
    if number in IRB_EXIF:
        return inner.tiff(data) or UNKNOWN
    if number == IRB_XMP:
        return inner.xmp(data)
    if number in IRB_THUMBNAILS:
        return _clean_thumbnail(data, inner)
    still = number in _FRAMES and _FRAMES[number].fullmatch(data)
    tells = _RESOURCES.get(number, UNKNOWN)
    if still or (number in _PATHS and _is_path(data)):
        tells = OTHER
    if number == _PROFILE and not profile_stays(data, inner):
        tells = UNKNOWN
    text = data if tells == UNKNOWN or number in _TEXTS else b"\n".join(_RUNS.findall(data))
    asked = inner.hide if tells else inner.hide & LOCATION
    told = tells | _told(text, asked & ~tells, inner) | told_in_kept(data, NOTHING, inner.budget)
    return told if told & inner.hide else Cleaned(data)


def _is_path(data: bytes) -> bool:
    """Return True if a resource has the form of a path: records that begin with their type."""
    types = (int.from_bytes(data[at : at + 2]) for at in range(0, len(data), _PATH_RECORD_BYTES))
    return len(data) % _PATH_RECORD_BYTES == 0 and all(kind <= _MAX_SELECTOR for kind in types)


def _told(text: bytes, asked: Tells, inner: Inner) -> Tells:
    if not text or not asked:
        return NOTHING
    return told_in(text, asked) if inner.budget.look(len(text)) else asked


def _clean_thumbnail(data: bytes, inner: Inner) -> Cleaned | Tells:
    size = _THUMBNAIL_HEADER.size
    head, image = data[:size], data[size:]
    cleaned = None if inner.hide & OTHER else inner.jpeg(image)
    if cleaned is None or not image:
        return UNKNOWN
    notes = shifted(cleaned.notes, size)
    if any(head) and not _is_thumbnail_header(head, len(image)):
        head, notes = bytes(size), (Note(0, size, "Photoshop", "thumbnail header"), *notes)
    return Cleaned(head + cleaned.data, notes)


def _is_thumbnail_header(head: bytes, image_bytes: int) -> bool:
    form, width, height, row, total, packed, bits, planes = _THUMBNAIL_HEADER.unpack(head)
    sound = form <= 1 and max(width, height) <= _MAX_THUMBNAIL and packed <= image_bytes
    return sound and (bits, planes) == (24, 1) and row == (3 * width + 3) // 4 * 4 and total == row * height
