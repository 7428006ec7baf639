"""Bytes that apps have written and that are not in the store yet: held heads, and drafts. Data only.

The code that stores or drops these bytes is in fs/checked: head_writes.py and drafts.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from policyfs.domain import RuleMatch
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.linux.statx import Stat
from policyfs.redact.core.intervals import Extents
from policyfs.store import freeing
from policyfs.store.frozen import Version

_MOST_WRITES: Final = 4096
"""The limit of writes after which the set is made smaller, so that it takes little memory."""

_MOST_TOLD: Final = 64
"""The limit of written ranges that told() returns."""


class KeptBytes:
    """A set of offsets of bytes that a draft has from the store's file. It may lack some, but never has a
    byte that an app has written."""

    __slots__ = ("_size", "_writes", "_written")

    def __init__(self, size: int = 0) -> None:
        """Begin with all bytes before the offset *size*."""
        self._size = size
        self._written = Extents()
        self._writes = 0

    def drop(self, start: int, end: int) -> None:
        """Remove the bytes [start, end), because an app writes them."""
        self._written.add(start, min(end, self._size))
        self._writes += 1
        if self._writes > _MOST_WRITES:
            kept = sorted(self.ranges(), key=lambda each: each[0] - each[1])[: _MOST_WRITES // 2]
            self._written = Extents(Extents(kept).gaps(self._size))
            self._writes = 0

    def cut(self, size: int) -> None:
        """Remove all bytes from the offset *size* on."""
        self._size = min(self._size, size)

    def told(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the size, and the written ranges, of this set; of an empty set if there are many ranges."""
        written = list(islice(self._written, _MOST_TOLD + 1))
        return (self._size, written) if len(written) <= _MOST_TOLD else (0, [])

    def ranges(self) -> Extents:
        """Return the set, as ranges that do not change any more."""
        return Extents(self._written.gaps(self._size))


HELD_MOST: Final = 64 << 20
"""The limit of bytes that all heads of a mount hold together. One app alone can have half of it."""


class Refusal(NamedTuple):
    """The refusal of a file by its check. quarantine: True if the file must go there. generation: of the
    policy. writer: the process whose close or fsync was refused, or None."""

    kind: str | None
    reason: str
    rules: tuple[RuleMatch, ...]
    quarantine: bool
    generation: int
    writer: Caller | None = None


class Write(NamedTuple):
    """A write that waits for its check. offset: in bytes; None for an append at the file's end."""

    offset: int | None
    data: bytes


class Head:
    """The first bytes (head) of a checked file while the file is open for writing.

    held: these bytes as the writer sees them, if some wait for their check, else None. late: the waiting
    writes, if the store's file has accepted bytes; empty if all held bytes wait. created: True if its writer
    created the file, which a refusal can then remove. refused: True after a refused write: an empty file was
    not meant. left: the version after the daemon's last change, until noted (WriteGuard.wrote). end: the
    store's file's size in bytes before the late writes get into it; None until then.

    INVARIANT: code that drops a head sets held to None: held bytes count in a share (HeadHolder)."""

    __slots__ = ("_held", "_payer", "_shares", "created", "end", "late", "left", "refused")

    def __init__(self, stored: int, *, created: bool = False, refused: bool = False) -> None:
        """stored: the file's size in the store. If it is 0, *held* begins as empty bytes, else as None."""
        self._held: bytes | None = None if stored else b""
        self.late: tuple[Write, ...] = ()
        self._payer: Holder = ""
        self._shares: Shares | None = None
        self.created = created
        self.refused = refused
        self.left: Version | None = None
        self.end: int | None = None

    @property
    def held(self) -> bytes | None:
        """The bytes that wait for their check, or None."""
        return self._held

    @held.setter
    def held(self, held: bytes | None) -> None:
        if self._shares is not None:
            self._shares.give(self._payer, len(self._held or b""))
            self._shares.take(self._payer, len(held or b""))
        self._held, self.late, self.end = held, (), None

    def put_off(self, after: bytes, write: Write) -> None:
        """Hold a write into a file with accepted bytes. after: the file's first bytes after the write."""
        late, last = self.late, self.late[-1] if self.late else None
        if last is not None and (
            write.offset == (None if last.offset is None else last.offset + len(last.data))
        ):
            late, write = late[:-1], Write(last.offset, last.data + write.data)
        self.held = after
        self.late = (*late, write)

    def has_room_for(self, held: bytes, holder: Holder, shares: Shares) -> bool:
        """Return True if the share has room for these bytes; if not, the file needs a draft. All bytes of a
        head count for the app that writes the first, so that no app fills the memory. shares: all heads of
        the mount."""
        if not self._held:
            self._payer, self._shares = holder, shares
        more = len(held) - len(self._held or b"")
        return more <= 0 or shares.held(self._payer) + more <= shares.limit - shares.used

    def size(self, stored: int) -> int:
        """Return the file's size as its writer sees it, held bytes included."""
        held = self._held  # read once: a thread may just be storing the head
        return stored if held is None else max(stored, len(held))


