"""The state that all handles of a node share."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from policyfs.fs.inodes.pending_writes import Draft, HeadHolder
from policyfs.store.frozen import Version

if TYPE_CHECKING:
    from policyfs.domain import Patch, Ranges
    from policyfs.linux.statx import Stat
    from policyfs.redact.core.values import Plan
    from policyfs.store.copies import Copy
    from policyfs.store.locking.leases import Lease


class FilmReader(Protocol):
    """A reader of a film whose frames are looked at as they are read (fs/redacted/windows.py)."""

    async def read(self, fd: int, offset: int, size: int, lane: Hashable) -> tuple[memoryview, str]:
        """Return bytes for an app of this lane, without hidden data, and why they cannot be shown, or ""."""


class LeasedBytes(NamedTuple):
    """The bytes that a LEASED node shows: the file's, with *patches* instead of the hidden data.

    INVARIANT: *patches* fit only while *lease* holds. generation: of their policy. kind: None if sniffing
    failed. hidden: the words. ranges: for the trail. film: reads frames not in *patches*, or None."""

    lease: Lease
    generation: int
    patches: tuple[Patch, ...]
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    film: FilmReader | None = None


class Mode(enum.Enum):
    """The mode of a node: PASSTHROUGH if the kernel serves reads and writes, MEDIATED if the daemon does."""

    PASSTHROUGH = "passthrough"
    MEDIATED = "mediated"


@dataclass(slots=True, eq=False)
class OpenState(HeadHolder):
    """The state that all handles of one node share, from the first open to the last release."""

    _lock: trio.Lock | None = None
    handles: int = 0
    """The number of open handles."""
    writers: int = 0
    """The number of handles that may write, also of opens under way (*opening*)."""
    opening: int = 0
    """The number of opens for writing under way, which may still fail, and then store no held bytes."""
    writer_uids: frozenset[int] = frozenset()
    """The uids of all writable handles since the first open. Each of them may have written held bytes."""
    mode: Mode = Mode.MEDIATED
    backing_id: int = 0
    """The kernel's id of the backing file in passthrough, else 0."""
    copy: Copy | None = None
    """The frozen copy of a COPY node, kept open in the cache (pinned)."""
    version: Version | None = None
    """The version of the file that a COPY or LEASED node shows."""
    lease: Lease | None = None
    """The read lease of a LEASED node, while the lease holds."""
    lease_fd: int = -1
    """The descriptor that the lease is on, or -1."""
    lease_fd_closed: Callable[[], object] = lambda: None
    """Called after *lease_fd* was closed: it no longer counts in an app's share."""
    shown: LeasedBytes | None = None
    """The bytes that a LEASED node shows, once the hidden data is located under its lease."""
    cut: bool = False
    """True if truncate(2) by a path has set the file's size through this node."""
    located: tuple[str | None, Plan] | None = None
    """The kind, and the plan for all words that the view hides, found under the lease."""
    draft: Draft | None = None
    """The written bytes that are not checked yet."""
    releases: int = 0
    """The number of writers' releases under way that store or drop held bytes."""
    emptying: int = 0
    """The number of *releases* that may empty the file: the app emptied it, but FLUSH kept the old bytes."""
    fd: int = -1
    """A descriptor of a file that lost its last name through this mount while it was open; else -1."""
    fd_closed: Callable[[], object] = lambda: None
    """Function that is called after *fd* was closed. From then on no app's share counts the descriptor."""
    stat: Stat | None = None
    """The file's attributes at the last open, to be shown if the file has lost its name in the store."""
    locked: Version | None = None
    """The file's version at the last grant of a lock (data/locks.py), or None."""
    mapped: bool = False
    """True once the kernel has written a page of a mapping back. Any handle may have changed this page."""
    mark: int | None = None
    """The number of the mark that tells other daemons of held bytes (FsContext.note_held)."""
    withheld: bool = False
    """True if the file's names are withheld (WithheldNames.hide)."""

    @property
    def lock(self) -> trio.Lock:
        """Held while bytes are checked before they are written, or a byte path is prepared (Lifecycle.enter).
        It is made at its first use: it takes more memory than all else, and few open files need it."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    @lock.setter
    def lock(self, lock: trio.Lock) -> None:
        self._lock = lock

    @property
    def is_locked(self) -> bool:
        """True while a task holds the lock."""
        return self._lock is not None and self._lock.locked()

    @property
    def holds_back(self) -> bool:
        """True if written bytes wait for their check, in a draft or a held head."""
        return self.draft is not None or (self.head is not None and bool(self.head.held))

    @property
    def unsaved(self) -> bool:
        """True if a draft or a held head has changes that the store does not have."""
        changed = self.draft is not None and self.draft.changed
        return changed or (self.head is not None and bool(self.head.held))

    @property
    def is_late(self) -> bool:
        """True if writes into a file with accepted bytes wait for their check (Head.late)."""
        return self.draft is None and self.head is not None and bool(self.head.late)

    @property
    def has_other_writers(self) -> bool:
        """True if a writer that is being released leaves the held bytes to another writer."""
        return self.writers - self.opening > 1

    @property
    def is_new(self) -> bool:
        """True if one of the file's writers created the file, and no content of it was accepted yet."""
        held = self.draft or self.head
        return held is not None and held.created

    def drop_held(self) -> None:
        """Discard the draft and the head. The file's content is then the content in the store."""
        if self.draft is not None:
            self.draft.close()
        self.draft = self.head = None
