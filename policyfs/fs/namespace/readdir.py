"""Listings: snapshots of directories for readdir, taken when the app begins to read."""

from __future__ import annotations

import bisect
import contextlib
import operator
import stat as stat_bits
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.domain import NO_FACTS, FileType, Op, Principal
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.attributes import Timeouts, fill, shown_size, shown_version
from policyfs.fs.kernel_cache.listed_names import ListedNames
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.sharing.pauses import Pauses
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.kernel.bridge import FH_CACHE_DIR, FH_KEEP_CACHE, pack_fh, pyfuse3
from policyfs.kernel.requests import DirentBuffer
from policyfs.linux.statx import Stat
from policyfs.policy.decide import PathState

_WITH_NODE: Final = 8
"""The work for a name with its node and attributes, in bare names."""
_LISTED: Final = 2_000_000
"""The limit of names that all open listings keep together; a name takes about 190 bytes."""
_DROPPED: Final = 512
"""The number of names that are dropped at a time."""
_LISTING_COSTS: Final = 8
"""The share of an open directory itself, in names."""

_SETTLED_S: Final = 2.0
"""The age of a directory's last change from which the next change is sure to have another time."""

_TYPES: Final = {
    stat_bits.S_IFREG >> 12: FileType.REGULAR,
    stat_bits.S_IFDIR >> 12: FileType.DIRECTORY,
    stat_bits.S_IFLNK >> 12: FileType.SYMLINK,
}

Listed = tuple[bytes, int, int]
"""Name, inode number, DT_* type."""
Entry = tuple[int, bytes, int, int]
"""Position of the name, name, inode number, DT_* type."""

_FIRST: Final = 3
"""The first position of a name. 0 is the beginning, 1 is after ``.``, 2 after ``..``."""
_POSITIONS: Final = 1 << 62
_BUCKETS: Final = 256
"""Parts of a snapshot that are sorted one by one: 2,000,000 names at once would take a second."""
_BUCKET: Final = _POSITIONS // _BUCKETS
_position: Final = operator.itemgetter(0)

Reply = Callable[["Listing", Entry], int]
"""Adds an entry to the reply. Returns its work, in bare names; 0 if the entry does not fit."""
Dots = Callable[[bytes, int, int], None]
"""Adds ``.`` or ``..`` to the reply: name, inode number, position. They fit into every reply."""


@dataclass(slots=True)
class Listing:
    """A snapshot of one directory, taken at its first READDIR and again when it is rewound.

    entries: the entries that the caller may see by the policy of *generation*, by position.

    INVARIANT: a name has one position in all listings of its directory, and its position depends on nothing
    else (docs/decisions/0050-positions-are-names.md).
    """

    index: int
    node: Node
    caller: Caller
    holder: Holder
    entries: list[Entry] | None = None
    generation: int = 0


