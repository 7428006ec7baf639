"""Trailer of Samsung's cameras behind a JPEG: named blocks, their directory, and a mark at the end.

    blocks: 4 bytes of type, 4 of the name's length, name, data
    SEFH, version, count; per block: its type, its distance before SEFH, its size
    length of the directory, SEFT

Numbers are little-endian and have 4 bytes. Some readers use a block's type, others its name, so both count. A
block may hold the video of a motion photo, a second picture or sound. Some blocks tell the country
(MCC_Data) or the time. Source: files of many phones, and public readers of such files; there is no published
specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.formats import Use, starts_for
from policyfs.redact.core.appended import find_appended
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource, SliceSource, difference, zeros
from policyfs.redact.core.tag_names import told

_END: Final = b"SEFT"
_START: Final = b"SEFH"
_HEAD_BYTES: Final = 12
_ENTRY_BYTES: Final = 12
_MAX_DIRECTORY_BYTES: Final = 0x10000
_MAX_PICTURE_BYTES: Final = 32 << 20
_MAX_TEXT_BYTES: Final = 1 << 16
_NUMBER_BYTES: Final = 4
_START_BYTES: Final = 32
_PICTURES: Final = starts_for(Use.PICTURE)
_GONE: Final = 0x7F7F
"""Type of a block with removed content. No reader knows this type. It does not look like a JPEG marker."""


class _Use(NamedTuple):
    """The categories of the data in a block with a known name, and the kind of the file in it."""

    tells: Tells
    holds: str = ""


_BLOCKS: Final[Mapping[bytes, _Use]] = MappingProxyType(
    {
        b"MotionPhoto_Data": _Use(NOTHING, "video"),
        b"MotionPhoto_Version": _Use(NOTHING),
        b"MotionPhoto_AutoPlay": _Use(NOTHING),
        b"Color_Display_P3": _Use(NOTHING),
        b"Image_UTC_Data": _Use(Tells.TIME),
        b"MCC_Data": _Use(Tells.LOCATION),
        b"Camera_Capture_Mode_Info": _Use(Tells.OTHER),
        b"Camera_Scene_Info": _Use(Tells.OTHER),
        b"Front_Cam_Selfie_Info": _Use(Tells.OTHER),
        b"Panorama_Shot_Info": _Use(Tells.OTHER),
        b"Photo_HDR_Info": _Use(Tells.OTHER),
        b"Burst_Shot_Info": _Use(Tells.DEVICE | Tells.TIME),
        b"DualShot_": _Use(Tells.OTHER, "picture"),
        b"FlipPhoto_": _Use(Tells.OTHER, "picture"),
        b"SoundShot_": _Use(Tells.OTHER, "video"),
        b"Interactive_Panorama_": _Use(Tells.OTHER, "video"),
        b"DualShot_DepthMap_": _Use(Tells.OTHER, "depths"),
        b"SingeShot_DepthMap_": _Use(Tells.OTHER, "depths"),
        b"SingleShot_DepthMap_": _Use(Tells.OTHER, "depths"),
    }
)
"""Name of a block (a number follows _) -> categories of its data, and the kind of the file in it."""
_TYPES: Final = MappingProxyType({b"\0\0\x01\x0a": Tells.TIME, b"\0\0\xa1\x0a": Tells.LOCATION})
"""Type of a block -> categories of the data that a reader finds by the type alone, whatever the name is."""
_NO_TEXT: Final = re.compile(rb"[^\0\t\n\r\x20-\x7e]")
_NUMBERED: Final = re.compile(rb"([A-Za-z_]{4,40}_)\d{1,3}")


@dataclass(frozen=True, slots=True)
class Block:
    """One block, [start, end) of the file; entry: offset of its entry in the directory."""

    start: int
    end: int
    entry: int


@dataclass(frozen=True, slots=True)
class Trailer:
    """A trailer: its blocks in order, its directory [directory, end). start: offset of the first block."""

    start: int
    directory: int
    end: int
    blocks: tuple[Block, ...]


def find_trailer(source: ByteSource, lowest: int) -> Trailer | None:
    """Find the trailer that ends the file and starts at `lowest` or behind; None if there is none."""
    tail = source.read(max(0, source.size - 8), 8)
    length = int.from_bytes(tail[:4], "little")
    at = source.size - 8 - length
    if tail[4:] != _END or not _HEAD_BYTES <= length <= _MAX_DIRECTORY_BYTES or at < lowest:
        return None
    head = source.read(at, length)
    count = int.from_bytes(head[8:12], "little")
    if head[:4] != _START or _HEAD_BYTES + _ENTRY_BYTES * count > length:
        return None
    blocks: list[Block] = []
    for entry in range(_HEAD_BYTES, _HEAD_BYTES + _ENTRY_BYTES * count, _ENTRY_BYTES):
        before, size = (int.from_bytes(head[entry + n : entry + n + 4], "little") for n in (4, 8))
        block = Block(at - before, at - before + size, at + entry)
        if block.start < lowest or block.end > at or size < 8:
            return None
        blocks.append(block)
    blocks.sort(key=lambda block: block.start)
    if any(a.end > b.start for a, b in pairwise(blocks)):
        return None
    return Trailer(blocks[0].start if blocks else at, at, source.size, tuple(blocks))


def clean_trailer(source: ByteSource, trailer: Trailer, inner: Inner) -> Found:
    """Locate everything to hide in a trailer: blocks, files embedded in them, bytes outside of blocks."""
    edits, at = Edits(source, inner, "SEF"), trailer.start
    for block in trailer.blocks:
        inner.budget.part()
        edits.zero(at, block.start, "between blocks")
        _clean_block(edits, block)
        at = block.end
    edits.zero(at, trailer.directory, "between blocks")
    entries = trailer.directory + _HEAD_BYTES + _ENTRY_BYTES * len(trailer.blocks)
    edits.zero(entries, trailer.end - 8, "behind the directory")
    return edits.found


def _clean_block(edits: Edits, block: Block) -> None:
    source, inner = edits.source, edits.inner
    head = source.read(block.start, 8)
    length = int.from_bytes(head[4:], "little")
    name = source.read(block.start + 8, min(length, 64))
    data = block.start + 8 + length
    numbered = _NUMBERED.fullmatch(name)
    use = _BLOCKS.get(numbered[1] if numbered else name)
    two_types = head[:4] != source.read(block.entry, 4)
    if use is None or two_types or len(name) != length or data > block.end:
        _drop(edits, block, "unknown", UNKNOWN)
        return
    tells = use.tells | _TYPES.get(head[:4], NOTHING)
    if tells & inner.hide:
        _drop(edits, block, name.decode("ascii"), tells)
    elif use.holds and not (use.holds == "depths" and _is_text(source, data, block.end)):
        inside = _inside(source, data, block.end, use.holds, inner)
        if inside is None:
            _drop(edits, block, name.decode("ascii"), UNKNOWN, broken=True)
        else:
            edits.found.add(inside, data)
    else:
        text = source.read(data, min(block.end - data, _MAX_TEXT_BYTES + 1))
        # Binary data may be a picture or a sound: readers go by the type alone.
        plain = block.end - data <= _NUMBER_BYTES or _is_text(source, data, block.end)
        tells = told(inner.hide, tells, text, inner.budget) if plain else UNKNOWN
        if tells:
            _drop(edits, block, name.decode("ascii"), tells)


def _is_text(source: ByteSource, start: int, end: int) -> bool:
    """Return True if the bytes [start, end) are a text, and short enough to be searched."""
    return end - start <= _MAX_TEXT_BYTES and _NO_TEXT.search(source.read(start, end - start)) is None


def _inside(source: ByteSource, start: int, end: int, holds: str, inner: Inner) -> Found | None:
    head = source.read(start, min(_START_BYTES, end - start))
    if holds == "depths" and not any(head.startswith(first, at) for _, at, first in _PICTURES):
        held = told_in_range(source, start, end, NOTHING, inner.budget, numbers=True)
        if held or find_appended(source, start, end, inner.budget) is not None:
            return None
        return Found()  # one byte per pixel, and nothing else
    if holds == "video":
        return inner.file("video/mp4", SliceSource(source, start, end - start))
    if end - start > _MAX_PICTURE_BYTES:
        return None
    picture = source.read(start, end - start)
    cleaned = inner.image(picture)
    if cleaned is None:
        return None
    return Found(list(difference(0, picture, cleaned.data)), list(cleaned.notes))


def _drop(edits: Edits, block: Block, name: str, tells: Tells, *, broken: bool = False) -> None:
    source, found = edits.source, edits.found
    before = len(found.patches)
    for at in (block.start, block.entry):
        edits.put(at, source.read(at, 4), _GONE.to_bytes(4))
    length = source.read(block.start + 4, 4)
    if int.from_bytes(length, "little") > block.end - block.start - 8:
        edits.put(block.start + 4, length, bytes(4))
    found.patches += zeros(source, block.start + 8, block.end)
    if len(found.patches) > before:
        edits.note(block.start, block.end - block.start, name, tells, broken=broken)
