"""Lookup, attributes and listings: what `see` shows."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_bits
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.domain import NO_FACTS, RAW_VIEW, Decision, FileType, Need, Op, Principal
from policyfs.fs.attrs import Timeouts, absent, fill, shown_size
from policyfs.fs.gate import Gate, PolicyChangedError
from policyfs.fs.nodes import ROOT_ID, Flavor, Node, NodeTable, StaleNodeError
from policyfs.fs.openfile import Caller, HandleTable
from policyfs.fs.orphans import Orphans
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.fs.shares import Holder, Shares
from policyfs.fs.views import Views, version_of
from policyfs.kernel.bridge import FH_CACHE_DIR, FH_KEEP_CACHE, pack_fh, pyfuse3
from policyfs.policy.decide import PathState
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree

_SLICE: Final = 64
"""Names decided at a time before other requests get their turn: some 0.2 ms."""
_WITH_NODE: Final = 8
"""For how many of them a name counts that is answered with its node and attributes."""

_LISTED: Final = 2_000_000
"""How many names the listings that are open may keep together; a name takes some 150 bytes."""
_DIRECTORY_SIZE: Final = 4096
_LISTING_COSTS: Final = 8
"""For how many names an open directory counts by itself."""

_TYPES: Final = {
    stat_bits.S_IFREG >> 12: FileType.REGULAR,
    stat_bits.S_IFDIR >> 12: FileType.DIRECTORY,
    stat_bits.S_IFLNK >> 12: FileType.SYMLINK,
}


Entry = tuple[bytes, int, int]
"""Name, inode number, DT_* type."""


@dataclass(slots=True)
class Listing:
    """A snapshot of one directory, taken at its first READDIR and again when it is rewound.

    entries: of the names that the caller may see by the policy of that generation; None in place
    of one that a newer policy hides.
    """

    index: int
    node: Node
    caller: Caller
    holder: Holder
    entries: list[Entry | None] | None = None
    generation: int = 0
    served: int = 0


class Seeing:
    """Answers LOOKUP, GETATTR, OPENDIR and READDIRPLUS of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        handles: HandleTable,
        places: Places,
        gate: Gate,
        views: Views,
        timeouts: Timeouts,
        orphans: Orphans,
    ) -> None:
        self._orphans = orphans
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._places = places
        self._gate = gate
        self.views = views
        self._timeouts = timeouts
        self._listings: dict[int, Listing] = {}
        self.shares = Shares(_LISTED, "listed names")
        self._last_listing = 0

    @property
    def listings(self) -> int:
        """Directories that are open."""
        return len(self._listings)

    # -- lookup ---------------------------------------------------------------------------------

    async def lookup(self, parent: Node, name: bytes, caller: Caller) -> pyfuse3.EntryAttributes:
        """The entry of a name: found, hidden (ENOENT), or absent (cached where that is safe).

        INVARIANT: what is hidden by its path is answered without a look at the store, so that it
        takes as long as a name that is not there (docs/decisions/0010-hidden-takes-as-long-as-absent.md).
        """
        state, unseen = self._gate.asked_for(caller.principal, parent.state, name)
        if unseen.whatever is not None:
            held = self._held_directory(parent, name)
            return held or self._not_there(parent, name, state, caller, unseen.whatever)
        dirfd = self._places.dirfd_on_the_way(parent)
        try:
            stat = self._tree.stat(dirfd, name)
        except FileNotFoundError:
            stat = None
        if stat is None or not self._gate.shows(caller.principal, state, stat.ftype, parent):
            if unseen.but_directory is not None:
                return self._not_there(parent, name, state, caller, unseen.but_directory)
            return self._nothing(state, caller)
        decision = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, parent)
        if not decision.allowed:
            held = self._held_directory(parent, name)
            return held or self._not_there(parent, name, state, caller, decision)
        return self.entry(parent, name, state, stat, caller)

    def _nothing(self, state: PathState, caller: Caller) -> pyfuse3.EntryAttributes:
        need = self._gate.engine.needs(caller.principal, Op.SEE, state, FileType.REGULAR)
        timeout = self._timeouts.missing(state, by_kind=bool(need & Need.KIND))
        if not timeout:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return absent(timeout)

    def _not_there(
        self, parent: Node, name: bytes, state: PathState, caller: Caller, decision: Decision
    ) -> pyfuse3.EntryAttributes:
        """Hidden answers as absent does, also in what the kernel may keep of the answer."""
        call, path = Call("lookup", "lookup"), child_path(parent, name)
        if decision.errno != errno.ENOENT or not self._timeouts.entry(state):
            self._gate.refuse(caller, call, path, decision)
        self._gate.recorder.decided(caller, call, path, decision)
        return self._nothing(state, caller)

    def _held_directory(self, parent: Node, name: bytes) -> pyfuse3.EntryAttributes | None:
        """A hidden directory that others use stays in place for them.

        This caller gets ENOENT from the GETATTR, ACCESS, OPENDIR or LOOKUP that follows: a failed
        revalidation would take the others' working directory away. Anything else is not there.
        """
        node = None if self._timeouts.alone else self._nodes.directory(parent, name)
        if node is None or not node.lookups:
            return None
        try:
            stat = self._tree.stat(self._places.dirfd(parent), name)
        except FileNotFoundError:
            return None
        if not self._nodes.is_same(node, stat):
            return None
        node.lookups += 1
        return fill(_uncounted(stat), node.nodeid, 0.0, 0.0)

    def entry(
        self, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """The reply for a name that the caller sees; counts one kernel reference to its node."""
        node = self.node_for(parent, name, state, stat, caller)
        if stat.ftype is FileType.REGULAR and self._orphans.is_wanted(node):
            self._keep_for_open(node, parent, name)
        return self.entry_of(node, state, self.told(stat, state, caller))

    def _keep_for_open(self, node: Node, parent: Node, name: bytes) -> None:
        """Keep within reach what has a name now, for the open that comes."""
        try:
            fd = self._tree.open_path(self._places.dirfd(parent), name)
        except OSError:
            return  # gone already
        if self._nodes.is_same(node, self._tree.fstat(fd)):
            self._orphans.keep(node, fd, once=True)
        else:
            os.close(fd)

    def entry_of(self, node: Node, state: PathState, stat: Stat) -> pyfuse3.EntryAttributes:
        """The reply that gives a node to the kernel; counts one reference."""
        node.lookups += 1
        if node.ftype is FileType.DIRECTORY:
            node.named_s = time.monotonic()
        entry_s = self._timeouts.entry(state)
        attr_s = self._timeouts.attr(state, node, stat)
        node.tell(version_of(stat))
        return fill(stat, node.nodeid, entry_s, attr_s, shown_size(node, stat))

    def node_for(self, parent: Node, name: bytes, state: PathState, stat: Stat, caller: Caller) -> Node:
        """The caller's node of what *name* is."""
        if stat.ftype is not FileType.REGULAR:
            return self.views.directory(stat, state, parent, name, RAW_VIEW)
        engine = self._gate.engine
        view = engine.view(caller.principal, state)

        def owner() -> str:
            return self._gate.facts.owner_at(self._places.dirfd(parent), name, stat)

        flavor = self.views.flavor(engine, caller, view, state, stat, owner, writing=False)
        return self.views.node(stat, view, flavor, state, parent, name, caller)

    # -- attributes -----------------------------------------------------------------------------

    async def getattr(self, node: Node, caller: Caller) -> pyfuse3.EntryAttributes:
        """Attributes of a node."""
        return self.attributes(node, await self.look(node, caller))

    async def look(self, node: Node, caller: Caller) -> Stat:
        """What a caller is told of a node, if it may see it."""
        if node.nodeid != ROOT_ID:
            await self._gate.require(caller, Op.SEE, node, Call("stat", "stat"))
        return self.told(self.stat(node), node.state, caller)

    def told(self, stat: Stat, state: PathState, caller: Caller) -> Stat:
        """Attributes as a caller is told them: of a directory in which something may be hidden from it,
        nothing that counts what is there.
        """
        if stat.ftype is not FileType.DIRECTORY or self._gate.shows_all_in(caller.principal, state):
            return stat
        return _uncounted(stat)

    def stat(self, node: Node) -> Stat:
        """What the store says of a node now. ESTALE if no name leads to it and nobody has it open."""
        if node.nodeid == ROOT_ID:
            return self._tree.fstat(self._tree.root_fd)
        if node.parent is None and node.open is not None and node.open.fd >= 0:
            return self._tree.fstat(node.open.fd)
        if node.parent is None and node.ftype is FileType.DIRECTORY:
            return self._tree.fstat(self._places.dirfd(node))
        try:
            return self._places.locate(node)[2]
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            if node.ftype is FileType.DIRECTORY and (fd := self._places.removed_fd(node)) >= 0:
                return self._tree.fstat(fd)
            if node.open is None or node.open.stat is None:
                raise
        fd = next((h.fd for h in self._handles.of_node(node) if h.fd >= 0), -1)
        if fd >= 0 and node.flavor is not Flavor.COPY:
            return self._tree.fstat(fd)
        return node.open.stat._replace(nlink=0)  # taken away in the store: as it was at the open

    def attributes(self, node: Node, stat: Stat) -> pyfuse3.EntryAttributes:
        """The reply to GETATTR and SETATTR."""
        timeout = self._timeouts.attr(node.state, node, stat)
        node.tell(version_of(stat))
        return fill(stat, node.nodeid, 0.0, timeout, shown_size(node, stat))

    async def readlink(self, node: Node, caller: Caller) -> bytes:
        """Target of a symlink, as data."""
        await self._gate.require(caller, Op.SEE, node, Call("readlink", "readlink"))
        dirfd, name, _ = self._places.locate(node)
        fd = self._tree.open_path(dirfd, name)
        try:
            if not self._nodes.is_same(node, self._tree.fstat(fd)):  # replaced this very moment
                raise StaleNodeError
            return self._tree.readlink_fd(fd)
        finally:
            os.close(fd)

    async def access(self, node: Node, mode: int, caller: Caller) -> bool:
        """access(2) and chdir(2): may the caller do what *mode* (R_OK, W_OK, X_OK) asks."""
        ops = Op.SEE
        if node.ftype is not FileType.DIRECTORY:
            ops |= Op.READ if mode & (os.R_OK | os.X_OK) else Op(0)
            ops |= Op.WRITE if mode & os.W_OK else Op(0)
        await self._gate.require(caller, ops, node, Call("access", "access"))
        if mode & os.X_OK and node.ftype is FileType.REGULAR:
            return bool(self.stat(node).mode & 0o111)  # as natively, also for root
        return True

    # -- listing --------------------------------------------------------------------------------

    async def opendir(self, node: Node, caller: Caller) -> int:
        """Start a listing. Its snapshot is taken when the first entries are asked for: where the
        kernel has kept the listing nobody will.
        """
        call = Call("list", "opendir")
        decision = await self._gate.require(caller, Op.SEE, node, call)
        self._last_listing = self._last_listing % 0xFFFFFF + 1
        while self._last_listing in self._listings:
            self._last_listing = self._last_listing % 0xFFFFFF + 1
        self.shares.check(caller.holder)
        listing = Listing(self._last_listing, node, caller, caller.holder)
        self._places.dirfd(node)  # it is still there
        self._gate.recorder.decided(caller, call, node.path(), decision)
        self._listings[listing.index] = listing
        self.shares.take(listing.holder, _LISTING_COSTS)
        cached = FH_CACHE_DIR | FH_KEEP_CACHE if self._timeouts.listing(node.state) else 0
        return pack_fh(listing.index, cached)

    async def _current(self, listing: Listing, start: int) -> list[Entry | None]:
        """The listing's snapshot, taken if there is none, without what the policy hides by now."""
        while listing.entries is None or listing.generation != self._gate.generation:
            generation = self._gate.generation
            try:
                shown = await self._snapshot(listing)
            except PolicyChangedError:
                continue
            if listing.entries is None or start == 0:
                self._keep(listing, [*shown])
            else:  # positions are the kernel's already
                names = {name for name, _, _ in shown}
                listing.entries = [e if e is not None and e[0] in names else None for e in listing.entries]
            listing.generation = generation
        return listing.entries

    def _keep(self, listing: Listing, entries: list[Entry | None] | None) -> None:
        """The listing's snapshot, counted for whom it was taken. EMFILE if that one has its share."""
        self.shares.give(listing.holder, len(listing.entries or ()))
        listing.entries = None
        if entries is not None:
            self.shares.check(listing.holder)
            listing.entries = entries
            self.shares.take(listing.holder, len(entries))

    async def _snapshot(self, listing: Listing) -> list[Entry]:
        """All names that the caller sees now; long directories in slices, so that others go on.

        Raises PolicyChangedError.
        """
        node, who, generation = listing.node, listing.caller.principal, self._gate.generation
        shown: list[Entry] = []
        try:
            directory = self._places.dirfd(node)
        except FileNotFoundError:
            return shown
        with contextlib.closing(self._tree.list_parts(directory)) as parts:
            while part := _next_part(parts):
                for position, entry in enumerate(part):
                    if position % _SLICE == _SLICE - 1:
                        await trio.lowlevel.checkpoint()
                        self._gate.unchanged(generation)
                    if await self._is_shown(entry, node, listing.caller, who):
                        shown.append(entry)
                await trio.lowlevel.checkpoint()
                self._gate.unchanged(generation)
        return shown

    async def _is_shown(self, entry: Entry, node: Node, caller: Caller, who: Principal) -> bool:
        name, _, kind = entry
        engine, ftype = self._gate.engine, _TYPES.get(kind, FileType.SPECIAL)
        state = engine.child(node.state, name)
        if not self._gate.shows(who, state, ftype, node):
            return False
        if engine.needs(who, Op.SEE, state, ftype) or engine.owner_matters_above(state):
            return await self._seen(node, name, state, caller)
        return engine.decide(who, Op.SEE, state, ftype, NO_FACTS).allowed

    async def _seen(self, node: Node, name: bytes, state: PathState, caller: Caller) -> bool:
        try:
            dirfd = self._places.dirfd(node)
            stat = self._tree.stat(dirfd, name)
            decision = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, node)
        except FileNotFoundError:
            return False
        return decision.allowed

    async def readdir(self, index: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill one buffer from position *start* (0: the beginning, which takes a new snapshot).

        Where the kernel may keep entries they come with their nodes; else names only, since the
        LOOKUP comes anyway.
        """
        listing = self._listings[index]
        if start == 0 and listing.served:
            self._keep(listing, None)
            listing.served = 0
        entries = await self._current(listing, start)
        node = listing.node
        position, work = start, 0
        while position < len(entries) + 2:
            if work >= _SLICE:
                work = 0
                await trio.lowlevel.checkpoint()
                entries = await self._current(listing, position)
            listed = entries[position - 2] if position >= 2 else None
            position += 1
            if listed is not None:
                name = listed[0]
                entry, held = self._direntry(listing, *listed)
            elif position <= 2:
                name, entry, held = self._dots(node, position - 1)
            else:
                continue
            work += 1 if held is None else _WITH_NODE
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position):
                if held is not None:
                    self._nodes.closed(held)
                break
            if held is not None:
                held.lookups += 1
        listing.served = max(position, 1)

    def _dots(self, node: Node, position: int) -> tuple[bytes, pyfuse3.EntryAttributes, None]:
        above = node if position == 0 or node.parent is None else node.parent
        return b".." if position else b".", _name_only(above.ino & (2**64 - 1), stat_bits.S_IFDIR), None

    def _direntry(
        self, listing: Listing, name: bytes, ino: int, kind: int
    ) -> tuple[pyfuse3.EntryAttributes, Node | None]:
        node = listing.node
        state = self._gate.engine.child(node.state, name)
        timeout = self._timeouts.entry(state)
        if timeout:
            try:
                stat = self._tree.stat(self._places.dirfd(node), name)
            except OSError:
                stat = None  # removed or replaced since: a name without attributes, as natively
            if (
                stat is not None
                and stat.ftype is _TYPES.get(kind, FileType.SPECIAL)
                and self._as_decided(listing, state, stat, ino)
            ):
                found = self.node_for(node, name, state, stat, listing.caller)
                stat = self.told(stat, state, listing.caller)
                attr_s = self._timeouts.attr(state, found, stat)
                found.tell(version_of(stat))
                return fill(stat, found.nodeid, timeout, attr_s, shown_size(found, stat)), found
        return _name_only(ino, kind << 12), None

    def _as_decided(self, listing: Listing, state: PathState, stat: Stat, ino: int) -> bool:
        """Is what has the name now what the snapshot decided on, if that hung on more than the name."""
        engine, ftype = self._gate.engine, stat.ftype
        if stat.ino == ino or engine.owner_matters_above(state):
            return stat.ino == ino
        return not engine.needs(listing.caller.principal, Op.SEE, state, ftype)

    def directory_fd(self, index: int) -> int:
        """Descriptor of the directory of an open listing, until the next await."""
        return self._places.dirfd(self._listings[index].node)

    def releasedir(self, index: int) -> None:
        """The listing is closed."""
        listing = self._listings.pop(index)
        self._keep(listing, None)
        self.shares.give(listing.holder, _LISTING_COSTS)


def _uncounted(stat: Stat) -> Stat:
    """A directory's attributes without its number of links, which counts directories in it (1 says
    that it does not), and its size, which on many file systems counts the letters of the names.
    """
    return stat._replace(nlink=min(stat.nlink, 1), size=_DIRECTORY_SIZE, blocks=_DIRECTORY_SIZE // 512)


def _next_part(parts: Generator[list[Entry], None, None]) -> list[Entry]:
    """More of a listing, [] at its end: also of a directory that was removed while the caller is in it."""
    try:
        return next(parts, [])
    except FileNotFoundError:
        return []


def child_path(parent: Node, name: bytes) -> bytes:
    """Path within the mount of a name in a directory, for the trail."""
    return parent.path().rstrip(b"/") + b"/" + name


def _name_only(ino: int, mode: int) -> pyfuse3.EntryAttributes:
    """A directory entry without a node: name, inode number and type."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.st_rdev = ino
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry
