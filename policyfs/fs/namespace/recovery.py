"""The recovery of changes that a killed daemon had begun and not answered, by evidence in the store.

The kernel sends such a request again. What names lead to now tells if the change was made: then the nodes
follow it, and the request gets its answer without a second change. Where nothing tells, it gets EIO."""

from __future__ import annotations

from policyfs.domain import FileType
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.node import Node
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.saved.intents import ChangeKind, Intent, Intents, Outcome, Side


class Recovery:
    """The part of a mount that settles the intents of the daemon before, before any request is answered."""

    def __init__(self, fs: FsContext, entries: Entries) -> None:
        self._fs = fs
        self._entries = entries

    def settle(self, intents: Intents, found: list[Intent]) -> None:
        """Find the outcome of each intent, and give nodes the names that they got. A moved directory is found
        only after its move is followed, so intents whose directory is not found yet wait for the others."""
        left = sorted(found)
        while left:
            waiting = [intent for intent in left if not self._settle_one(intents, intent)]
            if len(waiting) == len(left):
                break
            left = waiting
        for intent in left:
            intents.settle(intent, Outcome.UNKNOWN)

    def _settle_one(self, intents: Intents, intent: Intent) -> bool:
        """Settle an intent. Return False if one of its directories is not found."""
        try:
            outcome = self._outcome(intent)
        except (LookupError, OSError):
            return False
        intents.settle(intent, outcome)
        if outcome is Outcome.MADE:
            self._follow(intent)
        return True

    def _outcome(self, intent: Intent) -> Outcome:
        """Return what the store tells about a change. Raise OSError or KeyError without its directories."""
        old, new = intent.old, intent.new
        if intent.kind in {ChangeKind.APPEND, ChangeKind.ATTRIBUTE}:
            return Outcome.NOT_MADE  # the file itself tells when the request comes
        here = self._inode_at(old)
        has_name = here == (old.key, old.btime_ns)
        if intent.kind is ChangeKind.NAME:
            if not old.key:  # the inode was not known before
                return Outcome.NOT_MADE if here is None else Outcome.UNKNOWN
            return Outcome.MADE if has_name else Outcome.NOT_MADE
        if intent.kind is ChangeKind.REMOVAL:
            return Outcome.NOT_MADE if has_name else Outcome.MADE
        there = self._inode_at(new)
        arrived = there == (old.key, old.btime_ns)
        if has_name:  # if both names lead to it, rename(2) does nothing
            return Outcome.MADE if arrived else Outcome.NOT_MADE
        crossed = intent.kind is ChangeKind.MOVE or here == (new.key, new.btime_ns)
        return Outcome.MADE if arrived and crossed else Outcome.UNKNOWN

    def _node(self, nodeid: int) -> Node:
        node = self._fs.nodes.find(nodeid)
        if node is None:
            raise KeyError(nodeid)
        return node

    def _inode_at(self, side: Side) -> tuple[int, int] | None:
        dirfd = self._fs.resolver.dirfd(self._node(side.parent))
        try:
            stat = self._fs.tree.stat(dirfd, side.name)
        except FileNotFoundError:
            return None
        return self._fs.nodes.key_of(stat), stat.btime_ns

    def _follow(self, intent: Intent) -> None:
        old, new = intent.old, intent.new
        parent = self._node(old.parent)
        if intent.kind is ChangeKind.REMOVAL:
            self._entries.drop(old.key, parent, old.name)
        if intent.kind is ChangeKind.NAME:
            for node in self._fs.nodes.same_inode(old.key):
                if node.btime_ns == old.btime_ns and node.ftype is FileType.REGULAR:
                    self._fs.nodes.add_name(node, parent, old.name)  # decisions are by all names
        if intent.kind not in {ChangeKind.MOVE, ChangeKind.EXCHANGE} or old.key == new.key:
            return
        target = self._node(new.parent)
        moved = self._fs.nodes.named(old.key, parent, old.name)
        if intent.kind is ChangeKind.EXCHANGE:
            there = self._fs.nodes.named(new.key, target, new.name)
            self._entries.give_name(there, (target, new.name), (parent, old.name))
        elif new.key:
            self._entries.drop(new.key, target, new.name)
        self._entries.give_name(moved, (parent, old.name), (target, new.name))
