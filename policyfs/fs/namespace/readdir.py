"""Listings: snapshots of directories, from the first read or rewinddir(3). Beyond the app's share: EMFILE."""

from __future__ import annotations

import contextlib
import errno
import stat as stat_bits
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

from policyfs.domain import NO_FACTS, Audit, Decision, FileType, Op
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.resolver import DirectoryMovedError
from policyfs.fs.kernel_cache.attributes import Timeouts, fill, name_only, shown_size, shown_version
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.open_directories import Listing, OpenDirectories
from policyfs.fs.namespace.snapshots import TYPES, Snapshots
from policyfs.fs.opening.bridge_handles import BridgeHandles, stat_of
from policyfs.fs.opening.raw_directories import RawDirectories
from policyfs.fs.opening.repeated_opens import LISTING
from policyfs.fs.sharing.pauses import Pauses
from policyfs.kernel import vectors
from policyfs.kernel.bridge import FH_CACHE_DIR, FH_KEEP_CACHE, DirectoryEntries, pack_fh, pyfuse3
from policyfs.kernel.requests import DirentBuffer
from policyfs.policy.decide import PathState

_WITH_NODE: Final = 8
"""The work for a name with node and attributes, in units: one unit is the work for a name alone."""
_WITH_OWN_NODE: Final = 2
"""The same for a name with a node of the bridge's own."""
_FILE: Final = stat_bits.S_IFREG >> 12
_SETTLED_S: Final = 2.0
"""Seconds after which a further change of a directory certainly sets another time."""

_FEW_BYTES: Final = 1024
"""The limit of a READDIR reply after one with nodes, so that the kernel soon can ask for nodes again."""

Entry = tuple[int, bytes, int, int]
"""Position of the name, name, inode number, DT_* type."""

_FIRST: Final = 3
"""The first position of a name (_direntries.h). ``.`` ends at position 1, ``..`` at 2."""

Reply = Callable[["Listing", Entry], int]
"""A function that adds an entry. It returns the work in units (see _WITH_NODE), or 0 for no room."""
Dots = Callable[[bytes, int, int], None]
"""A function that adds ``.`` or ``..``: (name, inode number, position). There is room for both."""


