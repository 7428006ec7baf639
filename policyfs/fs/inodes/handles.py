"""Handles: the opens of files that have not ended."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from policyfs.domain import Facts
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.open_state import FilmReader, Mode, OpenState
from policyfs.fs.inodes.pending_writes import HELD_MOST
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel.bridge import MAX_INDEX
from policyfs.store.frozen import Version

if TYPE_CHECKING:
    from policyfs.fs.inodes.node import CachedPages, Node
    from policyfs.linux.statx import Stat
    from policyfs.store.copies import Copy


@dataclass(slots=True, eq=False)
class _Charge:
    holder: Holder


class SharedDescriptors:
    """The descriptors that all handles of an open node use, and the shares in which they count: of a draft, a
    lease, or a file that has lost its name. Each can stay open longer than the handle that it was opened for.

    INVARIANT: each counts in the share of an app that has the node open. Otherwise an app could use up the
    shares of others, by keeping open what they have written, or have descriptors that count for nobody."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._of_nodes: dict[Node, set[_Charge]] = {}

    def take(self, node: Node, holder: Holder) -> Callable[[], None]:
        """Count a shared descriptor of a node for *holder* (an app or a stranger's uid). Return the function
        that ends this count, to be called once when the descriptor is closed."""
        charge = _Charge(holder)
        self._of_nodes.setdefault(node, set()).add(charge)
        self._shares.take(holder)
        return partial(self._give, node, charge)

    def _give(self, node: Node, charge: _Charge) -> None:
        charges = self._of_nodes[node]
        charges.remove(charge)
        if not charges:
            del self._of_nodes[node]
        self._shares.give(charge.holder)

    def hand_on(self, node: Node, holders: Collection[Holder]) -> None:
        """Count a node's shared descriptors for one of *holders*, all that have the node open, if theirs has
        closed it."""
        for charge in self._of_nodes.get(node, ()) if holders else ():
            if charge.holder not in holders:
                self._shares.give(charge.holder)
                charge.holder = next(iter(holders))
                self._shares.take(charge.holder)


_HANDLES: Final = 1 << 18
"""The limit of open handles of a mount; each takes less than a kilobyte in the daemon."""

FMODE_EXEC: Final = 0x20
"""The kernel's flag for an open by execve(2) (linux/fs.h). It lasts while the program runs."""


@dataclass(slots=True, eq=False)
class Handle:
    """One open file description of an app."""

    index: int
    """The handle's number in the handle table."""
    node: Node
    caller: Caller
    """The process that opened the file."""
    flags: int
    """The flags of open(2)."""
    fd: int
    """The daemon's descriptor of the backing file; -1 if the handle is in passthrough and needs none."""
    fh: int = 0
    """The number that the kernel sends back (bridge.pack_fh)."""
    mode: Mode = Mode.MEDIATED
    emptied: bool = False
    """True if the app is under redaction, and may write only because it emptied the file."""
    created: bool = False
    """True if this handle's open has created the file."""
    changed: bool = False
    """True if an app has asked to change the file's bytes or size through this handle."""
    by_kind: bool = False
    """True if the decision to open the file depended on its kind."""
    recorded_late: bool = False
    """True if the daemon served other requests while it put this open on record."""
    seen: Version | None = None
    """If *emptied*: the file's version after the last write through this node; None after others' writes."""
    before: Version | None = None
    """The file's version at the open, for the trail."""
    bytes_read: int = 0
    """Bytes read through the daemon."""
    bytes_written: int = 0
    """Bytes written through the daemon."""
    noted: bool = False
    """True if the trail already has the event that the kind does not meet a rule in monitor mode."""
    generation: int = 0
    """The generation of the policy that allowed the open."""
    facts: Facts | None = None
    """The facts found when the handle's copy was made. None: facts are found at each use."""
    hidden: frozenset[str] | None = None
    """The words hidden in the copy that the handle shows; None if it shows no copy."""
    film: FilmReader | None = None
    """The reader of a film whose frames are not patched in *copy*; None for any other file."""
    copy: Copy | None = None
    """The copy that the handle shows, kept open in the cache for *payer*; None if it shows none."""
    pages: CachedPages | None = None
    """The bytes of which the kernel may keep pages after the release, or None."""
    payer: str | None = None
    """The app, or the stranger, in whose share of the cache *copy* counts, or None."""

    @property
    def hides(self) -> frozenset[str]:
        """The words for data that is never shown through this handle."""
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
    """A source of handles that the bridge has opened (opening/bridge_handles.py). The table takes each when a
    part of the daemon needs it."""

    def take(self, fh: int) -> None:
        """Put the bridge's handle with this number into the table, if the bridge has it."""

    def take_of(self, node: Node) -> None:
        """Put the bridge's handles of a node into the table."""

    def end_all(self) -> None:
        """Put all handles of the bridge into the table. From then on the bridge opens no handles."""


