"""A walk over all classes of paths in one or more policies, for one or many callers."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Facts
from policyfs.policy.analysis.partition import Part, Partition
from policyfs.policy.analysis.sides import numbers_of
from policyfs.policy.analysis.tracks import Callers, Nodes, Track
from policyfs.policy.globs.classes import TooHardError, names_out_of
from policyfs.policy.rules.table import Live, hides

MAX_PLACES: Final = 200_000
"""Maximum number of classes of paths for one caller. With more, TooHardError is raised."""

MAX_JOINT_PLACES: Final = 50_000
"""Maximum number of classes for many callers together; with more, the walk tries half of the callers."""

Path = tuple["Path", str] | None

Hidden = Mapping[tuple[bool, ...], tuple[str | None, ...]]
"""For each way (for each policy: hidden?), owners of the directories above that make it."""

Hiders = tuple[tuple[int, int], ...]
"""The rules that hide a directory above: the policy (0: old, 1: new), and the rule's number."""


class Spot(NamedTuple):
    """A class of paths, for a set of callers.

    path: a sample. nodes: those that it reaches, in each policy. hidden: the ways in which directories above
    hide it, the same for all these callers. top: True for the root.
    """

    path: Path
    nodes: tuple[Nodes, ...]
    callers: Callers
    hidden: Hidden
    hiders: Hiders
    top: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sample path, from the root down."""
        found, path = [], self.path
        while path is not None:
            path, name = path
            found.append(name)
        return tuple(reversed(found))

    @property
    def mixed(self) -> bool:
        """True if only one of the policies hides the paths, for some owners of the directories above."""
        return any(len(set(way)) > 1 for way in self.hidden)

    @property
    def may_be_hidden(self) -> bool:
        """True if some policy hides the paths, for some owners of the directories above."""
        return any(any(way) for way in self.hidden)


Matters = Callable[[Spot], Callers]
"""A function that gets a class of paths, and returns the callers for whom the walk must yield this class."""


class Walk:
    """A walk over the classes of paths that matter for some callers, or that lead to such classes."""

    def __init__(self, tracks: Sequence[Track], matters: Matters, most: int = MAX_JOINT_PLACES) -> None:
        """Prepare a walk. most: see MAX_JOINT_PLACES. matters: decides which classes matter. It may be set
        anew between two classes: what was set after a class was yielded counts for the classes below it."""
        self._tracks: Final = tracks
        self._partition: Final = Partition(tracks)
        self.matters = matters
        self._most: Final = most
        self._parts: tuple[Spot | None, list[Part]] = None, []

    def parts(self, spot: Spot) -> list[Part]:
        """Return the parts of a class of paths: callers for whom the same rules match."""
        if self._parts[0] is not spot:
            self._parts = spot, self._partition.parts(spot.nodes, spot.callers)
        return self._parts[1]

    def spots(self) -> Iterator[Spot]:
        """Yield classes of paths, each at least once for each caller. Raise TooHardError."""
        todo = [self._tracks[0].everyone]
        while todo:
            callers = todo.pop()
            alone = callers & (callers - 1) == 0
            try:
                yield from self._spots(callers, MAX_PLACES if alone else self._most)
            except TooHardError:
                if alone:
                    raise
                half = sum(1 << at for at in list(numbers_of(callers))[1::2])
                todo += [half, callers & ~half]

    def _spots(self, callers: Callers, most: int) -> Iterator[Spot]:
        shown: Hidden = {tuple(False for _ in self._tracks): ()}
        root = Spot(None, tuple(t.root(callers) for t in self._tracks), callers, shown, (), True)
        seen: set[tuple[object, ...]] = set()
        opened: set[tuple[object, ...]] = set()
        todo: deque[Iterator[Spot]] = deque([iter((root,))])
        while todo:
            for spot in todo.popleft():
                if self.matters(spot):
                    yield spot
                    below = self._below_once(self._below(spot), self.matters, opened)
                    todo.append(self._new(below, seen, most))

    @staticmethod
    def _new(spots: Iterable[Spot], seen: set[tuple[object, ...]], most: int) -> Iterator[Spot]:
        for spot in spots:
            key = (spot.nodes, spot.callers, frozenset(spot.hidden))
            if key not in seen:
                seen.add(key)
                if len(seen) > most:
                    raise TooHardError
                yield spot

    def _below_once(
        self, copies: Iterable[Spot], matters: Matters, opened: set[tuple[object, ...]]
    ) -> Iterator[Spot]:
        for below in copies:
            key = self._key(below)
            if key not in opened:  # another place can have the same places below: yield them once
                opened.add(key)
                yield from self._children(below, matters)

    def _key(self, spot: Spot) -> tuple[object, ...]:
        exits = (
            tuple((number, who & spot.callers) for number, who in nodes if track.compiled.targets[number])
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
        )
        return (*exits, spot.callers, frozenset(spot.hidden))

    def _below(self, spot: Spot) -> list[Spot]:
        """Return copies of a class: one for each set of rules that hide the paths below."""
        if spot.top:
            return [spot]
        if not any(
            track.compiled.alive([number for number, _ in nodes]) & track.compiled.hiding
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
        ):
            return [spot._replace(hidden={way: (*own, OWNER_NONE) for way, own in spot.hidden.items()})]
        ways: dict[tuple[tuple[Live, ...], ...], Callers] = {}
        for part in self.parts(spot):
            hiding = tuple(tuple(live for live, _ in lives if hides(live.rule)) for lives in part.lives)
            ways[hiding] = ways.get(hiding, 0) | part.callers
        found = []
        for hiding, callers in ways.items():
            hidden, hiders = _hidden_below(spot.hidden, hiding), spot.hiders
            if any(hiding):
                more = ((index, live.number) for index, lives in enumerate(hiding) for live in lives)
                hiders = tuple(dict.fromkeys((*hiders, *more)))
            found.append(spot._replace(callers=callers, hidden=hidden, hiders=hiders))
        return found

    def _children(self, spot: Spot, matters: Matters) -> Iterator[Spot]:
        edges = (
            edge
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
            for edge in track.edges(nodes, spot.callers)
        )
        for name in names_out_of(edges, self._tracks[0].compiled.name_classes):
            nodes = tuple(
                track.step(nodes, name, spot.callers)
                for track, nodes in zip(self._tracks, spot.nodes, strict=True)
            )
            child = Spot((spot.path, name), nodes, spot.callers, spot.hidden, spot.hiders, False)
            callers = matters(child) & spot.callers
            if callers:
                yield (
                    child
                    if callers == spot.callers
                    else child._replace(nodes=tuple(_only(some, callers) for some in nodes), callers=callers)
                )


def _only(nodes: Nodes, callers: Callers) -> Nodes:
    return tuple((number, who & callers) for number, who in nodes if who & callers)


def _hidden_below(above: Hidden, hiding: Sequence[Sequence[Live]]) -> Hidden:
    """Return the ways in which directories can hide the paths below. hiding: the rules of this one."""
    own: dict[tuple[bool, ...], str | None] = {}
    for owner in _owners(hiding):
        facts = Facts(KIND_DIRECTORY, owner)
        own.setdefault(tuple(any(live.match(facts) for live in lives) for lives in hiding), owner)
    found: dict[tuple[bool, ...], tuple[str | None, ...]] = {}
    for (way, owners), (here, owner) in itertools.product(above.items(), own.items()):
        both = tuple(one or other for one, other in zip(way, here, strict=True))
        found.setdefault(both, (*owners, owner))
    return found


def _owners(hiding: Iterable[Sequence[Live]]) -> list[str | None]:
    """Return sample owners: one of every class that the rules distinguish. Ordinary owners come first."""
    named = {o for lives in hiding for live in lives for c in live.conditions() for o in c.owners or ()}
    return [OWNER_NONE, *sorted(named - {OWNER_NONE}), "\0app", None]
