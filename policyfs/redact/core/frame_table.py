"""Table of the frames of a film: where each frame is, and the form of its bytes; and the checksums over them.

The daemon keeps the table of a film whose frames are searched later, window by window. So this module imports
no cleaner. bitstreams/frame_table.py makes tables and searches their frames.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from operator import ge, le, lt, sub
from typing import Final

from policyfs.domain import Patch

MAX_FRAMES: Final = 1 << 22
"""Maximum number of frames of a film: 38 hours, with 30 frames per second. Each takes 18 bytes of memory."""
MAX_FORMS: Final = 1 << 10
MAX_LEAD_BYTES: Final = 1 << 12
PICTURES: Final = "pictures"
CODECS: Final = (PICTURES, "H.264", "H.265", "H.266", "AV1", "MPEG")
"""Codecs whose frames are searched (nal_units.Codec), and frames that may be whole pictures."""
SUM_BYTES: Final = 6
"""Size in bytes of a checksum (a CRC-32 element of Matroska)."""
_VOID: Final = b"\xec\x84"
"""The header of a Void element of SUM_BYTES."""
_MAX_OFFSET: Final = (1 << 63) - 1
_COUNTS: Final = struct.Struct("<HII")
_FORM: Final = struct.Struct("<BB?BH")
_LITTLE: Final = sys.byteorder == "little"


@dataclass(frozen=True, slots=True)
class FrameForm:
    """The form of a track's frames.

    codec: one of CODECS. length_size: size in bytes of the length field before each unit; 0 if units have no
    length field. lead: the bytes at the start of each frame that the container stores elsewhere (Matroska's
    header compression). encrypted: True if frames may be encrypted as a whole. layers: the layers that the
    track declares (bitstreams/layers.py).
    """

    codec: str
    length_size: int = 0
    lead: bytes = b""
    encrypted: bool = False
    layers: int = 0


@dataclass(slots=True)
class FrameTable:
    """The frames of all tracks of a film that must be searched, sorted by their starts.

    starts, ends: offsets in the file (typecode Q). tracks: for each frame, the number of its form in *forms*
    (typecode H). Every frame has at least one byte. sums: the offsets of the checksums over frames, and
    covered: for each checksum, the end of the bytes that it covers. A checksum becomes void if one of these
    bytes changes. Only a table of a whole film has checksums.
    """

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    tracks: array[int] = field(default_factory=lambda: array("H"))
    forms: tuple[FrameForm, ...] = ()
    sums: array[int] = field(default_factory=lambda: array("Q"))
    covered: array[int] = field(default_factory=lambda: array("Q"))
    _measured: tuple[int, int] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def end(self) -> int:
        """The offset behind the last byte of any frame; 0 if there is no frame."""
        return self._measures()[1]

    @property
    def longest(self) -> int:
        """The size in bytes of the longest frame."""
        return self._measures()[0]

    def _measures(self) -> tuple[int, int]:
        if self._measured is None:
            self._measured = max(map(sub, self.ends, self.starts), default=0), max(self.ends, default=0)
        return self._measured

    def sums_in(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the checksums with a byte in [start, end): offset, and end of the covered bytes."""
        first, last = bisect_right(self.sums, start - SUM_BYTES), bisect_left(self.sums, end)
        return list(zip(self.sums[first:last], self.covered[first:last], strict=True))

    def overlapping(self, start: int, end: int) -> FrameTable:
        """Return the frames with a byte in [start, end), without checksums, at the same offsets."""
        longest = self.longest
        first = bisect_right(self.starts, start - longest) if start > longest else 0
        last = max(first, bisect_left(self.starts, end))
        columns = [column[first:last] for column in (self.starts, self.ends, self.tracks)]
        inside = [behind > start for behind in columns[1]]
        if not all(inside):
            columns = [array(column.typecode, compress(column, inside)) for column in columns]
        return FrameTable(columns[0], columns[1], columns[2], self.forms)

    def lies_in(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Return True if each frame lies in one of these ranges, which must be sorted and apart."""
        count = 0
        for start, end in ranges:
            first, last = (bisect_left(self.starts, at, count) for at in (start, end))
            if first > count or max(self.ends[first:last], default=end) > end:
                return False
            count = last
        return count == len(self)

    def shifted(self, by: int) -> FrameTable:
        """Return the same frames at offsets that are higher by *by* bytes (lower if it is negative), without
        checksums.

        Raises ValueError if a frame would begin before the offset 0.
        """
        if self.starts and self.starts[0] + by < 0:
            raise ValueError("a frame before the start of the bytes")
        starts, ends = (array("Q", [at + by for at in column]) for column in (self.starts, self.ends))
        return FrameTable(starts, ends, self.tracks, self.forms)

    def pack(self) -> bytes:
        """Return the table as bytes. Raises ValueError for a table that unpack() would not take."""
        if len(self.starts) > MAX_FRAMES or len(self.forms) > MAX_FORMS:
            raise ValueError("too many frames")
        parts = [_COUNTS.pack(len(self.forms), len(self.starts), len(self.sums))]
        for form in self.forms:
            if len(form.lead) > MAX_LEAD_BYTES:
                raise ValueError("too many bytes before each frame")
            head = (CODECS.index(form.codec), form.length_size, form.encrypted, form.layers, len(form.lead))
            parts += [_FORM.pack(*head), form.lead]
        columns = (self.starts, self.ends, self.tracks, self.sums, self.covered)
        parts += [_little(column).tobytes() for column in columns]
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> FrameTable:
        """Return the table that pack() has packed.

        Raises ValueError if a correct worker could not have made it: frames must be sorted, have at least one
        byte and a form, and lie within the limits of this module.
        """
        try:
            form_count, count, sums = _COUNTS.unpack_from(data)
            forms, at = [], _COUNTS.size
            for _ in range(form_count):
                codec, length_size, encrypted, layers, size = _FORM.unpack_from(data, at)
                at += _FORM.size + size
                forms.append(FrameForm(CODECS[codec], length_size, data[at - size : at], encrypted, layers))
                if length_size > 4 or size > MAX_LEAD_BYTES or at > len(data):
                    raise ValueError("a form of frames is out of range")
        except (struct.error, IndexError) as exc:
            raise ValueError("a table of frames is cut off") from exc
        rest = memoryview(data)[at:]
        if count > MAX_FRAMES or form_count > MAX_FORMS or len(rest) != count * 18 + sums * 16:
            raise ValueError("a table of frames is too long, or cut off")
        columns = []
        for code, length in zip("QQHQQ", (count, count, count, sums, sums), strict=True):
            column = array(code)
            column.frombytes(rest[: length * column.itemsize])
            rest = rest[length * column.itemsize :]
            columns.append(_little(column))
        starts, ends, tracks, checks, covered = columns
        table = cls(starts, ends, tracks, tuple(forms), checks, covered)
        table._check()
        return table

    def _check(self) -> None:
        ascending = all(map(ge, islice(self.starts, 1, None), self.starts))
        if not ascending or not all(map(lt, self.starts, self.ends)):
            raise ValueError("frames are out of order, or have no bytes")
        if max(self.tracks, default=-1) >= len(self.forms) or self.end > _MAX_OFFSET:
            raise ValueError("a frame has no form, or lies beyond any file")
        within = all(at + SUM_BYTES <= end for at, end in zip(self.sums, self.covered, strict=True))
        if not within or not all(map(le, self.covered, islice(self.sums, 1, None))):
            raise ValueError("checksums are out of order, or cover each other")
        if self.covered and self.covered[-1] > _MAX_OFFSET:
            raise ValueError("a checksum lies beyond any file")


def void_sum(at: int) -> tuple[Patch, Patch]:
    """Return the patches that make the checksum at an offset void."""
    return Patch(at, _VOID), Patch(at + len(_VOID), zeros=SUM_BYTES - len(_VOID))


def _little(column: array[int]) -> array[int]:
    """Return the numbers in little-endian order, or those read in this order in the machine's own order."""
    if _LITTLE:
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped
