"""The frozen copies of the daemon before: apps that have them open read on, byte for byte.

A copy lives behind its descriptor, which the keeper's table has kept. So after a take-over nothing is located
again, and a file that was changed meanwhile makes no difference to those who had it open.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, cast

import trio

from policyfs.domain import OWNER_NONE, Facts
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import FilmReader, OpenState
from policyfs.fs.inodes.saved_state import sum_of_text
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.fs.redacted.results import CopyKey, Redacted
from policyfs.fs.saved.saved_copies import SavedCopies, SavedCopy, inode_of
from policyfs.linux.statx import Stat
from policyfs.redact.core.values import Outcome
from policyfs.store import frozen
from policyfs.store.copies import Copy, CopyCache
from policyfs.store.frozen import How, Version

_NOT_AS_BEFORE: Final = "the film is not located again as by the daemon that was killed"


class RestoredCopies(FsPart):
    """The copies of the daemon before, while the handles that show them are restored.

    INVARIANT: a copy is shown by a node only if its key has the inode, the words and the lane of the node,
    and if the handle's descriptor, or the node's backing id, is that of the copy."""

    def __init__(self, fs: FsContext, redactor: Redactor, cache: CopyCache, plans: PlanFinder) -> None:
        super().__init__(fs)
        self._redactor = redactor
        self._cache = cache
        self._plans = plans
        self._by_backing_id: dict[int, Redacted] = {}
        self._by_inode: dict[tuple[int, int], Redacted] = {}
        self._stats: dict[Copy, Stat] = {}

    def restore(self, saved: SavedCopies, seen: set[int]) -> set[int]:
        """Put the copies into the cache, and save each further one. Return their backing ids. seen: gets
        their descriptors. Call release() afterwards."""
        found = saved.read()
        for slot in sorted(found, key=lambda slot: found[slot].made_s):
            one = found[slot]
            made = None if one.fd in seen else self._restored(one)
            if made is None:
                saved.drop(slot)
                if one.fd >= 0 and one.fd not in seen:
                    os.close(one.fd)  # the keeper's sweep has left it open
            else:
                saved.keep(slot, made.copy.serial)
                self._by_inode[one.inode] = made
                if one.backing_id:
                    self._by_backing_id[one.backing_id] = made
            seen.add(one.fd)
        self.save_to(saved)
        return set(self._by_backing_id)

    def save_to(self, saved: SavedCopies) -> None:
        """Save each copy for the next daemon from now on."""
        self._redactor.save_to(saved)

    def release(self) -> None:
        """Let the cache close copies that no handle shows."""
        made, self._by_inode, self._by_backing_id, self._stats = self._by_inode, {}, {}, {}
        for one in made.values():
            one.copy.unpin()

    def _restored(self, saved: SavedCopy) -> Redacted | None:
        """Return a copy in the cache, pinned; None if its descriptor is of no such copy, or has no room."""
        try:
            version, stat = Version(*saved.version), Stat(*saved.stat)
            if inode_of(saved.fd) != saved.inode:
                return None
            copy = frozen.adopt(saved.fd, cast(How, saved.how), version, saved.memory)
        except (OSError, TypeError):
            return None
        key = CopyKey(saved.ino_key, stat.btime_ns, version, saved.what, saved.lane)
        if (kept := self._cache.put(key, copy)) is None:
            return None
        kept.pin()
        kept.backing_id = saved.backing_id
        film = RestoredFilm(self._plans, saved) if saved.is_film else None
        made = Redacted(
            kept, saved.kind, saved.hidden, saved.ranges, saved.settled, saved.made_s, film, saved.final
        )
        self._redactor.adopt(key, made)
        self._stats[kept] = stat
        return made

    def of(self, node: Node, fd: int, backing_id: int) -> Redacted | None:
        """Return the copy that a node shows. fd: the handle's descriptor, or -1 for one in passthrough.
        backing_id: the node's, or 0."""
        try:
            if fd < 0:
                made = self._by_backing_id.get(backing_id)
            elif fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) != os.O_RDONLY:
                return None
            else:
                made = self._by_inode.get(inode_of(fd))
        except OSError:
            return None
        if made is None or not isinstance(key := made.copy.key, CopyKey):
            return None
        wanted = node.ino, node.btime_ns, node.view.redact, node.whose
        return made if (key.ino_key, key.btime_ns, key.what, key.lane) == wanted else None

    def show(self, handle: Handle, state: OpenState, made: Redacted, owner: int) -> None:
        """Make a handle show a copy, also in its app's share of the cache. owner: SavedHandle.owner."""
        copy = made.copy
        if state.copy is None:
            copy.pin()
            state.copy, state.version, state.stat = copy, copy.frozen.version, self._stats[copy]
        handle.copy, handle.payer = copy, self._redactor.payer(handle.caller.principal)
        copy.pin(handle.payer)
        handle.facts = Facts(made.kind, self._owner(owner))
        handle.hidden, handle.film = made.hidden, made.film

    def _owner(self, checksum: int) -> str | None:
        if not checksum:
            return None
        apps = (app.name for app in self._gate.engine.policy.apps)
        return next((name for name in apps if sum_of_text(name) == checksum), OWNER_NONE)


class RestoredFilm(FilmReader):
    """The reader of a film in a copy of the daemon before. Its frames are located at the first read."""

    def __init__(self, plans: PlanFinder, saved: SavedCopy) -> None:
        self._plans = plans
        self._kind = saved.kind
        self._hidden = saved.hidden
        self._lock = trio.Lock()
        self._film: FilmReader | None = None

    async def read(self, fd: int, offset: int, size: int, lane: object) -> tuple[memoryview, str]:
        """Return bytes of the film, and why they cannot be shown, or ""."""
        async with self._lock:
            if self._film is None:
                kind, plan = await self._plans.locate(
                    fd, self._hidden, lane=lane, proof=None, frames_later=True
                )
                if kind == self._kind and plan.outcome is not Outcome.REFUSE:
                    self._film = self._plans.film(kind, plan, self._hidden)
        if self._film is None:
            return memoryview(b""), _NOT_AS_BEFORE
        return await self._film.read(fd, offset, size, lane)
