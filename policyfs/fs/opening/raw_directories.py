"""Directories in which the bridge answers for all regular files by itself, by one decision for every name
(policy/raw_names.py). It also makes the nodes of these files; Python takes a node over when it needs it.

INVARIANT: whatever changes the decision drops the vectors of the directory first (fs/inodes/vectors.py)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Final

from policyfs.domain import Audit, FileType
from policyfs.fs.access.views import Views
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.opening.bridge_handles import BridgeHandles
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.sharing.shares import Holder
from policyfs.kernel import vectors
from policyfs.policy.memo import Memo
from policyfs.policy.raw_names import Changes, RawNames, raw_names

_REMEMBERED: Final = 1 << 12
"""The capacity of the cache of decisions, in units (memo.Memo): apps choose names of directories."""
_NAME: Final = bytes(255)
_PATH_BYTES: Final = 1024
"""The longest path of such a directory, in bytes: it stays in memory for the trail."""
_EXCEPTED: Final = 64
"""The limit of names about which Python decides in such a directory: the bridge compares each."""
_NUMBERS: Final = 1 << 64


class RawDirectories(FsPart):
    """The part of a mount that lets the bridge answer for all files in a directory."""

    def __init__(
        self, fs: FsContext, views: Views, timeouts: Timeouts, passthrough: Passthrough,
        bridge_handles: BridgeHandles, *, changes: bool, xattrs: bool,
    ) -> None:  # fmt: skip
        """changes: True if the bridge may also change and remove files: the store keeps owners in xattrs, and
        nobody else must be told (fs/kernel_cache/announcements.py). xattrs: True if apps see user.*."""
        super().__init__(fs)
        fs.held.tell(vectors.held_in)
        self._changes = changes
        self._xattrs = xattrs
        self._views = views
        self._timeouts = timeouts
        self._passthrough = passthrough
        self._bridge_handles = bridge_handles
        self._known: Memo[tuple[object, int], tuple[RawNames | None]] = Memo(_REMEMBERED)
        self._moves: Memo[tuple[object, ...], int] = Memo(_REMEMBERED)
        self._numbers = itertools.count(1)
        self._generation = -1
        self.has_second_try: Callable[[Holder], bool] = lambda _: False
        """A function that tells if the kernel tries an open of this holder again after ESTALE."""

    def allow(self, directory: Node, caller: Caller) -> bool:
        """Let the bridge answer for all files in a directory that a caller reaches, if one decision holds for
        all. Return True if it does. INVARIANT: no await since the caller read the directory's state."""
        if not self._nodes.vectors.in_use:
            return False
        if vectors.is_allowed(directory.nodeid, caller.uid):
            return True
        found = self._decided(directory, caller) if self._is_plain(directory, caller) else None
        if found is None:
            return False
        entries = {self._timeouts.entry(state, FileType.REGULAR) for state in found.states}
        excepted = self._excepted(found, entries)
        if len(entries) > 1 or len(excepted) > _EXCEPTED:
            return False
        try:
            fd = self._resolver.dirfd(directory)
        except OSError:
            return False
        entry_s = int(entries.pop())
        if entry_s and self._gate.shows_all_in(caller.principal, directory.state):
            self._nodes.vectors.see_all(directory, fd, caller.uid, keeps=True)
        recorded = found.decision.audit is not Audit.OFF
        bits = vectors.RAW | (vectors.RECORDED if recorded else 0) | (vectors.XATTRS if self._xattrs else 0)
        changes = found.changes if self._changes else None
        if changes is not None:
            recorded = changes.made.audit is not Audit.OFF
            bits |= vectors.CHANGE | (vectors.CHANGES_RECORDED if recorded else 0)
            bits |= vectors.WRITE if changes.written is not None else 0
            bits |= vectors.REMOVE if changes.removed is not None else 0
        self._bridge_handles.allowed(directory, caller, found.decision, changes)  # first: the events need it
        return vectors.allow_directory(
            directory.nodeid, fd, caller.uid, self._nodes.root_dev, bits, entry_s, entry_s > 0,
            self._moves_of(found, changes, excepted, entry_s), b"".join(name + b"\0" for name in excepted),
            (caller.principal.app or "").encode(),
        )  # fmt: skip

    def _excepted(self, found: RawNames, entries: set[float]) -> list[bytes]:
        """Return the names about which Python decides: the decision is another one, or another caller's is,
        so that the kernel may not keep the name for as long."""
        entry = partial(self._timeouts.entry, ftype=FileType.REGULAR)
        return [*found.excepted, *(name for name, state in found.literals if entry(state) not in entries)]

    def _moves_of(self, found: RawNames, changes: Changes | None, excepted: list[bytes], entry_s: int) -> int:
        """Return the number that directories have in common between which files may be renamed, or 0."""
        if changes is None or changes.moved is None:
            return 0
        key = found.states, found.literals, tuple(excepted), entry_s
        return self._moves.get(key) or self._moves.keep(key, next(self._numbers) & 0xFFFFFFFF, len(key[0]))

    def _decided(self, directory: Node, caller: Caller) -> RawNames | None:
        gate = self._gate
        if self._generation != gate.generation:
            self._known, self._moves = Memo(_REMEMBERED), Memo(_REMEMBERED)
            self._generation = gate.generation
        key = (directory.state, caller.principal.key)
        known = self._known.get(key)
        if known is None:
            found = raw_names(gate.engine, caller.principal, directory.state)
            known = self._known.keep(key, (found,), directory.state.units)
        return known[0]

    def _is_plain(self, directory: Node, caller: Caller) -> bool:
        """Return True if nothing but path and caller counts for files here, and the watch reports changes."""
        timeouts = self._timeouts
        return (
            timeouts.watched
            and timeouts.reported(directory)
            and not (timeouts.told_apart or timeouts.guarded or timeouts.posix)
            and self._passthrough.lets_bridge_register()
            and directory.ino < _NUMBERS
            and directory.has_room(_NAME)
            and len(directory.path()) <= _PATH_BYTES
            and self._views.is_settled
            and not self._replaced_files.expects_tries
            and self._handles.has_plenty
            and not self.has_second_try(caller.holder)
        )