class DirectoryListings:
    """The open directories of one mount: answers OPENDIR, READDIR and READDIRPLUS."""

    def __init__(
        self,
        fs: FsContext,
        *,
        timeouts: Timeouts,
        lookup: Lookup,
        withheld_names: WithheldNames,
        listed_names: ListedNames,
    ) -> None:
        self._listed_names = listed_names
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._resolver = fs.resolver
        self._gate = fs.gate
        self._timeouts = timeouts
        self._lookup = lookup
        self._withheld_names = withheld_names
        self._listings: dict[int, Listing] = {}
        self.shares = Shares(_LISTED, "listed names")
        self._last_listing = 0
        self._answering = 0  # requests for listings under way
        self.others_wait: Callable[[int], bool] = lambda _answering: False
        """True if there are other requests than the given number of requests for listings."""

    def __len__(self) -> int:
        """Return the number of open directories."""
        return len(self._listings)

    @recorded_first
    async def opendir(self, node: Node, caller: Caller) -> int:
        """Start a listing. Its snapshot is taken at the first READDIR: if the kernel has kept the listing,
        none comes.
        """
        call = Call("list", "opendir")
        decision = await self._gate.require(caller, Op.SEE, node, call)
        self._last_listing = self._last_listing % 0xFFFFFF + 1
        while self._last_listing in self._listings:
            self._last_listing = self._last_listing % 0xFFFFFF + 1
        self.shares.check(caller.holder)
        listing = Listing(self._last_listing, node, caller, caller.holder)
        self._resolver.dirfd(node)  # raises if it is gone
        self._gate.recorder.decided(caller, call, node.path(), decision)
        self._listings[listing.index] = listing
        self.shares.take(listing.holder, _LISTING_COSTS)
        return pack_fh(listing.index, self._cached(node) if self._timeouts.listing(node.state) else 0)

    def _cached(self, node: Node) -> int:
        """Return the flags by which the kernel keeps a directory's listing, and uses the one it has.

        It may use that one only if it comes from the policy in force: the kernel may be late in dropping it
        after a reload. Without a watch, also only if the directory has not changed since an open at which its
        last change was old: two changes at nearly the same time may leave it the same time.
        """
        version, is_settled = None, True
        if not self._timeouts.watched:
            stat = self._tree.fstat(self._resolver.dirfd(node))
            version, is_settled = version_of(stat), time.time() - stat.ctime_ns / 1e9 > _SETTLED_S
        listed = (self._gate.generation, version)
        if node.listed == listed:
            return FH_CACHE_DIR | FH_KEEP_CACHE
        node.listed = listed if is_settled else None
        return FH_CACHE_DIR

    async def _current(self, listing: Listing) -> list[Entry]:
        """Return the listing's snapshot by the policy in force; take it if there is none."""
        while listing.entries is None or listing.generation != self._gate.generation:
            generation = self._gate.generation
            try:
                shown = await self._snapshot(listing)
            except PolicyChangedError:
                continue
            await self._drop(listing)
            self._keep(listing, shown)
            listing.generation = generation
        return listing.entries

    def _keep(self, listing: Listing, entries: list[Entry]) -> None:
        """Store a listing's snapshot, and count it for its holder. EMFILE if that one's share is used up."""
        self.shares.check(listing.holder)
        listing.entries = entries
        self.shares.take(listing.holder, len(entries))

    async def _drop(self, listing: Listing) -> None:
        """Drop a snapshot in parts: 100,000 names at once would keep other requests waiting for 5 ms."""
        entries, listing.entries = listing.entries, None
        while entries:
            self.shares.give(listing.holder, min(_DROPPED, len(entries)))
            del entries[-_DROPPED:]
            await trio.lowlevel.checkpoint()

    async def _snapshot(self, listing: Listing) -> list[Entry]:
        """Collect all names that the caller sees now, by position; in slices, so that other requests go on.

        Raises PolicyChangedError.
        """
        node, who, generation = listing.node, listing.caller.principal, self._gate.generation
        shown: list[list[Entry]] = [[] for _ in range(_BUCKETS)]
        pauses = self._pauses()
        try:
            directory = self._resolver.dirfd(node)
        except FileNotFoundError:
            return []
        with contextlib.closing(self._tree.list_parts(directory)) as parts:
            while part := _next_part(parts):
                for entry in part:
                    if pauses.due():
                        await trio.lowlevel.checkpoint()
                        self._gate.unchanged(generation)
                    if await self._is_shown(entry, node, listing.caller, who):
                        position = position_of(entry[0])
                        shown[(position - _FIRST) // _BUCKET].append((position, *entry))
        entries: list[Entry] = []
        for bucket in shown:
            if pauses.due(len(bucket)):
                await trio.lowlevel.checkpoint()
            bucket.sort()
            entries += bucket
        self._gate.unchanged(generation)
        return entries

    async def _is_shown(self, entry: Listed, node: Node, caller: Caller, who: Principal) -> bool:
        name, ino, kind = entry
        engine, ftype = self._gate.engine, _TYPES.get(kind, FileType.SPECIAL)
        state = engine.child(node.state, name)
        if not self._gate.shows(who, state, ftype, node):
            return False
        if self._withheld_names.may_have(ino) and self._is_withheld(node, name):
            return False
        if engine.needs(who, Op.SEE, state, ftype) or engine.owner_matters_above(state):
            return await self._seen(node, name, state, caller)
        return engine.decide(who, Op.SEE, state, ftype, NO_FACTS).allowed

    def _is_withheld(self, node: Node, name: bytes) -> bool:
        try:
            return self._withheld_names.has(self._tree.stat(self._resolver.dirfd(node), name))
        except FileNotFoundError:
            return True

    async def _seen(self, node: Node, name: bytes, state: PathState, caller: Caller) -> bool:
        try:
            dirfd = self._resolver.dirfd(node)
            stat = self._tree.stat(dirfd, name)
            decision = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, node)
        except FileNotFoundError:
            return False
        return decision.allowed

    async def readdir(self, index: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill one buffer of READDIRPLUS from position *start* (0: the beginning, with a new snapshot).

        If the kernel may keep entries, they come with their nodes. Otherwise only names do, since a
        LOOKUP follows anyway.
        """

        def reply(listing: Listing, listed: Entry) -> int:
            position, name, ino, kind = listed
            entry, held = self._direntry(listing, name, ino, kind)
            taken = pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position)
            if held is None:
                return int(taken)
            if not taken:
                self._nodes.closed(held)
                return 0
            held.lookups += 1
            self._listed_names.add(index, listing.node.nodeid, name)
            return _WITH_NODE

        def dots(name: bytes, ino: int, position: int) -> None:
            entry = _name_only(ino, stat_bits.S_IFDIR)
            pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position)

        await self._answer(index, start, reply, dots)

    async def names(self, index: int, start: int, size: int) -> bytes:
        """Return one buffer of READDIR, at most *size* bytes: names without nodes."""
        buffer = DirentBuffer(size)

        def reply(_listing: Listing, listed: Entry) -> int:
            position, name, ino, kind = listed
            return int(buffer.add(name, ino, kind, position))

        def dots(name: bytes, ino: int, position: int) -> None:
            buffer.add(name, ino, stat_bits.S_IFDIR >> 12, position)

        await self._answer(index, start, reply, dots)
        return buffer.data()

    async def _answer(self, index: int, start: int, reply: Reply, dots: Dots) -> None:
        listing = self._listings[index]
        self._listed_names.used(index)  # the kernel asks for more
        if start == 0:
            await self._drop(listing)
        self._answering += 1
        try:
            await self._fill(listing, start, reply, dots)
        finally:
            self._answering -= 1

    def _pauses(self) -> Pauses:
        return Pauses(lambda: self.others_wait(self._answering))

    async def _fill(self, listing: Listing, start: int, reply: Reply, dots: Dots) -> None:
        entries, node = await self._current(listing), listing.node
        for position in range(start + 1, _FIRST):
            above = node if position == 1 or node.parent is None else node.parent
            dots(b"." * position, above.ino & (2**64 - 1), position)
        at, pauses, work = _behind(entries, start), self._pauses(), 0
        while at < len(entries):
            if pauses.due(work):
                after = entries[at - 1][0] if at else start
                await trio.lowlevel.checkpoint()
                entries = await self._current(listing)
                at = _behind(entries, after)
                if at == len(entries):
                    break
            work = reply(listing, entries[at])
            if not work:
                break
            at += 1

    def _direntry(
        self, listing: Listing, name: bytes, ino: int, kind: int
    ) -> tuple[pyfuse3.EntryAttributes, Node | None]:
        node = listing.node
        state = self._gate.engine.child(node.state, name)
        timeout = self._timeouts.entry(state, _TYPES.get(kind))
        if timeout and node.has_room(name):  # names out of reach are listed without a node
            try:
                stat = self._tree.stat(self._resolver.dirfd(node), name)
            except OSError:
                stat = None  # removed or replaced since: a name without attributes, as natively
            if (
                stat is not None
                and not self._withheld_names.has(stat)
                and stat.ftype is _TYPES.get(kind, FileType.SPECIAL)
                and self._as_decided(listing, state, stat, ino)
            ):
                found = self._lookup.node_for(node, name, state, stat, listing.caller)
                stat = self._lookup.told(stat, found, state, listing.caller)
                attr_s = self._timeouts.attr(state, found, stat)
                found.tell(shown_version(found, stat))
                entry_s = self._timeouts.entry_of(found, state)
                return fill(stat, found.nodeid, entry_s, attr_s, shown_size(found, stat)), found
        return _name_only(ino, kind << 12), None

    def _as_decided(self, listing: Listing, state: PathState, stat: Stat, ino: int) -> bool:
        """True if this name still leads to the snapshot's inode, or if only the name decided."""
        engine, ftype = self._gate.engine, stat.ftype
        if stat.ino == ino or engine.owner_matters_above(state):
            return stat.ino == ino
        return not engine.needs(listing.caller.principal, Op.SEE, state, ftype)

    def directory_fd(self, index: int) -> int:
        """Return the descriptor of an open listing's directory, valid until the next await."""
        return self._resolver.dirfd(self._listings[index].node)

    async def releasedir(self, index: int) -> None:
        """Close a listing."""
        listing = self._listings.pop(index)
        self._listed_names.used(index)
        await self._drop(listing)
        self.shares.give(listing.holder, _LISTING_COSTS)


def position_of(name: bytes) -> int:
    """Return the position of a name in listings: a hash with a key of this process, as bytes have one."""
    return _FIRST + hash(name) % _POSITIONS


def _behind(entries: list[Entry], position: int) -> int:
    """Return the index of the first entry after a position."""
    return bisect.bisect_right(entries, position, key=_position)


def _next_part(parts: Generator[list[Listed], None, None]) -> list[Listed]:
    """Return more entries, [] at the end: also for a directory that was removed while the caller is in it."""
    try:
        return next(parts, [])
    except FileNotFoundError:
        return []


def _name_only(ino: int, mode: int) -> pyfuse3.EntryAttributes:
    """Return a directory entry without a node: name, inode number and type."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.st_rdev = ino
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry
