"""Directories that hide what is below them by their owner, looked at from below.

A rule may hide all that is below a directory by who owns it, so that a request deep in a tree hangs on
the owner of each directory above. Owners are remembered with the directory, and the answer with the
one that was asked about, so that this costs no look at the store for each level of each request.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, Decision, Facts, Principal
from policyfs.fs.access.facts import OwnerSource
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import UNWATCHED_S, Resolver
from policyfs.fs.path_bounds import PathTooLongError
from policyfs.policy.decide import PathState
from policyfs.store.tree import Tree

_ANSWERS: Final = 1 << 14
"""How many answers are remembered; beyond that all are forgotten."""

Chain = list[tuple[PathState, Facts]]
Decide = Callable[[Principal, Chain], Decision | None]
"""The policy's denial, if one of some directories hides what is below it, root first."""


class _Owner(NamedTuple):
    """A directory's owner, and when it was read (of time.monotonic())."""

    name: str
    read_s: float


class _Answer(NamedTuple):
    """What was decided, as of which counts, and when (of time.monotonic())."""

    denial: Decision | None
    counts: tuple[int, int, int, int]
    since_s: float


class HidingOwners:
    """Remembers the owners of directories. watched: does a watch report when one changes."""

    def __init__(
        self,
        tree: Tree,
        nodes: NodeTable,
        resolver: Resolver,
        owners: OwnerSource,
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
        """The attributes of a directory changed elsewhere, maybe its owner."""
        if self._known.pop(node.nodeid, None) is not None:
            self._changes += 1

    def changed_all(self) -> None:
        """Events were lost: any owner may be another one now."""
        self._known.clear()
        self._changes += 1

    def hidden(self, who: Principal, parent: Node, generation: int, decide: Decide) -> Decision | None:
        """The denial, if *parent* or a directory above it hides what is in *parent* by its owner.

        generation: the policy's. Raises OSError(ESTALE) if the path does not lead there any more.
        """
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
        """The directories from the root down to *parent* with their owners, and when the oldest was read."""
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
        """Read the owners that are not known, of directories that lead one to the next from the root.

        INVARIANT: with descriptors of its own, since those of Places may be closed by others' coming.
        """
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
