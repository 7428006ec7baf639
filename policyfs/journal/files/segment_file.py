"""Segments that are open for reading at any position. Of a compressed one, only the needed zstd frames are
unpacked."""

from __future__ import annotations

import hashlib
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

import zstandard

from policyfs.journal.files.decompression import decompressed
from policyfs.journal.files.segments import REGULAR, ZST, Chain, is_compressed, only_regular
from policyfs.trail.lines.line import LINE_BYTES
from policyfs.trail.lines.record import BadLine, Place, Record, parse_line

PART: Final = 8 << 20
"""The bytes, up to a line more or less, of a part of the growing segment. Each part has its own index."""
_BLOCK: Final = 1 << 20
_LINE: Final = 2048
_FRAMES: Final = 2
_SKIPPABLE: Final = 0x184D2A50
"""The magic number of a skippable frame, which has no content. Its lowest four bits may differ (RFC 8878)."""


class SegmentFile:
    """A segment that is open for reading. size, info: of the file when it was opened."""

    def __init__(self, chain: Chain, name: str) -> None:
        """name: the file name in the directory of *chain*. Raises FileNotFoundError if the file is gone."""
        self.chain = chain
        self.name = name
        try:
            self._fd = os.open(chain.directory / name, REGULAR)
        except FileNotFoundError:
            if is_compressed(name):
                raise
            self.name = name + ZST  # the segment was compressed after the directory was listed
            self._fd = os.open(chain.directory / self.name, REGULAR)
        self.info = os.fstat(only_regular(self._fd))
        self.size = self.info.st_size
        self._frames: _Frames | None = None
        self._plain: int | None = None
        """The uncompressed bytes of a segment whose frames do not state their sizes, as a descriptor."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
        if self._plain is not None:
            os.close(self._plain)

    def parts(self) -> list[tuple[int, int]]:
        """Divide a growing segment into ranges of bytes, at ends of lines: of PART bytes, for good, and the
        rest."""
        ends = []
        for end in range(PART, self.size, PART):
            block = os.pread(self._fd, LINE_BYTES, end)
            newline = block.find(b"\n")
            if newline >= 0 and end + newline + 1 < self.size:
                ends.append(end + newline + 1)
        return list(itertools.pairwise([0, *ends, self.size]))

    def digest(self, begin: int, end: int) -> str:
        """Return the SHA-256 of the file's bytes from the offset *begin* to *end*, in hex."""
        digest = hashlib.sha256()
        while begin < end and (block := os.pread(self._fd, min(_BLOCK, end - begin), begin)):
            digest.update(block)
            begin += len(block)
        return digest.hexdigest()

    def lines(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the complete lines of a range, as pairs of offset and line; of a compressed segment all, with
        uncompressed offsets."""
        packed = is_compressed(self.name)
        os.lseek(self._fd, 0, os.SEEK_SET)
        fd = decompressed(self._fd) if packed else os.dup(self._fd)
        if packed:
            begin, end = 0, os.fstat(fd).st_size
        with os.fdopen(fd, "rb", buffering=_BLOCK) as stream:
            stream.seek(begin)
            for line in stream:
                if begin + len(line) > end or not line.endswith(b"\n"):
                    return
                yield begin, line
                begin += len(line)

    def record(self, offset: int, line: int) -> Record | BadLine:
        """Parse the line at an offset in the uncompressed bytes. line: the line's number, for the result."""
        return parse_line(self.line(offset), Place(self.chain.name, self.name, line))

    def line(self, offset: int) -> bytes:
        """Return the line at an offset in the uncompressed bytes, without its newline."""
        raw = self._read(offset, _LINE)
        while b"\n" not in raw and (more := self._read(offset + len(raw), _BLOCK)):
            raw += more
        return raw.partition(b"\n")[0]

    def _read(self, offset: int, count: int) -> bytes:
        if not is_compressed(self.name):
            return os.pread(self._fd, count, offset)
        if self._frames is None:
            self._frames = _Frames(self._fd, self.size)
            if not self._frames.sized:
                os.lseek(self._fd, 0, os.SEEK_SET)
                self._plain = decompressed(self._fd)
        if self._plain is not None:
            return os.pread(self._plain, count, offset)
        return self._frames.read(offset, count)


class _Frames:
    """The zstd frames of a compressed segment, unpacked when needed; the last two stay in memory. sized:
    False if one does not state its size (`zstd` of a pipe): then read() cannot find what is behind it."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._table: list[tuple[int, int, int]] = []
        """For each frame: its offset in the uncompressed bytes, and its offset and size in the file."""
        self._unpacked: dict[int, bytes] = {}
        self.sized = True
        plain = at = 0
        while at < size:
            count, content = _frame(fd, at)
            if not count:
                break  # the file is damaged from here on: `verify` reports this
            if content < 0:
                self.sized = False
                break
            self._table.append((plain, at, count))
            plain, at = plain + content, at + count

    def read(self, offset: int, count: int) -> bytes:
        """Return at most *count* uncompressed bytes from *offset* on, of one frame; none at the end."""
        number = bisect_right(self._table, offset, key=itemgetter(0)) - 1
        if number < 0:
            return b""
        begin = self._table[number][0]
        return self._plain(number)[offset - begin : offset - begin + count]

    def _plain(self, number: int) -> bytes:
        plain = self._unpacked.get(number)
        if plain is None:
            _, at, size = self._table[number]
            try:
                plain = zstandard.ZstdDecompressor().decompress(os.pread(self._fd, size, at))
            except (zstandard.ZstdError, MemoryError):  # MemoryError: the frame states a wrong size
                plain = b""
            while len(self._unpacked) >= _FRAMES:
                del self._unpacked[next(iter(self._unpacked))]
            self._unpacked[number] = plain
        return plain


def _frame(fd: int, at: int) -> tuple[int, int]:
    """Return the size of the frame at an offset, and of its uncompressed bytes (-1: not stated), from the
    headers of the frame and its blocks (RFC 8878). 0, 0: it is damaged."""
    head = os.pread(fd, 18, at)
    if len(head) >= 8 and int.from_bytes(head[:4], "little") & ~15 == _SKIPPABLE:
        return 8 + int.from_bytes(head[4:8], "little"), 0
    try:
        parameters = zstandard.get_frame_parameters(head)
        end = at + zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return 0, 0
    while True:
        header = int.from_bytes(block := os.pread(fd, 3, end), "little")
        if len(block) < 3:
            return 0, 0
        end += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        if header & 1:
            stated = parameters.content_size != zstandard.CONTENTSIZE_UNKNOWN
            return end + 4 * parameters.has_checksum - at, parameters.content_size if stated else -1
