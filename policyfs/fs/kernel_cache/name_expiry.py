"""After a reload or a take-over, all names in the kernel expire one by one: working directories keep their
path.

After INC_EPOCH, the kernel drops each name at its next use, and getcwd says ENOENT until the directory is
found again: that is for what cannot be sent one by one (docs/decisions/0046-names-expire-one-by-one.md)."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

import trio

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.fs.sharing.pauses import in_slices
from policyfs.kernel.notify import Notifier
from policyfs.policy.decide import PathState
from policyfs.policy.model import Policy

_MOST_ABSENT: Final = 16_384
"""The limit of remembered absent names. Each takes about 250 bytes."""


class AbsentNames:
    """The absent names (or hidden from everyone) that the kernel of one mount may keep, by directory: beyond
    _MOST_ABSENT, those looked up last.

    INVARIANT: a name is added before the reply that lets the kernel keep it. Names that exist by now, or of
    forgotten directories, do no harm. lost: True if the kernel may keep names that are no longer here."""

    def __init__(self, forget: Callable[[int, bytes], bool], most: int = _MOST_ABSENT) -> None:
        """forget: makes the kernel look up a name again. It returns False if this is not possible."""
        self._names: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._forget = forget
        self._most = most
        self.lost = False
        self.saved: SavedState | None = None
        """The state in which the names are saved for the next daemon; None if there will be none."""

    def __len__(self) -> int:
        return len(self._names)

    def add(self, parent: int, name: bytes) -> None:
        """Add an absent name. parent: the node number of its directory."""
        if self.saved is not None:
            self.saved.absent(parent, name)
        self._names[parent, name] = None
        self._names.move_to_end((parent, name))
        if len(self._names) > self._most:
            (parent, name), _ = self._names.popitem(last=False)
            if self.saved is not None:
                self.saved.present(parent, name)
            self.lost |= not self._forget(parent, name)

    def found(self, parent: int, name: bytes) -> None:
        """Remove a name that the next reply tells as present, so that new files take no room."""
        self._names.pop((parent, name), None)
        if self.saved is not None:
            self.saved.present(parent, name)

    def take(self) -> list[tuple[int, bytes]]:
        """Remove and return all names (directory node, name). The caller makes the kernel forget them."""
        names, self._names = list(self._names), OrderedDict()
        if self.saved is not None:
            for one in names:
                self.saved.present(*one)
        self.lost = False
        return names


_MOST_LISTED: Final = 16_384
"""The limit of remembered names in listings."""


class ListedNames:
    """The names that the kernel got in the last reply to each open directory, and may use later, also after
    INC_EPOCH. Beyond a limit, the oldest are looked up again."""

    def __init__(
        self, expire: Callable[[Sequence[tuple[int, bytes]]], object], most: int = _MOST_LISTED
    ) -> None:
        """expire: makes the kernel look up names (directory, name) again."""
        self._replies: OrderedDict[int, list[tuple[int, bytes]]] = OrderedDict()
        self._count = 0
        self._expire = expire
        self._most = most

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for names in self._replies.values():
            yield from names

    def __len__(self) -> int:
        return self._count

    def add(self, index: int, parent: int, name: bytes) -> None:
        """Add a name to the last reply of an open directory. index: its number. parent: its node number."""
        self._replies.setdefault(index, []).append((parent, name))
        self._count += 1
        while self._count > self._most:
            oldest = next(iter(self._replies))
            self._expire(self._replies[oldest])
            self.used(oldest)

    def used(self, index: int) -> None:
        """Forget the names in an open directory's last reply, because the kernel has used them."""
        self._count -= len(self._replies.pop(index, ()))


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
    """The names of some nodes. moved: nodes renamed since collect(). countless: True if names are unknown."""

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


class StayingNames:
    """A check that finds the names that the kernel may use after a reload until it has looked them up again:
    a late answer under the old policy does no harm if the kernel keeps nothing of it, or the new one is the
    same."""

    def __init__(self, timeouts: Timeouts, gate: Gate) -> None:
        self._timeouts = timeouts
        self._engine = gate.engine
        self._asker = gate.principal(_uid_that_asks(gate.engine.policy))
        self._known: dict[tuple[PathState, FileType], bool] = {}

    def stays(self, node: Node) -> bool:
        """Return True if an old answer about a name is harmless. Clears node.kept: ask once per reload."""
        kept, node.kept = node.kept, False
        if not kept:
            return True
        if node.links is not None or node.parent is None or node.out_of_reach:
            return False
        if node.ftype is FileType.REGULAR and not node.view.raw:
            return False
        key = node.last_state, node.ftype
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._shown_to_all(*key)
        return found

    def _shown_to_all(self, state: PathState, ftype: FileType) -> bool:
        """Return True if the kernel may keep such a name, and every caller sees the object as it is."""
        engine = self._engine
        if not self._timeouts.entry(state, ftype) or ftype is FileType.SPECIAL:
            return False
        if engine.table.uses_uid or engine.owner_matters_above(state):
            return False
        if ftype is FileType.REGULAR and not engine.view(self._asker, state).raw:
            return False
        return engine.decide(self._asker, Op.SEE, state, ftype, NO_FACTS).allowed


def _uid_that_asks(policy: Policy) -> int:
    """Return the uid of one caller that can use the mount. It fits an app mount and a shared mount."""
    return next((app.uids[0][0] for app in policy.apps if app.uids), 0)
