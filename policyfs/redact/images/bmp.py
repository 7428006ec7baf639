"""BMP files (Microsoft, "Bitmap Storage", "Bitmap Header Types").

The formats have no metadata, but files have room for it: between headers and pixels, and behind the pixels.
The bytes there become zeros. Only filler (core/filler.py) behind the pixels stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError
from policyfs.redact.core.colour_profiles import profile_stays
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource

_HEAD_BYTES: Final = 14
_CORE: Final = 12
_SHORT: Final = 16
"""The header of OS/2 2 (64 bytes), cut off behind the number of bits, as its standard permits."""
_OS2: Final = 64
"""The whole header of OS/2 2. Behind its first _USED bytes only a printer and its programs find something."""
_USED: Final = 40
_HEADERS: Final = (_SHORT, 40, 52, 56, _OS2, 108, 124)
_PLAIN, _RLE, _FIELDS = 0, (1, 2), (3, 6)
_BEFORE_BYTES: Final = 64
"""Size of the usual pixels before other ones that are searched with them: a text may begin there."""


@dataclass(frozen=True, slots=True)
class _Bitmap:
    """Layout of a device-independent bitmap by its header; sizes in bytes."""

    header: int
    colours: int
    pixels: int | None
    """Size of the pixels; None for compressed ones of no stated size, up to the end of the file."""
    profile: tuple[bytes, int, int] | None
    """Kind, offset from the header's start, and length of a colour profile; or None."""


def _read_bitmap(head: bytes) -> _Bitmap:
    """Read the header at the start of *head* (124 bytes are enough). Raises NotThisKindError."""
    size = int.from_bytes(head[:4], "little")
    if size == _CORE and len(head) >= _CORE:
        width, height, bits = (int.from_bytes(head[a : a + 2], "little") for a in (4, 6, 10))
        colours = 3 << bits if bits <= 8 else 0
        return _Bitmap(size, colours, _stride(width, bits) * height, None)
    if size not in _HEADERS or len(head) < size:
        raise NotThisKindError("the length of its header is not known")
    if size == _SHORT:
        head = head[:size].ljust(40, b"\0")
    width, height = (int.from_bytes(head[a : a + 4], "little", signed=True) for a in (4, 8))
    bits, packing = int.from_bytes(head[14:16], "little"), int.from_bytes(head[16:20], "little")
    stated, used = (int.from_bytes(head[a : a + 4], "little") for a in (20, 32))
    if not 0 < width < 1 << 20 or not 0 < abs(height) < 1 << 20 or bits not in (1, 2, 4, 8, 16, 24, 32):
        raise NotThisKindError("its width, height or depth is not valid")
    if packing not in (_PLAIN, *_RLE, *(() if size == _OS2 else _FIELDS)):
        raise NotThisKindError("its compression is not known")
    masks = {3: 12, 6: 16}.get(packing, 0) if size == 40 else 0
    count = used if 0 < used <= 1 << 8 else 0 if bits > 8 else 1 << bits
    pixels = (stated or None) if packing in _RLE else _stride(width, bits) * abs(height)
    profile = None
    if size == 124:
        offset, length = (int.from_bytes(head[a : a + 4], "little") for a in (112, 116))
        profile = (head[56:60], offset, length)
    return _Bitmap(size, masks + 4 * count, pixels, profile)


def _stride(width: int, bits: int) -> int:
    return (width * bits + 31) // 32 * 4


def locate_bmp(source: ByteSource, inner: Inner) -> Found:
    """Locate all bytes of a BMP outside of its picture. Raises NotThisKindError, TooMuchError."""
    edits = Edits(source, inner, "BMP")
    head = source.read(0, _HEAD_BYTES + 124)
    if head[:2] != b"BM" or len(head) < _HEAD_BYTES + _CORE:
        raise NotThisKindError("it does not start like a BMP")
    bitmap = _read_bitmap(head[_HEAD_BYTES:])
    start = int.from_bytes(head[10:14], "little")
    ends = _HEAD_BYTES + bitmap.header
    colours = ends + bitmap.colours
    more = max(0, colours - start)  # the stated start lies within the colours: Pillow reads behind these
    colours = min(colours, max(start, ends))
    if not ends <= start < source.size:
        raise NotThisKindError("there is no picture in it")
    _check_colours(edits, 0, colours)
    picture_end = source.size if bitmap.pixels is None else start + bitmap.pixels
    if more and bitmap.pixels is not None and not _holds_more(edits, start, picture_end, more):
        picture_end += more
    stay = [(0, colours), (start, picture_end)]
    edits.zero(6, 10, "reserved")
    if bitmap.header == _OS2:
        edits.zero(_HEAD_BYTES + _USED, ends, "resolution and identifier")
    if bitmap.profile is not None:
        kind, offset, size = bitmap.profile
        at = _HEAD_BYTES + offset
        if kind == b"DEBM" and size <= MAX_BLOCK_BYTES and profile_stays(source.read(at, size), inner):
            stay.append((at, at + size))
    _neutral(edits, stay)
    return edits.found


def _check_colours(edits: Edits, start: int, end: int) -> None:
    """Raise NotThisKindError if the header and the table of colours [start, end) hold metadata."""
    if holds_metadata(edits.source.read(start, end - start), numbers=True):
        raise NotThisKindError("its header or its table of colours holds metadata")


def _holds_more(edits: Edits, pixels: int, start: int, size: int) -> bool:
    """Return True if pixels beside the usual ones hold metadata, or a place that is hidden. What lies before
    the pixels is not looked at: it may become zeros, and then the answer would be another."""
    asked = edits.inner.hide & Tells.LOCATION
    first = max(pixels, start - _BEFORE_BYTES)
    return bool(told_in_range(edits.source, first, start + size, asked, edits.inner.budget))


def _neutral(edits: Edits, stay: list[tuple[int, int]]) -> None:
    """Zero all bytes of the file outside of the ranges *stay*."""
    at = 0
    for start, end in sorted(stay):
        edits.zero(at, start, "between")
        at = max(at, end)
    edits.trailer(at, edits.source.size)
