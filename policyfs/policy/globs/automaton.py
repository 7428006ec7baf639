"""One automaton that matches paths, name by name, against all globs of a policy.

The globs form a trie of nodes, whose edges are the parts between slashes. The position of a path is the set
of nodes that it reaches: *free* nodes for every caller, *bound* nodes, behind ``{app}`` or ``{uid}``, for
callers that meet requirements (names.Bind). Equal positions of an automaton are one object, compared by
identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final
from weakref import WeakValueDictionary

from policyfs.policy.globs.names import (
    FREE,
    Bind,
    Captured,
    NameMatcher,
    Pattern,
    ascii_lower,
)
from policyfs.policy.globs.paths import CAPTURES, DEEP, End, Glob, Segment, Variant, Wild

MAX_BOUND: Final = 128
"""Maximum number of bound nodes at one path. With more, as on nested directories with numbers as names under
``/**/{uid}/**``, the path is lost: no caller is allowed anything. Otherwise apps could make steps ever
slower."""

_CAPTURES: Final = frozenset(CAPTURES.values())

Binds = frozenset[Bind]


class Node:
    """A node of the automaton.

    The targets of a name are the nodes to which it leads, with those that need no further name. literals,
    folded: by name (folded: in lower case). anything: of every name. accepts: the glob sets (the globs of one
    condition) that a path to here matches.
    """

    __slots__ = ("accepts", "anything", "captures", "folded", "literals", "number", "patterns")

    def __init__(self, number: int) -> None:
        self.number = number
        self.literals: dict[str, tuple[int, ...]] = {}
        self.folded: dict[str, tuple[int, ...]] = {}
        self.patterns: dict[Pattern, tuple[int, ...]] = {}
        self.captures: dict[Captured, tuple[int, ...]] = {}
        self.anything: tuple[int, ...] = ()
        self.accepts: list[int] = []

    def targets(self) -> set[int]:
        """Return all nodes to which some name leads from here."""
        found = set(self.anything)
        for edges in (self.literals, self.folded, self.patterns, self.captures):
            for reached in edges.values():
                found.update(reached)
        return found


_CAPTURE_UNITS: Final = 16
"""Cost of one bound node (Position.units): for a name of 220 bytes it takes about 1.4 KiB."""


class Position:
    """The nodes that a path reaches, without (free) and with (bound) requirements on the caller.

    free_accepts, bound_accepts: the glob sets that they accept. lost: True if there were too many
    (MAX_BOUND).
    """

    __slots__ = ("__weakref__", "bound", "bound_accepts", "free", "free_accepts", "lost")

    def __init__(
        self,
        free: frozenset[int],
        bound: frozenset[tuple[int, Bind]],
        free_accepts: frozenset[int],
        bound_accepts: dict[int, Binds],
        *,
        lost: bool,
    ) -> None:
        self.free = free
        self.bound = bound
        self.free_accepts = free_accepts
        self.bound_accepts = bound_accepts
        self.lost = lost

    @property
    def reached(self) -> list[int]:
        """All nodes that the path reaches for some caller."""
        return [*self.free, *(number for number, _ in self.bound)]

    @property
    def units(self) -> int:
        """Size of this position in tables of remembered answers."""
        return 1 + _CAPTURE_UNITS * len(self.bound)


class AutomatonBuilder:
    """A builder of the automaton: ``add`` takes the globs, and ``build`` makes the automaton."""

    def __init__(self, apps: frozenset[str]) -> None:
        self._apps = apps
        self._nodes: list[Node] = [Node(0)]
        self._epsilon: dict[int, list[int]] = {}
        self._edges: dict[tuple[int, Segment | End | str, bool], int] = {}

    def add(self, glob: Glob, accept: int, *, folded: bool) -> None:
        """Make the glob set *accept* match what *glob* matches. folded: True to ignore the case of ASCII."""
        at = 0
        for segment in glob.segments:
            at = self._deep(at) if segment is DEEP else self._segment(at, segment, folded=folded)
        if glob.end is not End.HERE:
            at = self._below(at, glob.end)
        accepts = self._nodes[at].accepts
        if accept not in accepts:
            accepts.append(accept)

    def build(self) -> Automaton:
        """Return the automaton. The builder cannot be used again."""
        for node in self._nodes:
            node.literals = {name: self._closed(to) for name, to in node.literals.items()}
            node.folded = {name: self._closed(to) for name, to in node.folded.items()}
            node.patterns = {pattern: self._closed(to) for pattern, to in node.patterns.items()}
            node.captures = {captured: self._closed(to) for captured, to in node.captures.items()}
            node.anything = self._closed(node.anything)
        root = self._closed((0,))
        while self._edges:  # one by one: freeing all at once would stop all threads for long
            self._edges.popitem()
        return Automaton(tuple(self._nodes), root, self._apps)

    def _closed(self, nodes: tuple[int, ...]) -> tuple[int, ...]:
        if len(nodes) < 2 and self._epsilon.keys().isdisjoint(nodes):
            return nodes
        found: dict[int, None] = {}
        todo = list(nodes)
        while todo:
            node = todo.pop()
            if node not in found:
                found[node] = None
                todo.extend(self._epsilon.get(node, ()))
        return tuple(sorted(found))

    def _new(self) -> Node:
        node = Node(len(self._nodes))
        self._nodes.append(node)
        return node

    def _looping(self) -> Node:
        node = self._new()
        node.anything = (node.number,)
        return node

    def _deep(self, at: int) -> int:
        key = (at, DEEP, False)
        if key not in self._edges:
            node = self._looping()
            self._epsilon.setdefault(at, []).append(node.number)
            self._edges[key] = node.number
        return self._edges[key]

    def _below(self, at: int, end: End) -> int:
        key = (at, end, False)
        if key not in self._edges:
            node = self._looping()
            if end is End.HERE_AND_BELOW:
                self._epsilon.setdefault(at, []).append(node.number)
            else:
                self._nodes[at].anything += (node.number,)
            self._edges[key] = node.number
        return self._edges[key]

    def _segment(self, at: int, segment: Segment, *, folded: bool) -> int:
        key = (at, segment.plain or segment, folded)
        known = self._edges.get(key)
        if known is not None:
            return known
        child = self._edges[key] = self._new().number
        if segment.plain and not folded and segment.plain not in self._nodes[at].literals:
            self._nodes[at].literals[segment.plain] = (child,)
            return child
        for variant in segment.variants:
            self._edge(self._nodes[at], variant, child, folded=folded)
        return child

    @staticmethod
    def _edge(node: Node, variant: Variant, child: int, *, folded: bool) -> None:
        literal = "".join(token for token in variant if isinstance(token, str))
        if len(literal) == len(variant):
            if folded:
                lower = ascii_lower(literal)
                node.folded[lower] = (*node.folded.get(lower, ()), child)
            else:
                node.literals[literal] = (*node.literals.get(literal, ()), child)
        elif variant == (Wild.RUN,):
            node.anything += (child,)
        elif _CAPTURES.isdisjoint(variant):
            pattern = Pattern(variant, folded)
            node.patterns[pattern] = (*node.patterns.get(pattern, ()), child)
        else:
            captured = Captured(variant, folded)
            node.captures[captured] = (*node.captures.get(captured, ()), child)


class Automaton:
    """The automaton of a policy."""

    def __init__(self, nodes: tuple[Node, ...], root: tuple[int, ...], apps: frozenset[str]) -> None:
        self.nodes: Final = nodes
        self.apps: Final = apps
        self._matchers: Final[dict[int, NameMatcher]] = {}
        self._folds: Final = any(node.folded for node in nodes)
        self._positions: Final[
            WeakValueDictionary[tuple[frozenset[int], frozenset[tuple[int, Bind]]], Position]
        ] = WeakValueDictionary()
        self.lost: Final = Position(frozenset(), frozenset(), frozenset(), {}, lost=True)
        self.root: Final = self._intern(frozenset(root), frozenset())
        before: list[list[int]] = [[] for _ in nodes]
        accepting: dict[int, list[int]] = {}
        for node in nodes:
            for target in node.targets():
                before[target].append(node.number)
            for accept in node.accepts:
                accepting.setdefault(accept, []).append(node.number)
        self._before: Final = before
        self._accepting: Final = accepting

    def leading_to(self, accepts: AbstractSet[int]) -> frozenset[int]:
        """Return the nodes from which one or more names lead to one of the glob sets *accepts*."""
        found: set[int] = set()
        todo = [number for accept in accepts for number in self._accepting.get(accept, ())]
        while todo:
            for before in self._before[todo.pop()]:
                if before not in found:
                    found.add(before)
                    todo.append(before)
        return frozenset(found)

    def accepts_below(self, nodes: Iterable[int]) -> set[int]:
        """Return the glob sets that one or more names reach from these nodes."""
        seen: set[int] = set()
        todo = list(nodes)
        while todo:
            new = self.nodes[todo.pop()].targets() - seen
            seen |= new
            todo.extend(new)
        return {accept for number in seen for accept in self.nodes[number].accepts}

    def just_before(self, accepts: AbstractSet[int]) -> frozenset[int]:
        """Return the nodes from which a name leads to a node that accepts one of the glob sets *accepts*."""
        accepting = (number for accept in accepts for number in self._accepting.get(accept, ()))
        return frozenset(before for number in accepting for before in self._before[number])

    def step_of_all(self, position: Position) -> Position:
        """Return the position with the nodes that every name in the directory reaches."""
        if position.lost:
            return position
        free = {target for number in position.free for target in self.nodes[number].anything}
        bound = {(target, bind) for number, bind in position.bound for target in self.nodes[number].anything}
        return self._intern(frozenset(free), _undominated(free, bound))

    def may_lose(self, position: Position) -> bool:
        """Return True if a name in the directory may be lost (MAX_BOUND)."""
        bound = sum(len(to) for number in position.reached for to in self.nodes[number].captures.values())
        bound += sum(len(self.nodes[number].targets()) for number, _ in position.bound)
        return position.lost or bound > MAX_BOUND

    def step(self, position: Position, text: str) -> Position:
        """Return the position of the name *text* (names.text_of) in the directory at this position."""
        if position.lost:
            return position
        lower = ascii_lower(text) if self._folds else text
        free: set[int] = set()
        bound: set[tuple[int, Bind]] = set()
        for number in position.free:
            node = self.nodes[number]
            self._advance(node, text, lower, free)
            if node.captures:
                bound.update(self._captured(node, text, FREE))
        for number, bind in position.bound:
            node = self.nodes[number]
            reached: set[int] = set()
            self._advance(node, text, lower, reached)
            bound.update((target, bind) for target in reached)
            if node.captures:
                bound.update(self._captured(node, text, bind))
        return self._intern(frozenset(free), _undominated(free, bound))

    def targets(self, number: int, text: str) -> set[int]:
        """Return the nodes to which a name leads from one node, without captures."""
        found: set[int] = set()
        self._advance(self.nodes[number], text, ascii_lower(text) if self._folds else text, found)
        return found

    def _advance(self, node: Node, text: str, lower: str, into: set[int]) -> None:
        into.update(node.anything)
        if node.literals:
            into.update(node.literals.get(text, ()))
        if node.folded:
            into.update(node.folded.get(lower, ()))
        if node.patterns:
            for pattern in self._matcher(node).matching(text):
                into.update(node.patterns[pattern])

    def _matcher(self, node: Node) -> NameMatcher:
        matcher = self._matchers.get(node.number)
        if matcher is None:
            matcher = self._matchers[node.number] = NameMatcher(node.patterns)
        return matcher

    def _captured(self, node: Node, text: str, bind: Bind) -> Iterator[tuple[int, Bind]]:
        for captured, reached in node.captures.items():
            found = captured.bind(text, bind, self.apps)
            if found is not None:
                for target in reached:
                    yield target, found

    def resolved(self, position: Position, app: str | None, uid: int | None) -> Position:
        """Return the position for one caller: bound nodes become free, or are removed. So only the policy,
        not names in paths, determines how many positions one caller has."""
        if not position.bound:
            return position
        own = (number for number, bind in position.bound if app is not None and bind.fits(app, uid))
        return self._intern(position.free.union(own), frozenset())

    def _intern(self, free: frozenset[int], bound: frozenset[tuple[int, Bind]]) -> Position:
        if len(bound) > MAX_BOUND:
            return self.lost
        key = (free, bound)
        position = self._positions.get(key)
        if position is None:
            accepts = frozenset(a for number in free for a in self.nodes[number].accepts)
            bound_accepts: dict[int, set[Bind]] = {}
            for number, bind in bound:
                for accept in self.nodes[number].accepts:
                    if accept not in accepts:
                        bound_accepts.setdefault(accept, set()).add(bind)
            position = Position(
                free,
                bound,
                accepts,
                {accept: frozenset(binds) for accept, binds in bound_accepts.items()},
                lost=False,
            )
            self._positions[key] = position
        return position


def _undominated(free: set[int], bound: set[tuple[int, Bind]]) -> frozenset[tuple[int, Bind]]:
    kept = {(number, bind) for number, bind in bound if number not in free}
    if len(kept) < 2 or len({number for number, _ in kept}) == len(kept):
        return frozenset(kept)
    return frozenset(
        (number, bind)
        for number, bind in kept
        if not any((number, weaker) in kept for weaker in bind.weaker())
    )
