"""The state of open files: handles, and the state that all handles of a node share."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from policyfs.domain import Facts, Patch, Principal
from policyfs.fs.inodes.pending_writes import Draft, Head
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel.bridge import MAX_INDEX
from policyfs.store.frozen import Version

if TYPE_CHECKING:
    from policyfs.fs.inodes.node import Node
    from policyfs.linux.statx import Stat
    from policyfs.redact.core.values import Plan
    from policyfs.store.copies import Copy
    from policyfs.store.leases import Lease


_HANDLES: Final = 1 << 18
"""The limit of handles that are open at once; each costs the daemon less than a kilobyte."""


FMODE_EXEC: Final = 0x20
"""A flag of an open by execve(2) (include/linux/fs.h); the file stays open while the program runs."""


class Caller:
    """The sender of a request: its process, and its principal under the policy in force.

    The principal is looked up at each use, since the policy may change while a request is under way, and a
    principal of one policy means nothing to another.
    """

    __slots__ = ("_who", "gid", "pid", "uid", "umask")

    def __init__(self, who: Callable[[int], Principal], uid: int, gid: int, pid: int, umask: int) -> None:
        self._who = who
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.umask = umask

    @property
    def principal(self) -> Principal:
        """The principal under the policy in force."""
        return self._who(self.uid)

    @property
    def holder(self) -> Holder:
        """The quota key: the app's name, or the uid if the caller is not an app."""
        return self.principal.app or self.uid


class Mode(enum.Enum):
    """The mode of a node: the kernel or the daemon answers its reads and writes."""

    PASSTHROUGH = "passthrough"
    MEDIATED = "mediated"


@dataclass(slots=True, eq=False)
class OpenState:
    """The state that all handles of one node share, from the first open to the last release."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    """Held while bytes are judged before their write, or a byte path is prepared (Lifecycle.enter)."""
    handles: int = 0
    """The number of open handles."""
    writers: int = 0
    """The number of handles that may write."""
    writer_uids: frozenset[int] = frozenset()
    """The uids of all handles since the first open that may write. Held bytes may be of each."""
    mode: Mode = Mode.MEDIATED
    backing_id: int = 0
    """The kernel's id of the backing file in passthrough, else 0."""
    copy: Copy | None = None
    """The frozen copy of a COPY node, pinned."""
    version: Version | None = None
    """Of a COPY or LEASED node: the version of the file that it shows."""
    lease: Lease | None = None
    """Of a LEASED node: the read lease, while it holds."""
    lease_fd: int = -1
    """The descriptor that the lease is on, or -1."""
    patches: tuple[Patch, ...] = ()
    """Of a LEASED node: the bytes that are shown instead of the file's."""
    cut: bool = False
    """True if the file was truncated by its path, through this node."""
    generation: int = 0
    """The generation of the policy that *patches* follow."""
    located: tuple[str | None, Plan] | None = None
    """The kind, and the plan for all words that the view hides, found under the lease."""
    head: Head | None = None
    """Held or remembered first bytes of a checked node."""
    draft: Draft | None = None
    """The written bytes that are not checked yet."""
    fd: int = -1
    """A descriptor of the file, if its last name was removed through this mount while open; else -1."""
    stat: Stat | None = None
    """The file's attributes at the last open, for a file that lost its name in the store."""
    locked: Version | None = None
    """The file's version at the last granted lock. The kernel was then made to ask for attributes again."""
    mark: int | None = None
    """The number of the mark that tells other daemons of held bytes (FsContext.note_held)."""

    @property
    def holds_back(self) -> bool:
        """True if written bytes wait for their check, in a draft or a held head."""
        return self.draft is not None or (self.head is not None and bool(self.head.held))

    @property
    def unsaved(self) -> bool:
        """True if a draft or a held head has changes that the store does not have."""
        if self.draft is not None and self.draft.changed:
            return True
        return self.head is not None and bool(self.head.held)

    def drop_held(self) -> None:
        """Discard the draft and the head: the file is as the store has it."""
        if self.draft is not None:
            self.draft.close()
        self.draft = self.head = None


@dataclass(slots=True, eq=False)
class Handle:
    """One open file description of an app."""

    index: int
    """Its number in the table."""
    node: Node
    caller: Caller
    """The process that opened it."""
    flags: int
    """The flags of open(2)."""
    fd: int
    """The daemon's descriptor of the backing file, -1 where passthrough needs none."""
    fh: int = 0
    """The number that the kernel sends back (bridge.pack_fh)."""
    mode: Mode = Mode.MEDIATED
    emptied: bool = False
    """True if the app is under redaction, and may write because it emptied the file."""
    created: bool = False
    """True if the file was created with this handle."""
    by_kind: bool = False
    """True if the decision to open the file depended on its kind."""
    recorded_late: bool = False
    """True if other requests went on while its open was put on record."""
    seen: Version | None = None
    """If *emptied*: the file's version after its own last write."""
    before: Version | None = None
    """The file's version at the open, for the record."""
    bytes_read: int = 0
    """Bytes read through the daemon."""
    bytes_written: int = 0
    """Bytes written through the daemon."""
    noted: bool = False
    """True if a failed requirement of kinds in monitor mode is on record for this handle."""
    generation: int = 0
    """The generation of the policy that allowed the open."""
    facts: Facts | None = None
    """The facts found when the frozen copy was made; None if there is no copy: they are found at each use."""
    hidden: frozenset[str] | None = None
    """The words hidden in the copy that the handle shows; None if it shows no copy."""
    copy: Copy | None = None
    """The copy that the handle shows, pinned for *payer*; None if it shows none."""
    payer: str | None = None
    """The app that pays for *copy* from its share of copies, or None."""

    @property
    def hides(self) -> frozenset[str]:
        """The words for data that this handle never shows."""
        return self.node.view.redact if self.hidden is None else self.hidden

    @property
    def readable(self) -> bool:
        """True if the handle was opened for reading."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        """True if the handle was opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class HandleSource(Protocol):
    """Handles that were opened without the table, and are put into it when somebody needs them
    (opening/bridge_handles.py).
    """

    def take(self, fh: int) -> None:
        """Put the handle with this number into the table, if the source has it."""

    def take_of(self, node: Node) -> None:
        """Put all handles of a node into the table."""

    def take_all(self) -> None:
        """Put all handles into the table."""

    def end_all(self) -> None:
        """Put all handles into the table, and open no more."""


