"""The follower of one hash chain of the trail: it reads the chain's lines from a position on.

It also works after rotation, compression and crashes. What is missing, or was changed, is a line of its own.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from policyfs.follow.lines import fields_of_hole, with_id
from policyfs.follow.source import Access
from policyfs.journal.files.reader import is_anew
from policyfs.journal.files.retention import begin_ns
from policyfs.journal.files.segments import is_compressed, plain_name, segment_number, settled_lines
from policyfs.trail.chain import chain
from policyfs.trail.chain.continuity import Continuity, Hole
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import Place, Record, parse_line

_MOST: Final = 256 * 1024
_DAMAGE: Final = frozenset({errno.EIO, errno.EINVAL, errno.ELOOP, errno.EBADMSG, errno.EUCLEAN})
"""The errors of a segment that will not be read later, either. The others may pass."""


class Position(NamedTuple):
    """A position between two lines of a hash chain of the trail.

    segment: the uncompressed name of the file (segment); empty before the first file. offset, line: the bytes
    and the lines before the position in this file. seq, head, time: number, digest (empty: unknown) and time
    of the line before the position.
    """

    segment: str = ""
    offset: int = 0
    line: int = 0
    seq: int = 0
    head: str = chain.GENESIS
    time: str = ""


class Line(NamedTuple):
    """A line for the reader of the stream, with its newline. event: None for other records and for holes."""

    raw: bytes
    event: Event | None


class ChainFollower:
    """A reader of the lines of one hash chain."""

    def __init__(self, access: Access, mount_id: str, position: Position | None) -> None:
        """position: None if the first lines of the chain may be missing."""
        self._access: Final = access
        self._mount_id: Final = mount_id
        self.position = position
        """The position from which another follower can go on, after the lines that read() has returned."""
        self._at = position or Position()
        self._check = Continuity(self._at.seq, self._at.head)
        if position is None:
            self._check.forget()
        self._fd: int | None = None
        self._is_copy = False
        self._lines: list[Line] = []

    def read(self, names: Sequence[str]) -> list[Line]:
        """Return the next lines; [] if there are none yet. Raises OSError; then the next call goes on.

        names: the names of the chain's files (segments), oldest first, listed before this call. All these
        files except the last one are complete.
        """
        if self._at.segment and is_anew(list(names), self._at.segment):
            self.close()
            self._tell_hole("the chain begins again at its first line")
            self._check, self._at = Continuity(), Position(time=self._at.time)
        begun = segment_number(self._at.segment) or 0
        if not self._take_data():
            for name in names:
                is_later = (segment_number(name) or 0) >= begun
                if is_later and self._open(name, is_last=name == names[-1]) and self._take_data():
                    break
            else:
                self._take_holes(self._check.end(0))
        lines, self._lines = self._lines, []
        if (settled := self._check.settled) is not None:
            self.position = self._at._replace(seq=settled[0], head=settled[1])
        return lines

    def close(self) -> None:
        """Close the file that is being read."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _open(self, name: str, *, is_last: bool) -> bool:
        """Open a segment. Return False if it cannot be read, or is open already."""
        is_same = plain_name(name) == self._at.segment
        if is_same and self._fd is not None:
            return False
        try:
            fd = self._access.open(self._mount_id, name)
        except FileNotFoundError:  # rotation has removed it after names were listed
            return False
        except OSError as error:
            if is_last or error.errno not in _DAMAGE:
                raise
            self._check.miss(f"{name} cannot be read ({error.strerror or error})")
            fd = None
        self.close()
        self._fd, self._is_copy = fd, is_compressed(name)
        if not is_same:
            self._enter(name)
        elif fd is not None:
            self._check_place(fd)
        return fd is not None

    def _enter(self, name: str) -> None:
        first, last = (segment_number(self._at.segment) or 0) + 1, (segment_number(name) or 0) - 1
        if self._at.segment and first <= last:
            numbers = f"segments {first} to {last} were" if first < last else f"segment {first} was"
            self._check.miss(f"{numbers} removed before the lines were read")
        self._at = self._at._replace(segment=plain_name(name), offset=0, line=0)

    def _check_place(self, fd: int) -> None:
        """Read the segment again, and say so, if the line before the position was changed."""
        end, settled = chain.TAIL_BYTES + 1, self._check.settled
        tail = os.pread(fd, end, max(0, self._at.offset - end))
        if self._at.offset and settled and not (tail.endswith(b"\n") and settled[1].encode() in tail):
            self._tell_hole(f"{self._at.segment} was changed, or replaced: it is read again")
            self._check = Continuity()
            self._check.forget()
            self._at = self._at._replace(offset=0, line=0)

    def _take_data(self) -> bool:
        if self._fd is None:
            return False
        data, info = settled_lines(self._fd, self._at.offset, _MOST), os.fstat(self._fd)
        if not data and info.st_size < self._at.offset:
            self._tell_hole(f"{self._at.segment} was cut to {info.st_size} bytes")
            self._at = self._at._replace(offset=info.st_size)
        if not data and not info.st_nlink and not self._is_copy:
            self.close()  # another file may have this name by now
        for raw in data.split(b"\n")[:-1]:
            self._take(raw)
        return bool(data)

    def _take(self, raw: bytes) -> None:
        self._at = self._at._replace(offset=self._at.offset + len(raw) + 1, line=self._at.line + 1)
        record = parse_line(raw, Place(self._mount_id, self._at.segment, self._at.line))
        seq = record.seq if isinstance(record, Record) else None
        self._check.take(raw + b"\n", seq, self._at.segment, self._at.line)
        self._take_holes(self._check.holes)
        if isinstance(record, Record):
            self._at = self._at._replace(time=str(record.fields["time"]))
            name = f"{self._mount_id}:{record.seq}"
            line = f'{{"id":"{name}",'.encode() + raw[1:]
            if "id" in record.fields:  # readers of JSON take the last of two members of one name
                line = json.dumps(with_id(name, record.fields), separators=(",", ":")).encode()
            self._lines.append(Line(line + b"\n", record.event))

    def _tell_hole(self, why: str) -> None:
        self._take_holes([Hole(self._check.seq + 1, 0, why)])

    def _take_holes(self, holes: list[Hole]) -> None:
        """Make lines of holes, and empty the list. Their time is that of the line before."""
        for hole in holes:
            time = self._at.time or iso_time(begin_ns(self._at.segment))
            fields = fields_of_hole(self._mount_id, hole) | {"time": time}
            name = f"{self._mount_id}:hole:{zlib.crc32(json.dumps(fields).encode()):08x}"
            raw = json.dumps(with_id(name, fields), separators=(",", ":")).encode()
            self._lines.append(Line(raw + b"\n", None))
        holes.clear()
