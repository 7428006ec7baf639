"""Layers of PSD and PSB files (Adobe Photoshop File Formats Specification, "Layer and Mask Information").

A block of a layer that must not stay becomes an empty block of metadata ("shmd"), which all versions of
Photoshop skip. The pixels of the layer stay, so that text, shapes and smart objects become pictures. Embedded
and linked files always go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.kept_values import told_in_kept, told_in_range
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.core.tag_names import told

RAW, RLE = 0, 1
_ZIPPED: Final = (2, 3)
_SIGNATURES: Final = (b"8BIM", b"8B64")
_INFO: Final = (b"Layr", b"Lr16", b"Lr32")
"""Keys of blocks that hold all layers of the file: those with 16 or 32 bits."""
_METADATA_KEY: Final = b"shmd"
_LONG: Final = frozenset(
    b"LMsk Lr16 Lr32 Layr Mt16 Mt32 Mtrn Alph FMsk lnk2 lnk3 lnkE FEid FXid FELS PxSD pths extd extn cinf"
    b" artd".split()
)
"""Keys that have a length of eight bytes in a PSB (some only in newer versions)."""
_DEVICE: Final = Tells.DEVICE | Tells.OTHER
_PEOPLE: Final = Tells.PEOPLE | Tells.OTHER


def _keys(*rows: tuple[Tells, str]) -> dict[bytes, Tells]:
    return {key.encode().ljust(4): tells for tells, keys in rows for key in keys.split()}


_BLOCKS: Final = _keys(
    (NOTHING, "iOpa brst clbl infx knko lspf lclr fxrp lsct lsdk lyid lnsr lyvr lmgm vmgm tsly sn2P ffxi"),
    (NOTHING, "vmsk vsms vstk vscg vogk vowv"),
    (NOTHING, "brit levl curv expA vibA hue hue2 blnc blwh phfl mixr clrL nvrt post thrs grdm selc"),
    (NOTHING, "SoCo GdFl PtFl lrFX lfx2 lfxs lmfx artb artd abdd frgb"),
    (NOTHING, "TySh tySh Txt2"),  # text that the picture shows
    (NOTHING, "LMsk FMsk Mtrn Mt16 Mt32 Alph Patt Pat2 Pat3 FXid FEid shpa"),
    (_PEOPLE, "luni pths"),
    (_PEOPLE | Tells.TIME, "shmd anFX"),
    (_DEVICE, "cinf CgEd"),
)
"""Key of a block -> its categories. Smart objects and their files (SoLd, lnk2), notes (Anno), sources of
pixels (PxSD), settings of exports (extn) and manifests (CAI) are not listed.
"""
_PIXELS: Final = frozenset(b"LMsk FMsk Mtrn Mt16 Mt32 Alph Patt Pat2 Pat3 FXid FEid vmsk vsms clrL".split())
_TEXTS: Final = frozenset({b"luni", b"pths"})
_MASKS_BYTES: Final = 64
_TWO_MASKS_BYTES: Final = 36
"""Size of the settings of a layer's masks: the maximum, and the minimum for two masks."""
_USER_MASK, _REAL_MASK = -2, -3
_RANGE_BYTES: Final = 8
_LEAST_RANGES: Final = 4
"""Size of the blending ranges of a channel; the number of ranges that also layers of fewer channels have."""
_MOST_BLOCKS_BYTES: Final = 16 << 20
"""Total size of blocks that may stay. Later ones go."""
_TABLE_BYTES: Final = 1 << 20


class Canvas(NamedTuple):
    """The picture's size in pixels, its number of channels, and its bits per channel.

    wide: size in bytes of most lengths: 4, in a PSB 8.
    """

    wide: int
    channels: int
    height: int
    width: int
    depth: int


class Cursor:
    """A reader of big-endian numbers and sections in [at, end) of a source."""

    __slots__ = ("at", "end", "source")

    def __init__(self, source: ByteSource, at: int, end: int) -> None:
        self.source, self.at, self.end = source, at, min(end, source.size)

    def number(self, size: int, *, signed: bool = False) -> int:
        """Read a number of *size* bytes. Raises NotThisKindError at the end."""
        return int.from_bytes(self.take(size), signed=signed)

    def take(self, size: int) -> bytes:
        """Read *size* bytes. Raises NotThisKindError if there are fewer."""
        if size > self.end - self.at:
            raise NotThisKindError("a section of it is cut off")
        self.at += size
        return self.source.read(self.at - size, size)

    def section(self, wide: int) -> tuple[int, int]:
        """Skip a section behind its length of *wide* bytes; return its range. Raises NotThisKindError."""
        size = self.number(wide)
        if size > self.end - self.at:
            raise NotThisKindError("a section of it is cut off")
        self.at += size
        return self.at - size, self.at


