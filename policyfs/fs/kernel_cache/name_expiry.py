"""After a reload or a take-over, all names in the kernel expire one by one: working directories keep their
path.

After INC_EPOCH, the kernel drops each name at its next use, and getcwd says ENOENT until the directory is
found again: that is for what cannot be sent one by one (docs/decisions/0046-names-expire-one-by-one.md)."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import trio

from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.kernel_cache.absent_names import AbsentNames
from policyfs.fs.kernel_cache.listed_names import ListedNames
from policyfs.fs.sharing.pauses import in_slices
from policyfs.kernel.notify import Notifier

_MOST: Final = 200_000
"""The limit of nodes for an expiry one by one. With more nodes the daemon uses INC_EPOCH."""
_EXPIRE_S: Final = 5.0
"""The longest time for an expiry one by one. (A long request in a directory may delay its names.)"""
_AT_ONCE: Final = 16
"""The number of nodes between two possible pauses for other requests (in_slices)."""
_ROUNDS: Final = 3
"""The limit of rounds of one expiry: all names, then names moved meanwhile."""

_Entry: TypeAlias = tuple[int, bytes, bool]
"""Node number of a directory, name, and True if the kernel need only look the name up again (gentle)."""


Stays: TypeAlias = Callable[[Node], bool]
"""A function that tells if the kernel need only look a node's names up again, and not drop them first."""


def _never(node: Node) -> bool:
    del node
    return False


def all_stay(_node: Node) -> bool:
    """Stays, after a take-over: all older answers are of this policy, so the kernel drops no name."""
    return True


class NameExpiry:
    """The part of a mount that expires all names one by one. staying: called at each reload; returns a
    function (Stays). Other names are dropped, so that an older answer to a LOOKUP cannot bring one back."""

    def __init__(self, nodes: NodeTable, absent: AbsentNames, listed: ListedNames) -> None:
        self._nodes = nodes
        self._absent = absent
        self._listed = listed
        self._thread = trio.CapacityLimiter(1)
        self.staying: Callable[[], Stays] = lambda: _never

    async def expire(self, notifier: Notifier, stays: Stays | None = None) -> bool:
        """Make the kernel look up every name again. Return False if all were dropped at once instead. stays:
        None: that of staying().
        INVARIANT: afterwards the kernel uses no name from before, even if the task is cancelled."""
        countless = self._absent.lost or len(self._nodes) > _MOST
        entries: list[_Entry] = [(parent, name, True) for parent, name in self._absent.take()]
        done = False
        try:
            if not countless:
                with trio.move_on_after(_EXPIRE_S):
                    await in_slices(self._nodes.read_some)
                    names = _Round(list(self._nodes), stays or self.staying(), entries)
                    done = await self._one_by_one(names, notifier)
        finally:
            if not done and not self.expire_at_once(notifier):  # FUSE before 7.44, or the mount ends
                for node in self._nodes:
                    for parent, name in node.all_names():
                        notifier.inval_entry(parent.nodeid, name, True)
        return done

    def expire_at_once(self, notifier: Notifier) -> bool:
        """Make the kernel drop all names (INC_EPOCH). Return False if it cannot. INVARIANT: names in
        listings, too: they get the epoch of their use (fs/fuse/readdir.c, fuse_direntplus_link), so each is
        sent, and waits for the directory's lock until the kernel has used the listing."""
        done = notifier.inc_epoch_now()
        notifier.expire_entries(self._listed)
        return done

    async def _one_by_one(self, names: _Round, notifier: Notifier) -> bool:
        """Expire names in rounds, each for nodes moved during the last. Return False at a limit."""
        for _ in range(_ROUNDS):
            await in_slices(names.collect)
            write = partial(notifier.inval_entries_now, names.entries)
            if names.countless or not await trio.to_thread.run_sync(
                write, abandon_on_cancel=True, limiter=self._thread
            ):
                return False
            await in_slices(names.find_moved)
            if not names.moved:
                return True
            names = _Round(names.moved, _never, [])
        return False


class _Round:
    """One round: the names of some nodes. moved: nodes renamed since collect(). countless: True if names are
    unknown."""

    def __init__(self, nodes: list[Node], stays: Stays, entries: list[_Entry]) -> None:
        """entries: other names that must expire at the same time."""
        self._nodes = iter(nodes)
        self._stays = stays
        self._named: list[tuple[Node, tuple[tuple[Node, bytes], ...]]] = []
        self._compared = 0
        self.entries = entries
        self.moved: list[Node] = []
        self.countless = False

    def collect(self) -> bool:
        """Add the names of a few nodes. Return True if more nodes are left."""
        for node in itertools.islice(self._nodes, _AT_ONCE):
            if node.lookups:
                gentle, names = self._stays(node), tuple(node.all_names())
                self.entries.extend((parent.nodeid, name, gentle) for parent, name in names)
                self._named.append((node, names))
                self.countless |= node.is_beyond
        return operator.length_hint(self._nodes) > 0

    def find_moved(self) -> bool:
        """Compare the names of a few nodes with those of collect(). Return True if more nodes may be left."""
        part = self._named[self._compared : self._compared + _AT_ONCE]
        self._compared += len(part)
        self.moved.extend(node for node, names in part if tuple(node.all_names()) != names)
        return bool(part)