class HandleTable:
    """All open handles of a mount, by the 64-bit number that the kernel sends back.

    descriptors: the limit of the daemon's descriptors that all handles hold. No app gets more descriptors,
    or more handles, than it leaves for all others.
    """

    def __init__(self, descriptors: int = 1 << 16) -> None:
        self._by_fh: dict[int, _Kept] = {}
        self._by_node: dict[Node, dict[int, Handle]] = {}
        self._used: set[int] = set()
        self._next = 0
        self.shares = Shares(_HANDLES, "open files")
        self.descriptors = Shares(descriptors, "descriptors")
        self._source: HandleSource | None = None

    def take_from(self, source: HandleSource) -> None:
        """Take handles from *source*, too."""
        self._source = source

    def __len__(self) -> int:
        self._take_all()
        return len(self._by_fh)

    def __iter__(self) -> Iterator[Handle]:
        self._take_all()
        return iter([kept.handle for kept in self._by_fh.values()])

    def _take_all(self) -> None:
        if self._source is not None:
            self._source.take_all()

    @property
    def has_plenty(self) -> bool:
        """True if every app's share has room left, even if a source has a full table of 1 << 14 handles.

        INVARIANT: a source opens files only while this is True, since it does not know the shares.
        """
        return self.shares.used <= self.shares.limit // 4 and self.descriptors.used <= (
            self.descriptors.limit // 4
        )

    def _keep_plenty(self) -> None:
        if self._source is not None and not self.has_plenty:
            self._source.end_all()

    def new_index(self, caller: Caller) -> int:
        """Return an index (bridge.MAX_INDEX at most) that no open handle has.

        Raises OSError: EMFILE if the caller's app has used up its share of open files or descriptors,
        ENFILE if there is no index left.
        """
        self._keep_plenty()
        self.shares.check(caller.holder)
        self.descriptors.check(caller.holder)
        for _ in range(MAX_INDEX):
            self._next = self._next + 1 if self._next < MAX_INDEX else 1
            if self._next not in self._used:
                return self._next
        raise OSError(errno.ENFILE, "too many open files")

    def add(self, handle: Handle) -> None:
        """Keep a handle under its ``fh``. If the handle has a descriptor, the caller sets it before."""
        kept = self._by_fh[handle.fh] = _Kept(handle, handle.caller.holder)
        self._by_node.setdefault(handle.node, {})[handle.fh] = handle
        self._used.add(handle.index)
        self.shares.take(kept.holder)
        if handle.fd >= 0:
            self._charge(kept)

    def _charge(self, kept: _Kept) -> None:
        self.descriptors.take(kept.holder)
        kept.descriptors += 1
        self._keep_plenty()

    def charge(self, node: Node) -> bool:
        """Charge one more descriptor of an open file to one of its handles, until that handle is released.

        False if every holder of a handle has used up its share.
        """
        for handle in self.of_node(node):
            kept = self._by_fh[handle.fh]
            try:
                self.descriptors.check(kept.holder)
            except OSError:
                continue
            self._charge(kept)
            return True
        return False

    def get(self, fh: int) -> Handle:
        """Return the handle of a number that the kernel sent. KeyError if no such handle is open."""
        if self._source is not None and fh not in self._by_fh:
            self._source.take(fh)
        return self._by_fh[fh].handle

    def pop(self, fh: int) -> Handle | None:
        """Remove and return a handle; None if the table has no such handle."""
        kept = self._by_fh.pop(fh, None)
        if kept is None:
            return None
        handle = kept.handle
        self._used.discard(handle.index)
        siblings = self._by_node[handle.node]
        del siblings[fh]
        if not siblings:
            del self._by_node[handle.node]
        self.shares.give(kept.holder)
        self.descriptors.give(kept.holder, kept.descriptors)
        return handle

    def of_node(self, node: Node) -> list[Handle]:
        """Return the open handles of one node."""
        if self._source is not None:
            self._source.take_of(node)
        return list(self._by_node.get(node, {}).values())

    def descriptor_of(self, node: Node) -> int:
        """Return a descriptor of the store's file behind an open node, or -1. The caller closes it."""
        state = node.open
        if state is not None and state.copy is not None:
            return -1
        held = next((handle.fd for handle in self.of_node(node) if handle.fd >= 0), -1)
        return held if held < 0 else os.dup(held)


def open_state(handle: Handle) -> OpenState:
    """Return the state that a handle shares with the other handles of its node."""
    state = handle.node.open
    if state is None:
        raise RuntimeError("a handle of a node that is not open")
    return state


@dataclass(slots=True, eq=False)
class _Kept:
    """A handle in the table, the holder of its share, and the number of its descriptors there."""

    handle: Handle
    holder: Holder
    descriptors: int = 0
