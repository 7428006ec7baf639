"""Directories that hide all paths below because of their owner.

So a request deep in a tree depends on the owner of each directory above. This module remembers these owners,
and for each principal and directory whether one hides the names in it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, Decision, Facts, Principal
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import UNWATCHED_S, Resolver
from policyfs.fs.path_bounds import PathTooLongError
from policyfs.policy.decide import PathState
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree

_ANSWERS: Final = 1 << 14
"""The limit of remembered answers about directories. At this limit, all answers are forgotten."""

Chain = list[tuple[PathState, Facts]]
Decide = Callable[[Principal, Chain], Decision | None]
"""A function of a principal and the directories of a path that returns the denial by one of them."""


class _Owner(NamedTuple):
    """A directory's owner, and the time at which it was read (time.monotonic())."""

    name: str
    read_s: float


class _Answer(NamedTuple):
    """A remembered answer, for as long as moves, reloads and owners have these *counts*."""

    denial: Decision | None
    counts: tuple[int, int, int, int]
    since_s: float


class HidingOwners:
    """A cache of the owners of directories, and of the denials that follow from these owners. watched:
    returns True if a watch reports changes of owners."""

    def __init__(
        self,
        tree: Tree,
        nodes: NodeTable,
        resolver: Resolver,
        owners: Owners,
        watched: Callable[[], bool],
    ) -> None:
        self._tree = tree
        self._nodes = nodes
        self._resolver = resolver
        self._owners = owners
        self._watched = watched
        self._known: dict[int, _Owner] = {}
        self._answers: dict[tuple[int, int], _Answer] = {}
        self._changes = 0
        nodes.tell_of_gone(self._gone)

    def _gone(self, node: Node) -> None:
        self._known.pop(node.nodeid, None)

    def changed(self, node: Node) -> None:
        """Forget the owner of a directory after another program has changed the directory's attributes."""
        if self._known.pop(node.nodeid, None) is not None:
            self._changes += 1

    def changed_all(self) -> None:
        """Forget all owners after the watch has lost events: any owner may have changed."""
        self._known.clear()
        self._changes += 1

    def hidden(self, who: Principal, parent: Node, generation: int, decide: Decide) -> Decision | None:
        """Return the denial if the owner of *parent* or of a directory above hides the names in it, else
        None. generation: the policy's. Raise OSError (ESTALE) if the path no longer leads to *parent*."""
        if parent.out_of_reach:
            raise PathTooLongError(parent.name)
        self._resolver.dirfd(parent)
        counts = (generation, self._nodes.moves, self._resolver.moves, self._changes)
        answer = self._answers.get((parent.nodeid, who.key))
        if answer is not None and answer.counts == counts and self._is_current(answer.since_s):
            return answer.denial
        chain, since_s = self._chain(parent)
        denial = decide(who, chain)
        if len(self._answers) >= _ANSWERS:
            self._answers.clear()
        self._answers[parent.nodeid, who.key] = _Answer(denial, counts, since_s)
        return denial

    def _is_current(self, read_s: float) -> bool:
        return self._watched() or time.monotonic() - read_s < UNWATCHED_S

    def _chain(self, parent: Node) -> tuple[Chain, float]:
        """Return the directories down to *parent* with their owners, and the time of the oldest look."""
        nodes: list[Node] = []
        at = parent
        while at.parent is not None:
            nodes.append(at)
            at = at.parent
        nodes.reverse()
        self._read(nodes, time.monotonic())
        chain: Chain = []
        since_s = math.inf
        for node in nodes:
            owner = self._known[node.nodeid]
            chain.append((node.state, Facts(KIND_DIRECTORY, owner.name)))
            since_s = min(since_s, owner.read_s)
        return chain, since_s

    def _read(self, nodes: list[Node], now_s: float) -> None:
        """Read the unknown owners of a chain, by own descriptors: the Resolver may close its at any time."""
        unknown = [self._is_unknown(node) for node in nodes]
        if True not in unknown:
            return
        first = unknown.index(True)
        fd = os.dup(self._resolver.dirfd(self._nodes.root if first == 0 else nodes[first - 1]))
        try:
            for node, is_unknown in zip(nodes[first:], unknown[first:], strict=True):
                inner = self._tree.open_dir(fd, node.name)
                os.close(fd)
                fd = inner
                stat = self._tree.fstat(fd)
                if not self._nodes.is_same(node, stat):
                    raise StaleNodeError
                if is_unknown:
                    self._known[node.nodeid] = _Owner(self._owners.get(fd, stat), now_s)
        except (FileNotFoundError, NotADirectoryError):
            raise StaleNodeError from None
        finally:
            os.close(fd)

    def _is_unknown(self, node: Node) -> bool:
        known = self._known.get(node.nodeid)
        return known is None or not self._is_current(known.read_s)
