"""What lives only while a file is open: handles, and the state that all handles of a node share."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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
"""How many files may be open at once; one costs the daemon less than a kilobyte."""


class Caller:
    """Who sent a request: the process, and the principal that the policy in force knows it as.

    principal is asked for anew each time: principals of one policy mean nothing to another, and
    the policy may change while a request is under way.
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
        """Whose share of what is limited it takes from: the app's, or a stranger's own."""
        return self.principal.app or self.uid


class Mode(enum.Enum):
    """Who answers reads and writes of a node: the kernel or the daemon."""

    PASSTHROUGH = "passthrough"
    MEDIATED = "mediated"


@dataclass(slots=True, eq=False)
class OpenState:
    """What all handles of one node share, from the first open to the last release."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    """Held while bytes are judged that then are written, or a way for them is made (Lifecycle.enter)."""
    handles: int = 0
    """How many are open."""
    writers: int = 0
    """How many of them may write."""
    mode: Mode = Mode.MEDIATED
    backing_id: int = 0
    """The kernel's id of the backing file in passthrough, else 0."""
    copy: Copy | None = None
    """The frozen copy of a COPY node, pinned."""
    version: Version | None = None
    """The version that the copy was made of."""
    lease: Lease | None = None
    """Of a LEASED node: the read lease, while it holds."""
    lease_fd: int = -1
    """The descriptor that the lease is on, or -1."""
    patches: tuple[Patch, ...] = ()
    """Of a LEASED node: what is read instead of its bytes."""
    cut: bool = False
    """Whether the file got another size by its path, through this node."""
    generation: int = 0
    """The policy that *patches* are for."""
    located: tuple[str | None, Plan] | None = None
    """Kind and plan for all that the view hides, found under the lease."""
    head: Head | None = None
    """Held or remembered first bytes of a checked node."""
    draft: Draft | None = None
    """What was written and is not looked through yet."""
    fd: int = -1
    """Of a file whose last name was taken away through this mount while it was open, else -1."""
    stat: Stat | None = None
    """What the file was when it was opened last, for one whose name went in the store."""
    locked: Version | None = None
    """The version that the kernel was last made to ask for since somebody locked the file here."""


@dataclass(slots=True, eq=False)
class Handle:
    """One open file description of an app."""

    index: int
    """Its number in the table."""
    node: Node
    caller: Caller
    """The process that opened it."""
    flags: int
    """Of open(2)."""
    fd: int
    """The daemon's descriptor of the backing file, -1 where passthrough needs none."""
    fh: int = 0
    """The number that the kernel sends back (bridge.pack_fh)."""
    mode: Mode = Mode.MEDIATED
    emptied: bool = False
    """Whether the app is under redaction and got to write by emptying the file."""
    created: bool = False
    """Whether the file came into being with this handle."""
    by_kind: bool = False
    """Whether the file's kind decided that it may be opened."""
    recorded_late: bool = False
    """Whether others went on while its open was put on record."""
    seen: Version | None = None
    """Where *emptied*: the version that its own last write left."""
    before: Version | None = None
    """The version of the file that the open found, for the record."""
    bytes_read: int = 0
    """Through the daemon."""
    bytes_written: int = 0
    """Through the daemon."""
    noted: bool = False
    """Whether a monitored requirement of kinds that it did not meet is on record."""
    generation: int = 0
    """The policy that allowed the open."""
    facts: Facts | None = None
    """Of the file that a frozen copy was made of; None where they are asked of the file itself."""
    hidden: frozenset[str] | None = None
    """What is hidden in the copy that it shows; None where its bytes are looked at when they are read."""
    copy: Copy | None = None
    """That copy, pinned for *payer*."""
    payer: str | None = None
    """Whose share of copies it takes: an app's name, or None."""

    @property
    def hides(self) -> frozenset[str]:
        """What this handle never shows."""
        return self.node.view.redact if self.hidden is None else self.hidden

    @property
    def readable(self) -> bool:
        """Was it opened for reading."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        """Was it opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class HandleTable:
    """All open handles of a mount, by the 64-bit number that the kernel sends back.

    descriptors: how many of the daemon's all handles may hold. Nobody gets more than there is left
    for all others: neither of those nor of handles.
    """

    def __init__(self, descriptors: int = 1 << 16) -> None:
        self._by_fh: dict[int, _Kept] = {}
        self._by_node: dict[Node, dict[int, Handle]] = {}
        self._used: set[int] = set()
        self._next = 0
        self.shares = Shares(_HANDLES, "open files")
        self.descriptors = Shares(descriptors, "descriptors")

    def __len__(self) -> int:
        return len(self._by_fh)

    def __iter__(self) -> Iterator[Handle]:
        return iter([kept.handle for kept in self._by_fh.values()])

    def new_index(self, caller: Caller) -> int:
        """An index (bridge.MAX_INDEX at most) that no open handle has.

        Raises OSError: EMFILE if the caller's app has its share of what can be open, ENFILE if there
        is no index left.
        """
        self.shares.check(caller.holder)
        self.descriptors.check(caller.holder)
        for _ in range(MAX_INDEX):
            self._next = self._next + 1 if self._next < MAX_INDEX else 1
            if self._next not in self._used:
                return self._next
        raise OSError(errno.ENFILE, "too many open files")

    def add(self, handle: Handle) -> None:
        """Keep a handle under its ``fh``. What descriptor it has, it has by now."""
        kept = self._by_fh[handle.fh] = _Kept(handle, handle.caller.holder)
        self._by_node.setdefault(handle.node, {})[handle.fh] = handle
        self._used.add(handle.index)
        self.shares.take(kept.holder)
        if handle.fd >= 0:
            self._charge(kept)

    def _charge(self, kept: _Kept) -> None:
        self.descriptors.take(kept.holder)
        kept.descriptors += 1

    def charge(self, node: Node) -> bool:
        """Count one more descriptor, for a file that is open, as that of one who has it open; False
        if that one has its share already. It counts as long as the handle lives.
        """
        for fh in self._by_node.get(node, {}):
            kept = self._by_fh[fh]
            try:
                self.descriptors.check(kept.holder)
            except OSError:
                continue
            self._charge(kept)
            return True
        return False

    def get(self, fh: int) -> Handle:
        """The handle of a number that the kernel sent. KeyError if it is not open."""
        return self._by_fh[fh].handle

    def pop(self, fh: int) -> Handle | None:
        """Forget a handle; None if it is not there."""
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
        """The open handles of one node."""
        return list(self._by_node.get(node, {}).values())

    def descriptor_of(self, node: Node) -> int:
        """A descriptor of the store's file behind an open node, the caller's to close; -1 without one."""
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
    """A handle in the table, for whom it counts, and how many descriptors it counts for."""

    handle: Handle
    holder: Holder
    descriptors: int = 0