Size = tuple[int, int]
"""Width and height of a channel in pixels."""


class _Layer(NamedTuple):
    """The channels of a layer: number and length of each; the sizes of its pixels and masks, by number."""

    channels: list[tuple[int, int]]
    sizes: dict[int, Size]


class Layers:
    """The locator of everything to hide in the section of layers."""

    def __init__(self, edits: Edits, canvas: Canvas) -> None:
        self._edits = edits
        self._source = edits.source
        self._canvas = canvas
        self._asked = edits.inner.hide & Tells.LOCATION
        self._left = _MOST_BLOCKS_BYTES

    def locate(self, start: int, end: int) -> None:
        """Locate everything to hide in the section [start, end). Raises NotThisKindError, TooMuchError."""
        cursor = Cursor(self._source, start, end)
        if end - start < self._canvas.wide:
            self._edits.zero(start, end, "layers", broken=True)
            return
        self._info(*cursor.section(self._canvas.wide))
        if end - cursor.at >= 4:
            self.numbers(*cursor.section(4), "mask of all layers")
        self._blocks(cursor.at, end, whole=True)

    def numbers(self, start: int, end: int, what: str) -> None:
        """Check numbers that must stay. Raises NotThisKindError if they hold metadata or a place."""
        if told_in_range(self._source, start, end, self._asked, self._edits.inner.budget, numbers=True):
            raise NotThisKindError(f"the numbers of its {what} hold hidden data")

    def end_of_pixels(self, packing: int, start: int, width: int, rows: int) -> int:
        """Return the offset behind pixels that are raw, or packed row by row, behind a table of lengths."""
        if packing == RAW:
            return start + (width * self._canvas.depth + 7) // 8 * rows
        entry = self._canvas.wide // 2
        size = rows * entry
        self._edits.inner.budget.search(size)
        end = start + size
        for at in range(start, start + size, _TABLE_BYTES):
            table = self._source.read(at, min(_TABLE_BYTES, start + size - at))
            # The sum of numbers with two or four bytes each, without a loop in Python.
            end += sum(sum(table[byte::entry]) << 8 * (entry - 1 - byte) for byte in range(entry))
        return end

    def _info(self, start: int, end: int) -> None:
        if start == end:
            return
        cursor = Cursor(self._source, start, end)
        layers = [self._record(cursor) for _ in range(abs(cursor.number(2, signed=True)))]
        for layer in layers:
            for number, length in layer.channels:
                first = cursor.at
                cursor.at += length
                if cursor.at > end:
                    raise NotThisKindError("the pixels of a layer are cut off")
                self._channel(first, cursor.at, *layer.sizes.get(number, layer.sizes[0]))
        self._edits.trailer(cursor.at, end)

    def _channel(self, start: int, end: int, width: int, rows: int) -> None:
        packing = Cursor(self._source, start, end).number(2) if start < end else RAW
        if packing in _ZIPPED:
            return
        if packing not in (RAW, RLE):
            raise NotThisKindError("a layer is packed in an unknown way")
        last = self.end_of_pixels(packing, start + 2, width, rows)
        if last < end:
            self._edits.zero(last, end, "behind the pixels of a layer", broken=True)

    def _record(self, cursor: Cursor) -> _Layer:
        self._edits.inner.budget.part()
        size = _size(cursor.take(16))
        count = cursor.number(2)
        self._edits.inner.budget.part(count)
        wide = self._canvas.wide
        channels = [(cursor.number(2, signed=True), cursor.number(wide)) for _ in range(count)]
        if cursor.take(4) not in _SIGNATURES:
            raise NotThisKindError("a layer does not start like one")
        self.numbers(cursor.at, cursor.at + 8, "layers")
        cursor.take(8)
        extra = Cursor(self._source, *cursor.section(4))
        sizes = {0: size}
        masks = extra.section(4)
        if masks[1] - masks[0] > _MASKS_BYTES:
            raise NotThisKindError("the mask of a layer is not understood")
        self.numbers(*masks, "masks")
        settings = self._source.read(masks[0], masks[1] - masks[0])
        if len(settings) >= 16:
            sizes[_USER_MASK] = _size(settings[:16])
        if len(settings) >= _TWO_MASKS_BYTES:
            sizes[_REAL_MASK] = _size(settings[-16:])
        ranges = extra.section(4)
        behind = min(ranges[1], ranges[0] + _RANGE_BYTES * (max(count, _LEAST_RANGES) + 1))
        self.numbers(ranges[0], behind, "layers")
        self._edits.zero(behind, ranges[1], "behind blending ranges", broken=True)
        self._name(extra)
        self._blocks(extra.at, extra.end)
        return _Layer(channels, sizes)

    def _name(self, extra: Cursor) -> None:
        """Replace a layer's name by spaces if it holds data to hide. Zeros fill it up to four bytes."""
        length = extra.number(1)
        name = extra.take(length)
        inner = self._edits.inner
        if name.strip(b" \0") and (tells := told(inner.hide, _PEOPLE, name, inner.budget)):
            self._edits.put(extra.at - length, name, b" " * length)
            self._edits.note(extra.at - length, length, "name of a layer", tells)
        filled = min(-(length + 1) % 4, extra.end - extra.at)
        self._edits.zero(extra.at, extra.at + filled, "behind a name", broken=True)
        extra.at += filled

    def _blocks(self, start: int, end: int, *, whole: bool = False) -> None:
        """Locate the blocks of a layer that hold data to hide. whole: True for those of all layers."""
        at = start
        for at, key, first, last in self._each_block(start, end):
            self._edits.inner.budget.part()
            if whole and key in _INFO:
                self._info(first, last)
            elif (tells := self._told(key, first, last)) is not None:
                self._drop(at, key, first, last, tells)
            at = last
        self._edits.zero(at, end, "behind blocks", broken=True)

    def _each_block(self, start: int, end: int) -> Iterator[tuple[int, bytes, int, int]]:
        """Yield for each block its offset, its key, and the range of its data; up to three zeros fill it."""
        at = start
        while end - at >= 12:
            head = self._source.read(at, 16)
            if head[:4] not in _SIGNATURES:
                filler = len(head) - len(head.lstrip(b"\0"))
                if not 0 < filler <= 3:
                    return
                at += filler
                continue
            key, wide = head[4:8], 4
            if self._canvas.wide > wide and key in _LONG and not any(head[8:12]):
                wide = 8
            first = at + 8 + wide
            last = first + int.from_bytes(head[8 : 8 + wide])
            if last > end:
                raise NotThisKindError("a block of a layer is cut off")
            yield at, key, first, last
            at = last

    def _told(self, key: bytes, start: int, end: int) -> Tells | None:
        """Return the categories of a block that must go; None if it stays."""
        inner, tells = self._edits.inner, _BLOCKS.get(key, UNKNOWN)
        if (
            key == _METADATA_KEY
            and end - start <= MAX_BLOCK_BYTES
            and not any(self._source.read(start, end - start))
        ):
            return None
        if key in _TEXTS:
            inner.budget.part()
            data = self._source.read(start, min(end - start, MAX_BLOCK_BYTES))
            found = told(inner.hide, tells, data, inner.budget) | told_in_kept(data, NOTHING, inner.budget)
            return found or None
        self._left -= end - start
        if self._left < 0:
            tells = UNKNOWN
        if not tells & inner.hide:
            numbers = key in _PIXELS
            found = told_in_range(self._source, start, end, self._asked, inner.budget, numbers=numbers)
            if not found:
                return None
            tells |= found
        return tells

    def _drop(self, at: int, key: bytes, start: int, end: int, tells: Tells) -> None:
        """Turn a block into an empty block of metadata; a length of eight bytes becomes one of four."""
        size = end - at - 12
        if size < 4:
            raise NotThisKindError("an unknown block of a layer has no data")
        name = key.decode("ascii", "replace") if key in _BLOCKS else "unknown block"
        self._edits.zero(start, end, name, tells)
        old = self._source.read(at, start - at)
        if self._edits.put(at, old, (b"8BIM" + _METADATA_KEY + size.to_bytes(4)).ljust(len(old), b"\0")):
            self._edits.note(at, len(old), name, tells)


def _size(rectangle: bytes) -> Size:
    """Return width and height of a rectangle: top, left, bottom and right as numbers of four bytes."""
    top, left, bottom, right = (int.from_bytes(rectangle[at : at + 4], signed=True) for at in (0, 4, 8, 12))
    if bottom < top or right < left:
        raise NotThisKindError("a layer has no valid size")
    return right - left, bottom - top