class OpenedHandles(Protocol):
    """A part that is told of each handle (saved_state.py)."""

    def opened(self, handle: Handle) -> None:
        """Save an open file for the next daemon."""

    def closed(self, fh: int) -> None:
        """Drop an open file. INVARIANT: before its descriptor is closed."""

    def indexed(self, index: int) -> None:
        """Note that a handle got an index."""

    def changed(self, fh: int) -> None:
        """Save that an app has asked to change an open file."""

    def unnamed(self, node: Node, fd: int, caller: Caller) -> None:
        """Save the descriptor of an open file that loses its last name."""

    def let_go(self, nodeid: int) -> None:
        """Drop the descriptor of unnamed(). INVARIANT: before it is closed."""


class HandleTable:
    """The table that finds open handles by the 64-bit number that the kernel sends back. descriptors: the
    limit of all handles' descriptors; an app gets more only while it has no more than are free. held_bytes:
    the bytes that all heads hold (pending_writes.py)."""

    def __init__(self, descriptors: int = 1 << 16) -> None:
        self._by_fh: dict[int, _Kept] = {}
        self._by_node: dict[Node, dict[int, Handle]] = {}
        self._holders: dict[Node, dict[Holder, int]] = {}
        self._used: set[int] = set()
        self._next = 0
        self.shares = Shares(_HANDLES, "open files")
        self.descriptors = Shares(descriptors, "descriptors")
        self.held_bytes = Shares(HELD_MOST, "bytes that wait for their check")
        self._shared = SharedDescriptors(self.descriptors)
        self._source: HandleSource | None = None
        self.follows = False
        """True if this daemon has taken over from another one, so that the kernel may send lost numbers."""
        self.saved: OpenedHandles | None = None
        """The state in which each handle is saved for the next daemon; None if there will be none."""

    def take_from(self, source: HandleSource) -> None:
        """Register *source*, in which the table looks for handles that it does not have."""
        self._source = source

    def __len__(self) -> int:
        return len(self._by_fh)

    def __iter__(self) -> Iterator[Handle]:
        """Iterate over the handles of the table. Those of the bridge are not among them: they are in
        passthrough, by the policy in force."""
        return iter([kept.handle for kept in self._by_fh.values()])

    @property
    def has_plenty(self) -> bool:
        """True if at most a quarter of handles and descriptors is in use, so that every app's share has room
        for all that the source can open (kernel/answers/_opens.c). INVARIANT: it opens files only while this
        is True: it does not know the shares."""
        return self.shares.used <= self.shares.limit // 4 and self.descriptors.used <= (
            self.descriptors.limit // 4
        )

    def _keep_plenty(self) -> None:
        if self._source is not None and not self.has_plenty:
            self._source.end_all()

    def new_index(self, caller: Caller) -> int:
        """Return a free index (bridge.MAX_INDEX at most). Raise OSError: EMFILE if the app's share is used
        up, ENFILE if no index is left."""
        self._keep_plenty()
        self.shares.check(caller.holder)
        self.descriptors.check(caller.holder)
        for _ in range(MAX_INDEX):
            self._next = self._next + 1 if self._next < MAX_INDEX else 1
            if self._next not in self._used:
                if self.saved is not None:
                    self.saved.indexed(self._next)
                return self._next
        raise OSError(errno.ENFILE, "too many open files")

    def number_from(self, index: int) -> None:
        """Give handles greater indices than this one, of a daemon before: its last handle."""
        self._next = index

    def add(self, handle: Handle) -> None:
        """Store a handle under its ``fh``. A descriptor is set before this call."""
        kept = self._by_fh[handle.fh] = _Kept(handle, handle.caller.holder)
        self._by_node.setdefault(handle.node, {})[handle.fh] = handle
        holders = self._holders.setdefault(handle.node, {})
        holders[kept.holder] = holders.get(kept.holder, 0) + 1
        self._used.add(handle.index)
        self.shares.take(kept.holder)
        if handle.fd >= 0:
            kept.descriptors = 1
            self.descriptors.take(kept.holder)
            self._keep_plenty()
        if self.saved is not None:
            self.saved.opened(handle)

    def changed(self, handle: Handle) -> None:
        """Note that an app has asked to change a file's bytes or size through a handle."""
        if not handle.changed:
            handle.changed = True
            if self.saved is not None:
                self.saved.changed(handle.fh)

    def charge(self, node: Node) -> Callable[[], None] | None:
        """Count one more descriptor of an open node in the share of an app that has it open. Return the
        function that gives it back; None if all these shares are used up."""
        self.of_node(node)  # the source may have handles of the node
        for holder in self._holders.get(node, {}):
            try:
                self.descriptors.check(holder)
            except OSError:
                continue
            return self._charged(node, holder)
        return None

    def open_for(self, node: Node, holder: Holder, make: Callable[[], int]) -> tuple[int, Callable[[], None]]:
        """Open one more descriptor of a node by *make*, in the share of *holder*. Return it, and the function
        that ends this count. Raise OSError (EMFILE), and the errors of *make*."""
        self.descriptors.check(holder)
        fd = make()
        return fd, self._charged(node, holder)

    def _charged(self, node: Node, holder: Holder) -> Callable[[], None]:
        give_back = self._shared.take(node, holder)
        self._keep_plenty()
        return give_back

    def left(self, node: Node) -> None:
        """Count an open node's shared descriptors in the shares of apps that still have the node open."""
        self._shared.hand_on(node, self._holders.get(node, {}))

    def get(self, fh: int) -> Handle:
        """Return the open handle with the number that the kernel sent. Raise KeyError if there is none,
        OSError (EIO) if a take-over has lost it."""
        if self.is_lost(fh):
            raise OSError(errno.EIO, "the daemon that opened the file was killed")
        return self._by_fh[fh].handle

    def is_lost(self, fh: int) -> bool:
        """Return True for a handle that a take-over has lost."""
        if self._source is not None and fh not in self._by_fh:
            self._source.take(fh)
        return self.follows and fh not in self._by_fh

    def pop(self, fh: int) -> Handle | None:
        """Remove and return a handle; None if the table has no such handle."""
        kept = self._by_fh.pop(fh, None)
        if kept is None:
            return None
        handle = kept.handle
        self._used.discard(handle.index)
        siblings, holders = self._by_node[handle.node], self._holders[handle.node]
        del siblings[fh]
        holders[kept.holder] -= 1
        if not holders[kept.holder]:
            del holders[kept.holder]
        if not siblings:
            del self._by_node[handle.node], self._holders[handle.node]
        self.shares.give(kept.holder)
        self.descriptors.give(kept.holder, kept.descriptors)
        return handle

    def of_node(self, node: Node) -> list[Handle]:
        """Return the open handles of one node."""
        if self._source is not None:
            self._source.take_of(node)
        return list(self._by_node.get(node, {}).values())

    def descriptor_of(self, node: Node) -> int:
        """Return a new descriptor of the store's file behind an open node, or -1. The caller closes it."""
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


def looks_empty(node: Node, stored: Stat) -> bool:
    """Return True if the node's handles see an empty file. stored: the attributes of the store's file."""
    draft = None if node.open is None else node.open.draft
    return not stored.size or (draft is not None and draft.only_empties(stored))


@dataclass(slots=True, eq=False)
class _Kept:
    handle: Handle
    holder: Holder
    descriptors: int = 0