class DirectoryListings(FsPart):
    """The handler of OPENDIR, READDIR, READDIRPLUS and RELEASEDIR for one mount."""

    def __init__(
        self,
        fs: FsContext,
        *,
        timeouts: Timeouts,
        lookup: Lookup,
        withheld_names: WithheldNames,
        kernel_cache: KernelCache,
        bridge_handles: BridgeHandles,
        raw_directories: RawDirectories,
    ) -> None:
        self._raw_directories = raw_directories
        self._listed_names, self._drop_pages = kernel_cache.listed_names, kernel_cache.drop_pages
        super().__init__(fs)
        self._timeouts = timeouts
        self._lookup = lookup
        self._withheld_names = withheld_names
        self._bridge_handles = bridge_handles
        self.open = OpenDirectories(bridge_handles)
        self._snapshots = Snapshots(fs, withheld_names, self.open, self._pauses)
        self._answering = 0  # requests for listings under way
        self.others_wait: Callable[[int], bool] = lambda _answering: False
        """A function that returns True if other requests wait. Its argument: the listings under way."""

    def __len__(self) -> int:
        return len(self.open)

    async def opendir(self, node: Node, caller: Caller) -> int:
        """Open a directory, and return its handle with flags for the kernel. If facts decide which names the
        caller sees, and the kernel will ask, take the snapshot now: READDIR holds the directory's lock."""
        listing, flags = await self._opened(node, caller)
        if not flags & FH_KEEP_CACHE and self._snapshots.hangs_on_facts(node, caller.principal):
            try:
                await self._current(listing)
                listing.is_new = True
            except BaseException:
                self.open.remove(listing)
                raise
        return pack_fh(listing.index, flags)

    def opendir_now(self, node: Node, caller: Caller) -> int | None:
        """Open a directory as opendir() does, if path and caller alone decide. Return None if the request may
        have to wait, or is refused."""
        gate = self._gate
        if gate.policy_record.is_missing or self._snapshots.hangs_on_facts(node, caller.principal):
            return None
        decision = gate.seen_now(caller, node)
        if decision is None or decision.audit is Audit.REQUIRED:
            return None
        try:
            listing, flags = self._add(node, caller, decision)
        except DirectoryMovedError:
            return None
        return pack_fh(listing.index, flags)

    @recorded_first
    async def _opened(self, node: Node, caller: Caller) -> tuple[Listing, int]:
        return self._add(node, caller, await self._gate.require(caller, Op.SEE, node, LISTING))

    def _add(self, node: Node, caller: Caller, decision: Decision) -> tuple[Listing, int]:
        self.open.shares.check(caller.holder)
        self._resolver.dirfd(node)  # raises if the directory is gone
        self._gate.recorder.program_of(caller)  # for later events of this open directory
        self._gate.recorder.decided(caller, LISTING, node.path(), decision)
        flags = self._cached(node) if self._timeouts.listing(node.state) else 0
        listing = self.open.add(node, caller, kept=flags != 0)
        if flags & FH_KEEP_CACHE and self._timeouts.watched:
            self._bridge_handles.opened_directory(node, caller)
        return listing, flags

    def _cached(self, node: Node) -> int:
        """Return FH_CACHE_DIR, and FH_KEEP_CACHE if the kernel's listing is right: made under this policy and
        path, and without a watch of a directory unchanged since (two changes within _SETTLED_S can leave one
        time)."""
        version, is_settled = None, True
        if not self._timeouts.watched:
            stat = self._tree.fstat(self._resolver.dirfd(node))
            version, is_settled = version_of(stat), time.time() - stat.ctime_ns / 1e9 > _SETTLED_S
        listed = (self._nodes.unlike, version)
        if node.listed == listed:
            return FH_CACHE_DIR | FH_KEEP_CACHE
        node.listed = listed if is_settled else None
        return FH_CACHE_DIR

    async def _current(self, listing: Listing) -> DirectoryEntries:
        """Return the listing's snapshot by the policy in force. Take a new snapshot if needed."""
        while listing.entries is None or listing.generation != self._gate.generation:
            generation = self._gate.generation
            await self._drop(listing)
            try:
                self.open.keep(listing, await self._snapshots.take(listing))
                listing.generation = generation
            except PolicyChangedError:
                self.open.take(listing)
            except BaseException:
                self.open.take(listing)  # its names no longer count
                raise
        return listing.entries

    async def _drop(self, listing: Listing) -> None:
        """Free a snapshot, in parts so that other requests run."""
        entries = self.open.take(listing)
        while entries is not None and entries.drop():
            await trio.lowlevel.checkpoint()

    async def readdir(self, fh: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Fill one buffer of READDIRPLUS from position *start* (0: with a new snapshot).

        Names that the kernel may keep have their nodes, unless facts decide on them: others must be looked up
        anyway. Beyond the beginning the kernel asks for nodes only if a program looks names up; then files
        have nodes, so that the bridge can answer what follows."""

        def reply(listing: Listing, listed: Entry) -> int:
            position, name, ino, kind = listed
            own = self._of_bridge(listing, name, ino) if kind == _FILE and listing.is_raw else None
            if own is not None:
                return self._own_entry(listing, listed, own, token)
            entry, held = self._direntry(listing, name, ino, kind, wanted=start > 0)
            taken = pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position)
            if held is None:
                return int(taken)
            if not taken:
                held.told_by_bridge()  # the kernel does not get these attributes, and may keep others
                self._nodes.closed(held)
                return 0
            self._nodes.refer(held, listing.holder)
            if entry.entry_timeout:
                self._listed_names.add(listing.index, listing.node.nodeid, name)
            else:
                self._lookup.listed(held, listing.caller)
            return _WITH_NODE

        def dots(name: bytes, ino: int, position: int) -> None:
            entry = name_only(ino, stat_bits.S_IFDIR)
            pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position)

        async with self._begun(fh, start) as (listing, entries):
            listing.looked_up = start > 0
            listing.is_raw = self._raw_directories.allow(listing.node, listing.caller)
            _answer_dots(listing.node, start, dots)
            await self._fill(listing, entries, start, reply)

    def _own_entry(
        self, listing: Listing, listed: Entry, own: vectors.Listed, token: pyfuse3.ReaddirToken
    ) -> int:
        position, name, _, _ = listed
        entry = fill(stat_of(own.attributes, 0, 0), own.nodeid, own.entry_s, own.attr_s)
        if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), entry, position):
            vectors.unlist_file(own.nodeid)
            return 0
        if own.entry_s:
            self._listed_names.add(listing.index, listing.node.nodeid, name)
        return _WITH_OWN_NODE

    @staticmethod
    def _of_bridge(listing: Listing, name: bytes, ino: int) -> vectors.Listed | None:
        found = vectors.list_file(listing.node.nodeid, listing.caller.uid, name, ino)
        return None if found is None else vectors.Listed(*found)

    async def names(self, fh: int, start: int, size: int) -> bytes:
        """Return the reply to one READDIR: names without nodes, up to *size* bytes; empty only at the end."""
        async with self._begun(fh, start) as (listing, entries):
            return self._names(listing, entries, start, size)

    def names_now(self, fh: int, start: int, size: int) -> bytes | None:
        """Return the same if the listing has its snapshot, else None."""
        listing = self.open.find(fh)
        if start == 0 or listing.entries is None or listing.generation != self._gate.generation:
            return None
        self._check_kept(listing)
        self._listed_names.used(listing.index)  # the kernel has used the last reply, since it asks for more
        self._check_end(listing, listing.entries, start)
        return self._names(listing, listing.entries, start, size)

    @staticmethod
    def _names(listing: Listing, entries: DirectoryEntries, start: int, size: int) -> bytes:
        buffer = DirentBuffer(size)

        def dots(name: bytes, ino: int, position: int) -> None:
            buffer.add(name, ino, stat_bits.S_IFDIR >> 12, position)

        _answer_dots(listing.node, start, dots)
        begun = buffer.data()
        most, listing.looked_up = _FEW_BYTES if listing.looked_up else size, False
        at, room = entries.after(start), size - len(begun)
        return begun + (entries.pack(at, min(most, room), False) or entries.pack(at, room, False))

    @contextlib.asynccontextmanager
    async def _begun(self, fh: int, start: int) -> AsyncIterator[tuple[Listing, DirectoryEntries]]:
        """Yield the listing and the snapshot for a request, which counts as under way inside the context."""
        listing = self.open.find(fh)
        self._check_kept(listing)
        self._listed_names.used(listing.index)  # the kernel has used the last reply, since it asks for more
        if start == 0 and not listing.is_new:
            await self._drop(listing)
        listing.is_new = False
        self._answering += 1
        try:
            entries = await self._current(listing)
            self._check_end(listing, entries, start)
            yield listing, entries
        finally:
            self._answering -= 1

    def _check_end(self, listing: Listing, entries: DirectoryEntries, start: int) -> None:
        """At the end of a listing, raise OSError(EIO) if it is not whole. If the directory has changed, make
        the kernel drop it: it would keep a listing from before the change."""
        if entries.after(start) < len(entries):
            return
        if not listing.is_whole and start >= _FIRST - 1:
            raise OSError(errno.EIO, "some names could not be decided in time")
        if listing.changes != listing.node.changes + self._nodes.unlike:
            self._drop_pages(listing.node.nodeid)

    def _check_kept(self, listing: Listing) -> None:
        """Raise OSError(ESTALE) if callers now see different names, but the kernel keeps them. INVARIANT: the
        kernel shows a listing that it keeps to every caller, also after a reload while the directory is open.
        """
        if listing.kept and not self._timeouts.listing(listing.node.state):
            raise OSError(errno.ESTALE, "the policy has changed: the directory must be opened again")

    def _pauses(self) -> Pauses:
        return Pauses(lambda: self.others_wait(self._answering))

    async def _fill(self, listing: Listing, entries: DirectoryEntries, start: int, reply: Reply) -> None:
        at, pauses, work = entries.after(start), self._pauses(), 0
        while at < len(entries):
            if pauses.due(work):
                after = entries[at - 1][0] if at else start
                await trio.lowlevel.checkpoint()
                entries = await self._current(listing)
                at = entries.after(after)
                if at == len(entries):
                    break
            work = reply(listing, entries[at])
            if not work:
                break
            at += 1

    def _direntry(
        self, listing: Listing, name: bytes, ino: int, kind: int, *, wanted: bool
    ) -> tuple[pyfuse3.EntryAttributes, Node | None]:
        node, ftype = listing.node, TYPES.get(kind)
        state = self._gate.engine.child(node.state, name)
        with_node = self._timeouts.entry(state, ftype) > 0
        if not with_node and wanted and ftype is FileType.REGULAR and self._nodes.vectors.of_names:
            with_node = self._gate.engine.view(listing.caller.principal, state).raw
        if with_node and node.has_room(name):  # a name whose path is too long is listed without a node
            try:
                stat = self._tree.stat(self._resolver.dirfd(node), name)
            except OSError:
                stat = None  # removed or replaced since: listed without attributes, as natively
            if (
                stat is not None
                and not self._withheld_names.has(stat)
                and stat.ftype is TYPES.get(kind, FileType.SPECIAL)
                and self._is_decided(listing, state, stat.ftype)
            ):
                found = self._lookup.node_for(node, name, state, stat, listing.caller)
                stat = self._lookup.told(stat, found, state, listing.caller)
                self._nodes.vectors.check_copy(found, stat)
                attr_s = self._timeouts.attr(state, found, stat)
                found.tell(shown_version(found, stat))
                entry_s = self._timeouts.entry_of(found, state)
                return fill(stat, found.nodeid, entry_s, attr_s, shown_size(found, stat)), found
        return name_only(ino, kind << 12), None

    def _is_decided(self, listing: Listing, state: PathState, ftype: FileType) -> bool:
        engine, who = self._gate.engine, listing.caller.principal
        if engine.owner_matters_above(state) or engine.needs(who, Op.SEE, state, ftype):
            return False
        return engine.decide(who, Op.SEE, state, ftype, NO_FACTS).allowed

    def directory_fd(self, fh: int) -> int:
        """Return the descriptor of an open directory. The descriptor is valid until the next await."""
        return self._resolver.dirfd(self.open.find(fh).node)

    async def releasedir(self, fh: int) -> None:
        """Close an open directory, and free its snapshot."""
        if self.open.is_lost(fh):
            return
        listing = self.open.find(fh)
        self.open.remove(listing)
        self._listed_names.used(listing.index)
        await self._drop(listing)


def _answer_dots(node: Node, start: int, dots: Dots) -> None:
    for position in range(start + 1, _FIRST):
        above = node if position == 1 or node.parent is None else node.parent
        dots(b"." * position, above.ino & (2**64 - 1), position)
