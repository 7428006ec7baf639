"""The only writer of a mount's trail: lines, files (segments), rotation, and resumption after a crash.

Not thread-safe: `journal.Journal` adds locks, the queue and the two audit levels. INVARIANT: `position`
changes only after all bytes of a batch of lines are in the file. If the file system refuses a batch,
position, file and queued notes (records about the journal itself) stay, and the batch can be tried again.
INVARIANT: the bytes of recorded lines are never changed or removed. Only the first part of a batch of which
the file system took no more is truncated.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.files.extent import DAMAGE, END, ROTATION, UNSYNCED, Extent
from policyfs.journal.files.policy_texts import PolicyTexts
from policyfs.journal.files.retention import (
    KEPT_BACK,
    RECHECK_NS,
    Keep,
    Removals,
    begin_ns,
    expired,
    is_held,
    removed_so_far,
    retention_of,
)
from policyfs.journal.files.segments import (
    NEW,
    TrailDirectory,
    is_compressed,
    read_tail,
    segment_name,
    segment_number,
)
from policyfs.journal.writing.backlog import Item
from policyfs.journal.writing.entry import Entry
from policyfs.journal.writing.gap import Gap
from policyfs.journal.writing.segment import Appender, Segment
from policyfs.linux.code_digest import VERSION
from policyfs.trail.chain import chain
from policyfs.trail.chain.removed import with_numbers
from policyfs.trail.chain.restarts import NOT_CLOSED
from policyfs.trail.lines.line import LineFormatter, iso_time, numbered
from policyfs.trail.lines.record import CLOCK_STEP_NS, Place, Record, parse_line

_FORMAT_VERSION: Final = 1
_PRUNED_AT_ONCE: Final = 256
"""The limit of removed segments that one record names, so that its line is not too long."""
_NAME_POLICIES: Final = ("policy", "previous", "refused")
"""The names of those fields of records that contain the digest of a policy."""


class Batch(NamedTuple):
    """Lines to append to the trail, as bytes. position: number and digest of the last of these lines."""

    data: bytes
    position: tuple[int, str]


class ChainWriter:
    """The writer of one mount's trail. It appends lines to the newest file (segment). Errors are OSError."""

    def __init__(
        self,
        directory: TrailDirectory,
        mount_id: str,
        *,
        segment_bytes: int,
        keep: Keep,
        clock_ns: Callable[[], int],
        upgrades: bool = False,
    ) -> None:
        """Continue the trail in the directory, or begin a new one. Record that this daemon begins.

        segment_bytes: a segment is closed once it has at least this size. keep: the number of segments that
        stay, the newest included (0: all), or a Retention with further limits. upgrades: True if this daemon
        follows one that has ended itself for it.
        """
        self._upgrades: Final = upgrades
        self.position = (0, chain.GENESIS)
        """Number and digest of the last line, in one tuple, so that a reader needs no lock."""
        self._directory = directory
        self.mount_id: Final = mount_id
        self._segment_bytes = segment_bytes
        self._keep: Final = retention_of(keep)
        self._pruned_at = ("", 0)
        """The newest segment when prune() last looked for old segments to remove, and that time (ns)."""
        self._boot_id: Final = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._removed = removed_so_far(directory)
        self._removals = Removals(directory)
        self._clock_ns = clock_ns
        self._format = LineFormatter()
        self._segment: Segment | None = None
        self._number = 0
        self._notes: list[tuple[str, dict[str, object], int]] = []
        self._retired: list[int] = []
        self._synced_seq = 0
        self._latest_ns = 0
        self.kept_back = self.last_end = ""
        """Sentences for JournalStats."""
        self.finished = False
        """True once nothing may be written: another file may get the number of a closed descriptor."""
        self.extent: Extent | None = None
        """The end of the lines in the segment that is being written, or None. It is replaced as a whole, so a
        reader needs no lock."""
        self.resumed: Extent | None = None
        """If this daemon continues a segment of an earlier daemon, the end of that daemon's lines."""
        self.closed: Callable[[Extent, str], None] = _unsealed
        """Callback that gets the end of each segment that is closed, and the reason."""
        self.wrote: Callable[[], None] = _unsealed
        """Callback that is called after lines were written."""
        self.texts = PolicyTexts(directory)
        self._resume()
        self.texts.oldest_unknown = self._number

    @property
    def seq(self) -> int:
        """Return the number of the last line of the trail, or 0 before the first line."""
        return self.position[0]

    @property
    def head(self) -> str:
        """Return the digest of the last line of the trail (64 hex digits)."""
        return self.position[1]

    @property
    def segment(self) -> str:
        """Return the name of the segment (file) that is being written, or an empty string."""
        return self._segment.name if self._segment else ""

    @property
    def segment_size(self) -> int:
        """Return the number of bytes of all complete lines in the segment (file) that is being written."""
        return self._segment.size if self._segment else 0

    @property
    def unsynced(self) -> bool:
        """True if lines were written after the last successful fsync."""
        return self._synced_seq != self.seq or bool(self._retired)

    def note(self, kind: str, fields: dict[str, object], time_ns: int = 0) -> None:
        """Queue a record of type *kind*, to be written before the next events. time_ns: its earliest time."""
        self._notes.append((kind, fields, time_ns))

    def write(self, items: Sequence[Item]) -> None:
        """Append the queued records about the journal itself, and then *items*: all of them or none."""
        now_ns = self._now()
        segment = self._ready()
        self.texts.save()
        batch = self._batch(items, segment, now_ns)
        segment.append(batch.data)
        self._written(batch, segment)

    def start(self, items: Sequence[Item], appender: Appender) -> Batch | None:
        """Make the thread *appender* append *items*, and return their lines. Never waits for the disk.

        Return None, without a write, if only write() can be used now, for example to begin a new segment. If
        lines are returned, the next call to this object must be finish().
        """
        now_ns, segment = self._now(), self._segment
        if segment is None or self._is_full(segment, now_ns) or self._notes or self.texts.is_unsaved:
            return None
        batch = self._batch(items, segment, now_ns)
        return batch if segment.start(appender, batch.data) else None

    def finish(self, batch: Batch, error: int, written: int) -> None:
        """Note the errno and the written bytes of a write that start() began. Raises OSError if it failed."""
        if self._segment is None:
            raise RuntimeError("a write without a segment")
        self._segment.finish(error, written)
        self._written(batch, self._segment)

    def _batch(self, items: Sequence[Item], segment: Segment, now_ns: int) -> Batch:
        """Return the lines of the queued records about the journal itself, and then of *items*."""
        seq, head = self.position
        lines = []
        for kind, fields, at_ns in self._notes:
            seq, now_ns = seq + 1, max(now_ns, at_ns)
            for name in _NAME_POLICIES:
                if isinstance(digest := fields.get(name), str):
                    self.texts.named(digest, segment.number)
            line, head = chain.seal(head, self._format.record(kind, seq, now_ns, fields))
            lines.append(line)
        self._latest_ns = max(self._latest_ns, now_ns)
        for item in items:
            seq += 1
            if isinstance(item, Gap):
                body = self._format.record("gap", seq, now_ns, item.fields())
            else:
                self.texts.named(item.policy_digest, segment.number)
                text = item.text if isinstance(item, Entry) else self._format.unnumbered(item)
                body = numbered(text, seq)
            line, head = chain.seal(head, body)
            lines.append(line)
        return Batch(b"".join(lines), (seq, head))

    def _written(self, batch: Batch, segment: Segment) -> None:
        self.position = batch.position
        self.extent = Extent(segment.name, segment.size, *batch.position)
        self._notes.clear()
        self.wrote()

    def _now(self) -> int:
        """Return the time (ns since 1970). If the clock has gone back, queue a ``clock`` record about it."""
        now_ns = self._clock_ns()
        if now_ns < self._latest_ns - CLOCK_STEP_NS:
            seconds = round((self._latest_ns - now_ns) / 1e9, 3)
            step: dict[str, object] = {"before": iso_time(self._latest_ns), "seconds": seconds}
            self._notes.insert(0, ("clock", step, 0))
            self._latest_ns = now_ns
        self._latest_ns = max(self._latest_ns, now_ns)
        return now_ns

    def prune(self) -> None:
        """Record the names of the segments beyond the limits of number, age or size, for end_sync() to
        remove."""
        newest, looked_ns = self._pruned_at
        now_ns = self._clock_ns()
        if not any(self._keep) or (newest == self.segment and abs(now_ns - looked_ns) < RECHECK_NS):
            return
        names = self._removals.without(self._directory.names())
        self.kept_back = KEPT_BACK if is_held(self._directory.path) else ""
        place, held = self._directory.fd, bool(self.kept_back)
        for reason, doomed in () if held else expired(place, names, self.segment, self._keep, now_ns):
            for first in range(0, len(doomed), _PRUNED_AT_ONCE):
                self._prune(doomed[first : first + _PRUNED_AT_ONCE], reason)
        self._pruned_at = names[-1] if names else "", now_ns

    def _prune(self, doomed: list[str], reason: str) -> None:
        removed = with_numbers(self._removed, [segment_number(name) or 0 for name in doomed])
        self.note("pruned", {"segments": doomed, "reason": reason, "removed": removed})
        pruned = self._notes[-1]
        before, self._removed = self._removed, removed
        try:
            self.write(())
        except OSError:
            # Nothing is on record, so the next attempt adds the note again. Other new notes stay.
            self._notes = [note for note in self._notes if note is not pruned]
            self._removed = before
            raise
        self._removals.add(self.seq, doomed)

    def distrust(self, segment: str, found: str) -> None:
        """Record the damage *found* (a text) of a segment. If the segment is being written, close it."""
        self.note("damage", {"segment": segment, "found": found})
        if self._segment is not None and self._segment.name == segment:
            self._retire(self._segment, DAMAGE)

    def check_place(self) -> None:
        """Close the segment if the trail directory was moved or removed, and record this in a new segment."""
        if self._segment is not None and not self._directory.is_current():
            self.distrust(self._segment.name, "its directory was moved, replaced or removed")

    def begin_sync(self) -> tuple[list[int], int]:
        """Return descriptors of files to sync, and the number of their last line. The caller closes them."""
        newest = [] if self._segment is None else [self._segment.duplicate()]
        fds, self._retired = self._retired + newest, []
        return fds, self.seq

    def end_sync(self, seq: int) -> None:
        """Note that the fsync of the lines up to *seq* (of begin_sync()) has succeeded. Remove the segments
        whose removal is on record there."""
        self._synced_seq = max(self._synced_seq, seq)
        if self._removals.carry_out(seq):
            kept = filter(None, map(segment_number, self._directory.names()))
            self.texts.prune(min(kept, default=self._number))

    def sync_failed(self, reason: str) -> None:
        """Close the segment after a failed fsync, with a record of the last line that is surely on the disk:
        the kernel treats the pages as written, so that a later fsync proves nothing about them."""
        self.note("gap", {"dropped": 0, "refused": 0, "unsure_after": self._synced_seq, "reason": reason})
        self._synced_seq = self.seq
        if self._segment is not None:
            self._closing(self._segment, UNSYNCED)
            self._segment.close()
            self._segment = self.extent = None

    def close(self) -> list[int]:
        """Close the segment. Return descriptors of files, which the caller must sync and close."""
        if self._segment is not None:
            self._retire(self._segment, END)
        fds, self._retired = self._retired, []
        return fds

    def _ready(self) -> Segment:
        segment = self._segment
        if segment is not None:
            damage = segment.damage()
            if damage:
                self.note("damage", {"segment": segment.name, "found": damage})
            if damage or self._is_full(segment, self._clock_ns()):
                self._retire(segment, DAMAGE if damage else ROTATION)
        return self._segment or self._open_next()

    def _is_full(self, segment: Segment, now_ns: int) -> bool:
        """Return True if the next line begins a new segment. With a limit of age, one spans a tenth of it:
        rotation removes whole segments."""
        if segment.size >= self._segment_bytes:
            return True
        age_s = self._keep.age_s
        return bool(age_s) and now_ns - begin_ns(segment.name) >= age_s * 100_000_000

    def _closing(self, segment: Segment, reason: str) -> None:
        self.closed(Extent(segment.name, segment.size, *self.position), reason)

    def _retire(self, segment: Segment, reason: str) -> None:
        self._closing(segment, reason)
        self._retired.append(segment.detach())
        self._segment = self.extent = None

    def _open_next(self) -> Segment:
        if not self._directory.is_current():
            self._directory.reopen()
            self.texts.again()
        number = max(self._number, self._directory.highest()) + 1
        now_ns = self._clock_ns()
        name = segment_name(number, now_ns)
        seq = self.seq + 1
        line, head = chain.seal(self.head, self._format.record("header", seq, now_ns, self._header(number)))
        segment = Segment(name, number, self._directory.create(name), 0)
        try:
            segment.append(line)
            self._directory.show(name)
        except OSError:
            segment.close()
            for one in (NEW + name, name):
                with suppress(OSError):  # if this fails, the next daemon removes the file, or records it
                    self._directory.remove(one)
            raise
        self.position = (seq, head)
        self._segment, self._number = segment, number
        self.extent = Extent(name, segment.size, seq, head)
        return segment

    def _header(self, number: int) -> dict[str, object]:
        stated = {"format": _FORMAT_VERSION, "segment": number, "previous": self.head}
        return stated | {"removed": self._removed} | self._origin()

    def _origin(self) -> dict[str, object]:
        return {
            "mount_id": self.mount_id,
            "boot_id": self._boot_id,
            "version": VERSION,
            "pid": os.getpid(),
        }

    def _resume(self) -> None:
        names = self._directory.names()
        cuts: list[dict[str, object]] = []
        size = 0
        for name in reversed(names):
            fd = self._directory.read(name)
            try:
                tail = read_tail(fd)
            finally:
                os.close(fd)
            size = tail.offset
            if tail.line is None or tail.rest:
                cuts.append(_cut(name, tail.offset, tail.rest))
            if tail.line is not None:
                self._continue_after(tail.line)
                break
        for cut in reversed(cuts):
            self.note("recovered", cut)
        if names:
            self._number = segment_number(names[-1]) or 0
            # A seal without its segment shows that somebody removed the segment. New lines in the previous
            # segment would hide the removal.
            behind = self._number < self._directory.highest()
            if not cuts and not behind and not is_compressed(names[-1]):
                # If no line was cut, the same file is continued, so a restart does not count for `keep`.
                self._segment = Segment(names[-1], self._number, self._directory.append_to(names[-1]), size)
                self.extent = self.resumed = Extent(names[-1], size, *self.position)
                self.note("resume", self._origin() | ({"upgrades": True} if self._upgrades else {}))
        try:
            self.write(())
        except OSError:
            if self._segment is not None:
                self._segment.close()
            raise

    def _continue_after(self, line: bytes) -> None:
        sealed = chain.split(line)
        seq = chain.seq_of(sealed.body) if sealed else None
        if sealed is None or seq is None:
            raise ValueError("read_tail returned a line without a seal")
        self.position = (seq, sealed.chain)
        self._synced_seq = seq
        last = parse_line(line, Place("", "", 0))
        self._latest_ns = last.time_ns if isinstance(last, Record) else 0
        is_closed = self._upgrades or not isinstance(last, Record) or last.kind == "close"
        self.last_end = "" if is_closed else NOT_CLOSED


def _unsealed(*_: object) -> None:
    """Do nothing. This is the default of the callbacks of ChainWriter, for a trail without seals."""


def _cut(name: str, offset: int, rest: bytes) -> dict[str, object]:
    digest = hashlib.sha256(rest).hexdigest()
    return {"segment": name, "offset": offset, "bytes": len(rest), "sha256": digest}
