"""The follower of one hash chain of the trail: it reads the chain's lines from a position on.

It also works after rotation, compression and crashes. A position moves only over complete lines. The follower
checks the digest in each line. If lines are missing, or a digest is wrong, the follower adds a record about
this to the lines. So a sink (the receiver of the lines) learns that it gets only a part of the trail.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.forward.source import Source
from policyfs.journal.files.holds import begin_ns
from policyfs.journal.files.segments import (
    is_compressed,
    plain_name,
    read_tail,
    segment_number,
    settled_lines,
    unfinished_from,
)
from policyfs.trail.chain import chain
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import BadLine, Place, Record, header_of, parse_line, parse_time

GAP: Final = "forward_gap"
"""The type of a record about lines of the trail that were not forwarded."""
BROKEN: Final = "forward_broken"
"""The type of a record about lines of the trail with wrong digests."""
BAD: Final = "bad_line"
"""The type of a record in place of a line of the trail that is not valid."""

_MOST: Final = 256 * 1024


class Position(NamedTuple):
    """A position between two lines of a hash chain of the trail.

    segment: the uncompressed name of the file (segment); empty before the first file. offset: the position in
    this file, in bytes. seq, head, time: number, digest and time of the line before the position.
    """

    segment: str = ""
    offset: int = 0
    seq: int = 0
    head: str = chain.GENESIS
    time: str = ""


class Item(NamedTuple):
    """A line of the trail, or a record of the follower about missing, wrong or invalid lines. mount_id: the
    name of the hash chain. raw: the line without newline; always JSON. record: the parsed line."""

    mount_id: str
    raw: bytes
    record: Record

    @property
    def kind(self) -> str:
        """Return the type of the record."""
        return self.record.kind


class Batch(NamedTuple):
    """Some lines of a hash chain. position: the position after the last one of these lines."""

    items: list[Item]
    position: Position


class ChainFollower:
    """A reader of the lines of one hash chain, for one sink (receiver of lines) or alert."""

    def __init__(
        self, source: Source, mount_id: str, position: Position, *, from_first: bool = False
    ) -> None:
        """from_first: True if missing first lines of the chain must be reported, too."""
        self._from_first: Final = from_first
        self._source: Final = source
        self._mount_id: Final = mount_id
        self.position = position
        self._fd: int | None = None

    def read(self, names: Sequence[str]) -> Batch | None:
        """Return the next lines, or None if there are none. Raises OSError.

        names: the names of the chain's files (segments), oldest first, listed before this call. All these
        files except the last one are complete.

        INVARIANT: if the read fails, the position stays. So the next call makes the same records about
        missing or wrong lines.
        """
        before = self.position
        try:
            return self._batch(names)
        except OSError as error:
            # FileNotFoundError: rotation has removed the segment; the next list of names will not contain it
            is_gone = isinstance(error, FileNotFoundError)
            if is_gone or self.position != before:
                self.close()
                self.position = before
            if is_gone:
                return None
            raise

    def _batch(self, names: Sequence[str]) -> Batch | None:
        number = segment_number(self.position.segment) if self.position.segment else None
        later = [name for name in names if number is None or (segment_number(name) or 0) > number]
        same = [name for name in names if segment_number(name) == number]
        items: list[Item] = []
        if number is None and names:
            self._enter(names[0])
        elif number is not None and not same and not self._is_open:
            if not later and names:
                self._begin_again(names, items)
            elif later:
                self._enter(later[0])
        elif same:
            self._open(same[0], items)
        if not self._is_open:
            return None
        data = self._data(items)
        if not data and later and number is not None:
            self._enter(later[0])
            data = self._data(items)
        if not data and not later and names and self._is_removed and self._is_anew(names, same):
            self._begin_again(names, items)
            data = self._data(items)
        items += self._items(data)
        return Batch(items, self.position) if items else None

    def _is_anew(self, names: Sequence[str], same: Sequence[str]) -> bool:
        """Return True if a chain whose open file was removed was made anew. Raises OSError."""
        if same:
            if is_compressed(same[0]):
                return False
            os.close(self._source.open(self._mount_id, same[0]))  # FileNotFoundError: compressed meanwhile
            return True
        return begin_ns(names[-1]) > begin_ns(self.position.segment)

    def _begin_again(self, names: Sequence[str], items: list[Item]) -> None:
        """Go to the first file of a chain that was made anew. Add a record about this to *items*."""
        items.append(self._gap("the chain begins again at its first line", 0))
        self.position = Position()
        self._enter(names[0])

    def skip_all(self, names: Sequence[str]) -> None:
        """Move to the end of the chain, after its last line. Raises OSError. names: the names of the chain's
        files (segments), oldest first."""
        self._enter(names[-1])
        assert self._fd is not None  # noqa: S101 - for the type checker
        size = os.fstat(self._fd).st_size
        begun = unfinished_from(self._fd)  # a write under way may fail: then the writer removes its lines
        tail = read_tail(self._fd, size if begun is None else min(size, begun))
        if tail.line is None:
            return
        record = parse_line(tail.line, Place(self._mount_id, names[-1], 0))
        sealed = chain.split(tail.line)
        if isinstance(record, Record) and sealed is not None:
            time = str(record.fields["time"])
            self.position = Position(plain_name(names[-1]), tail.offset, record.seq, sealed.chain, time)

    def close(self) -> None:
        """Close the file that is being read."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    # -- segments

    @property
    def _is_open(self) -> bool:
        return self._fd is not None

    @property
    def _is_removed(self) -> bool:
        return self._fd is not None and not os.fstat(self._fd).st_nlink

    def _open(self, name: str, items: list[Item]) -> None:
        """Open the file of the position; read it again, and say so, if the line before was changed."""
        if self._is_open:
            return
        self._fd = self._source.open(self._mount_id, name)
        if self.position.offset and not self._is_behind_own_line():
            self._finding(
                items,
                "the segment was changed, or replaced by another file: policyfs reads the segment again",
            )
            self.position = self.position._replace(offset=0)

    def _is_behind_own_line(self) -> bool:
        assert self._fd is not None  # noqa: S101 - for the type checker
        end = chain.TAIL_BYTES + 1
        tail = os.pread(self._fd, end, max(0, self.position.offset - end))
        return self.position.head.encode() in tail and tail.endswith(b"\n")

    def _enter(self, name: str) -> None:
        self.close()
        self._fd = self._source.open(self._mount_id, name)
        self.position = self.position._replace(segment=plain_name(name), offset=0)

    def _data(self, items: list[Item]) -> bytes:
        assert self._fd is not None  # noqa: S101 - for the type checker
        data = settled_lines(self._fd, self.position.offset, _MOST)
        if not data and (size := os.fstat(self._fd).st_size) < self.position.offset:
            self._finding(items, f"the segment was cut to {size} bytes")
            self.position = self.position._replace(offset=size)
        return data

    # -- lines

    def _items(self, data: bytes) -> Iterator[Item]:
        for raw in data.splitlines(keepends=True):
            line = raw[:-1]
            if not self.position.offset:
                yield from self._joined(line)
            at = self.position
            record = parse_line(line, Place(self._mount_id, at.segment, 0))
            sealed = chain.split(line)
            if sealed is None or chain.digest(at.head, sealed.body) != sealed.chain:
                what = f"the line after seq {at.seq} was changed, or lines before that line are missing"
                yield self._made(BROKEN, {"after": at.seq, "reason": what})
            seq = record.seq if isinstance(record, Record) else at.seq
            time = str(record.fields["time"]) if isinstance(record, Record) else at.time
            head = sealed.chain if sealed else at.head
            self.position = Position(at.segment, at.offset + len(raw), seq, head, time)
            if isinstance(record, BadLine):
                place = {"segment": at.segment, "offset": at.offset}
                yield self._made(BAD, {**place, "after": at.seq, "reason": record.why})
            else:
                yield Item(self._mount_id, line, record)

    def _joined(self, line: bytes) -> Iterator[Item]:
        """Yield a record of missing or changed lines if a file does not continue the file before."""
        header, at = header_of(line), self.position
        if header is None:
            return
        seq, previous = header
        if (at.seq or self._from_first) and seq > at.seq + 1:
            why = "segments, or lines at the end of a segment, were removed before their delivery"
            yield self._gap(why, seq, line)
        elif at.seq and (seq, previous) != (at.seq + 1, at.head):
            yield self._made(
                BROKEN, {"after": at.seq, "reason": f"{at.segment} does not continue the previous lines"}
            )
        self.position = at._replace(seq=seq - 1, head=previous)

    # -- findings

    def _gap(self, reason: str, before: int, header: bytes = b"") -> Item:
        """Return a record about lines that are not forwarded, from the present position on."""
        fields: dict[str, object] = {"after": self.position.seq}
        if self.position.time:
            fields["since"] = self.position.time
        if before:
            fields |= {"before": before, "lost": before - self.position.seq - 1}
        record = parse_line(header, Place(self._mount_id, "", 0)) if header else None
        if isinstance(record, Record):
            fields["until"] = record.fields["time"]
        return self._made(GAP, fields | {"reason": reason})

    def _finding(self, items: list[Item], what: str) -> None:
        items.append(self._made(BROKEN, {"after": self.position.seq, "reason": what}))

    def _made(self, kind: str, fields: dict[str, object]) -> Item:
        """Return a record of the follower. Its time is that of the line before: it may come twice."""
        time = self.position.time or iso_time(begin_ns(self.position.segment))
        head: dict[str, object] = {
            "type": kind,
            "seq": self.position.seq,
            "time": time,
            "mount_id": self._mount_id,
            "segment": self.position.segment,
            "offset": self.position.offset,
        }
        whole = head | fields
        raw = json.dumps(whole, separators=(",", ":")).encode()
        place = Place(self._mount_id, self.position.segment, 0)
        record = Record(place, kind, self.position.seq, parse_time(time), whole, None)
        return Item(self._mount_id, raw, record)