@dataclass(slots=True, eq=False)
class HeadHolder:
    """An object that has one head. Once dropped, the head's bytes no longer count in an app's share."""

    _head: Head | None = None

    @property
    def head(self) -> Head | None:
        """The first bytes of a checked file, or None. The daemon holds these bytes until their check."""
        return self._head

    @head.setter
    def head(self, head: Head | None) -> None:
        """Use another head, or none. The bytes of the head before are discarded."""
        if self._head is not None and self._head is not head:
            self._head.held = None
        self._head = head


class Draft:
    """An unnamed file with all bytes of a store's file and its writers' changes, which wait for a check.

    fd: its descriptor. created: True if its writer created the store's file. changed: True if the store lacks
    changes. refused: True if the check failed. base: size and mtime of the store's file at the begin or the
    last storing; None after another writer's change. began_empty: True if a refusal then loses nothing.
    refusal: the last one. unchanged: True if nothing was written since. times_ns: access and modification
    times for the file, or None. cleaned_of: words of data that only the draft still has. torn: a note if the
    store's file has only a part of the draft. kept: bytes from the store that no app has written. recorded:
    path and note of a cleaning that is on record, but not stored. until_kind: True if it only keeps old bytes
    until new ones show an allowed kind. copied: while a piece of it gets into the store, what the file has
    then (DraftStorage). keep: saves the draft for the next daemon."""

    __slots__ = (
        "_released", "base", "began_empty", "changed", "cleaned_of", "copied", "created", "fd", "keep",
        "kept", "recorded", "refusal", "refused", "times_ns", "torn", "unchanged", "until_kind",
    )  # fmt: skip

    def __init__(
        self, fd: int, stat: Stat, *, created: bool, released: Callable[[], object] = lambda: None
    ) -> None:
        """stat: the attributes of the store's file. released: called when the draft no longer has *fd*."""
        self._released = released
        self.fd = fd
        self.base: tuple[int, int] | None = base_of(stat)
        self.began_empty = not stat.size
        self.created = created
        self.changed = self.refused = self.unchanged = self.until_kind = False
        self.torn = ""
        self.kept = KeptBytes()
        self.recorded: tuple[bytes, str] | None = None
        self.refusal: Refusal | None = None
        self.times_ns: tuple[int, int] | None = None
        self.cleaned_of: frozenset[str] = frozenset()
        self.copied: tuple[int, ...] | None = None
        self.keep: Callable[[Draft], None] = lambda _draft: None

    def touch(self) -> None:
        """Note a write into the draft."""
        self.changed, self.unchanged, self.times_ns, self.recorded = True, False, None, None

    def is_outdated(self, stored: Stat) -> bool:
        """Return True if the store has all changes, and another writer changed the file (*stored*) later."""
        return not self.changed and base_of(stored) != self.base

    def only_empties(self, stored: Stat) -> bool:
        """Return True if the draft's only change is that the file (*stored*) loses all its bytes."""
        return self.changed and not self.size and stored.size > 0 and base_of(stored) == self.base

    def put_off(self, stored: Stat) -> None:
        """Note that the draft is stored later. The file then gets the mtime of the draft's last write."""
        if self.times_ns is None:
            self.times_ns = stored.atime_ns, os.fstat(self.fd).st_mtime_ns

    def dated(self, before: Stat, now: Stat, *, modified: bool = True) -> None:
        """Note new times of the store's file: its attributes before and now. modified: False if only the
        access time was set; the file keeps the time of the last write. INVARIANT: base becomes None if
        another writer came before."""
        self.base = base_of(now) if base_of(before) == self.base else None
        mtime_ns = now.mtime_ns
        if not modified and self.changed:
            mtime_ns = os.fstat(self.fd).st_mtime_ns if self.times_ns is None else self.times_ns[1]
        self.times_ns = now.atime_ns, mtime_ns

    @property
    def size(self) -> int:
        """The file's size in bytes as its writer sees it."""
        return os.fstat(self.fd).st_size

    def give(self) -> int:
        """Return the draft's descriptor. From now on the caller must close it. A second call returns -1."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._released()
        return fd

    def close(self) -> None:
        """Discard the draft. A second call does nothing."""
        if (fd := self.give()) >= 0:
            freeing.close(fd)

    async def closed(self) -> None:
        """Discard the draft. Return once its room is free, since the writer may need this room next."""
        if (fd := self.give()) >= 0:
            await freeing.closed(fd)


def base_of(stat: Stat) -> tuple[int, int]:
    return stat.size, stat.mtime_ns
