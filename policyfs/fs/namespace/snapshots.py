"""Snapshots of directories: the names that a caller sees, decided one by one if need be."""

from __future__ import annotations

import contextlib
import os
import stat as stat_bits
from collections.abc import Callable
from typing import Final

import trio

from policyfs.domain import NO_FACTS, FileType, Op, Principal
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.namespace.open_directories import Listing, OpenDirectories
from policyfs.fs.sharing.kernel_locks import LateError
from policyfs.fs.sharing.pauses import SLICE, Pauses
from policyfs.kernel.bridge import DirectoryEntries
from policyfs.policy.decide import PathState
from policyfs.store.names.directory_records import DirectoryRecords

TYPES: Final = {
    stat_bits.S_IFREG >> 12: FileType.REGULAR,
    stat_bits.S_IFDIR >> 12: FileType.DIRECTORY,
    stat_bits.S_IFLNK >> 12: FileType.SYMLINK,
}
"""File types by DT_* type (readdir(3))."""

_BYTES_OF_A_NAME: Final = 256
"""The number of bytes of directory records whose read takes as much work as a decision on one name."""

Listed = tuple[bytes, int, int]
"""Name, inode number, DT_* type."""

NEVER: Final = -1
"""Instead of Listing.changes: the kernel must forget the listing."""


class Snapshots(FsPart):
    """The part of a mount that reads a directory, and decides which names a caller sees."""

    def __init__(
        self, fs: FsContext, withheld_names: WithheldNames, open_directories: OpenDirectories,
        pauses: Callable[[], Pauses],
    ) -> None:  # fmt: skip
        """pauses: returns a counter that tells one snapshot when to pause, so that other requests run."""
        super().__init__(fs)
        self._withheld_names = withheld_names
        self._open = open_directories
        self._pauses = pauses

    def hangs_on_facts(self, node: Node, who: Principal) -> bool:
        """Return True if facts may decide which names the caller sees, and other apps use the directory."""
        return self._locks.shared and self._gate.names_in(who, node.state).hang_on_facts

    async def take(self, listing: Listing) -> DirectoryEntries:
        """Return all names that the caller sees now, by position, with pauses for other requests. After a
        failed sniff the kernel must not keep the listing: a name may be missing. In READDIR facts come only
        from memory, and only for the app's share (sharing/kernel_locks.py). Raise PolicyChangedError."""
        node, generation, pauses = listing.node, self._gate.generation, self._pauses()
        listing.changes, entries = node.changes + self._nodes.unlike, DirectoryEntries()
        failed, listing.is_whole = self._gate.facts.failed, True
        hangs = self.hangs_on_facts(node, listing.caller.principal)
        try:
            async with self._locks.limit(listing.holder) if hangs else contextlib.nullcontext():
                with self._tree.records(self._resolver.dirfd(node)) as records:
                    while records.read():
                        await self._collect(records, listing, entries, pauses)
                        self._open.charge(listing, len(entries))
        except FileNotFoundError:
            pass  # the directory was removed; the caller may still be in it
        except LateError:
            listing.is_whole = False
        if self._gate.facts.failed != failed or not listing.is_whole:
            listing.changes, node.listed = NEVER, None
        while entries.sort():
            if pauses.due(SLICE):
                await trio.lowlevel.checkpoint()
        self._gate.unchanged(generation)
        return entries

    async def _collect(
        self, records: DirectoryRecords, listing: Listing, entries: DirectoryEntries, pauses: Pauses
    ) -> None:
        node, who, generation = listing.node, listing.caller.principal, self._gate.generation
        # The bridge adds names by these verdicts alone. NOTHING_DECIDED leaves these records to _is_shown().
        verdicts, withheld = self._gate.names_in(who, node.state), self._withheld_names.numbers
        left = entries.add(
            records.buffer, records.size, verdicts.shown, verdicts.hidden, verdicts.apart, withheld
        )
        for name, ino, kind in records.typed(left):
            try:
                if await self._is_shown((name, ino, kind), node, listing.caller, who):
                    entries.put(name, ino, kind)
            except LateError:
                listing.is_whole = False
            if pauses.due():
                await trio.lowlevel.checkpoint()
                self._gate.unchanged(generation)
        if pauses.due(records.size // _BYTES_OF_A_NAME):
            await trio.lowlevel.checkpoint()
            self._gate.unchanged(generation)

    async def _is_shown(self, entry: Listed, node: Node, caller: Caller, who: Principal) -> bool:
        name, ino, kind = entry
        engine, ftype = self._gate.engine, TYPES.get(kind, FileType.SPECIAL)
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
        dirfd = self._resolver.dirfd(node)
        try:
            fd = self._tree.open_path(dirfd, name)
        except FileNotFoundError:
            return False
        try:
            stat = self._tree.fstat(fd)
            decision = await self._gate.at(caller.principal, Op.SEE, state, dirfd, name, stat, node, fd=fd)
        finally:
            os.close(fd)
        return decision.allowed
