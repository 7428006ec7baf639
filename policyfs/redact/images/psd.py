"""PSD and PSB files (Adobe Photoshop File Formats Specification): resources, layers and the merged picture.

Pixels stay, and so do the parts of a layer that programs need to show it. Resources are cleaned as in a JPEG
(tags/iptc.py). Bytes behind the pixels become zeros. A file is refused if its sections contradict each other.
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.cleaners import Cleaned, Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import ByteSource, Window
from policyfs.redact.images.psd_layers import RAW, RLE, Canvas, Cursor, Layers
from policyfs.redact.tags.iptc import clean_irb, resources

_HEAD_BYTES: Final = 26
_DEPTHS: Final = (1, 8, 16, 32)
_MODES: Final = frozenset({0, 1, 2, 3, 4, 7, 8, 9})
"""Modes of colour: bitmap, grey, indexed, RGB, CMYK, multichannel, duotone, Lab."""
_VERSION: Final = 0x0421
_MERGED: Final = 4
"""Offset in the version resource of the flag that a merged picture is there; programs' names follow it."""
_SHOWN: Final = {0x0416: 2, 0x0417: 2}
"""Resource -> size of the numbers for indexed colours: how many there are, and which one is transparent."""


def locate_psd(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a PSD or PSB. Raises NotThisKindError, TooMuchError."""
    edits = Edits(Window(source), inner, "PSD")
    cursor = Cursor(edits.source, _HEAD_BYTES, source.size)
    canvas = _canvas(source.read(0, _HEAD_BYTES))
    edits.zero(6, 12, "reserved")
    layers = Layers(edits, canvas)
    layers.numbers(*cursor.section(4), "colours")
    _resources(edits, *cursor.section(4))
    layers.locate(*cursor.section(canvas.wide))
    packing = cursor.number(2)
    if packing not in (RAW, RLE) or cursor.at >= source.size:
        raise NotThisKindError("there is no merged picture in it, or it is packed in an unknown way")
    end = layers.end_of_pixels(packing, cursor.at, canvas.width, canvas.channels * canvas.height)
    edits.trailer(end, source.size)
    return edits.found


def _canvas(head: bytes) -> Canvas:
    version, channels = int.from_bytes(head[4:6]), int.from_bytes(head[12:14])
    height, width = int.from_bytes(head[14:18]), int.from_bytes(head[18:22])
    depth, mode = int.from_bytes(head[22:24]), int.from_bytes(head[24:26])
    if head[:4] != b"8BPS" or version not in (1, 2):
        raise NotThisKindError("it does not start like a PSD")
    if not (channels and height and width and depth in _DEPTHS and mode in _MODES):
        raise NotThisKindError("its channels, its size or its depth is not valid")
    return Canvas(4 * version, channels, height, width, depth)


def _resources(edits: Edits, start: int, end: int) -> None:
    if end - start > MAX_BLOCK_BYTES:
        raise TooMuchError("its resources are too large")
    old = edits.source.read(start, end - start)
    edits.inner.budget.search(len(old))
    cleaned = clean_irb(old, edits.inner)
    if any(note.tag == "unreadable" for note in cleaned.notes):
        raise NotThisKindError("its resources are not understood")
    edits.block(start, old, Cleaned(_with_needed(old, cleaned.data), cleaned.notes))


def _with_needed(old: bytes, cleaned: bytes) -> bytes:
    """Return cleaned resources with those numbers of removed ones without which another picture is shown."""
    out = bytearray(cleaned)
    for one in resources(old):
        at, data = one.head + 4, old[one.start : one.end]
        if one.signature != b"8BIM" or cleaned[at : at + 2] == old[at : at + 2]:
            continue
        if one.id == _VERSION and len(data) > _MERGED:
            data = b"\0\0\0\1" + bytes([data[_MERGED] & 1])
        elif len(data) != _SHOWN.get(one.id):
            continue
        out[at : at + 2] = old[at : at + 2]
        out[one.start : one.start + len(data)] = data
    return bytes(out)
