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
    from policyfs.fs.inodes.node_table import Node
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
    """Shared by all handles of one node, from the first open to the last release.

    lock: held while bytes are judged that then are written, or a road is made; see Lifecycle.enter().
    backing_id: the kernel's id in passthrough, else 0. copy: the frozen copy of a COPY node,
    pinned; version: the version it was made of. cut: the file got another size by its path through
    this node since. lease, patches, generation (of the policy that the
    patches are for) and located (kind and plan for all that the view hides, found under the lease):
    of a LEASED node. writers: handles open for writing. head: held or remembered first bytes of a
    checked node. draft: what was written and is not looked through yet.
    fd: of a file whose last name was taken away through this mount while it was open,
    else -1. stat: what the file was when it was opened last, for one whose name went in the store.
    locked: the version that the kernel was last made to ask for since somebody locked the file here.
    """

    lock: trio.Lock = field(default_factory=trio.Lock)
    handles: int = 0
    writers: int = 0
    mode: Mode = Mode.MEDIATED
    backing_id: int = 0
    copy: Copy | None = None
    version: Version | None = None
    lease: Lease | None = None
    lease_fd: int = -1
    patches: tuple[Patch, ...] = ()
    cut: bool = False
    generation: int = 0
    located: tuple[str | None, Plan] | None = None
    head: Head | None = None
    draft: Draft | None = None
    fd: int = -1
    stat: Stat | None = None
    locked: Version | None = None


@dataclass(slots=True, eq=False)
class Handle:
    """One open file description of an app.

    fd: the daemon's descriptor of the backing file, -1 where passthrough needs none. emptied:
    the app is under redaction and got to write by emptying the file (then `seen` is the version
    that its own last write left). created: the file came into being with this handle. noted: a
    monitored content requirement that it did not meet is on record. generation: the policy's, of
    the decision that the open was allowed by. facts: of the file that a frozen copy was made of,
    None where they are asked of the file itself. hidden: what is hidden in the copy that the handle
    shows, None where its bytes are looked at when they are read. copy: that copy, pinned for *payer*.
    recorded_late: others went on while its open was put on record.
    """

    index: int
    node: Node
    caller: Caller
    flags: int
    fd: int
    fh: int = 0
    mode: Mode = Mode.MEDIATED
    emptied: bool = False
    created: bool = False
    by_kind: bool = False
    recorded_late: bool = False
    seen: Version | None = None
    before: Version | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    noted: bool = False
    generation: int = 0
    facts: Facts | None = None
    hidden: frozenset[str] | None = None
    copy: Copy | None = None
    payer: str | None = None

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


@dataclass(slots=True, eq=False)
class _Kept:
    """A handle in the table, for whom it counts, and how many descriptors it counts for."""

    handle: Handle
    holder: Holder
    descriptors: int = 0
