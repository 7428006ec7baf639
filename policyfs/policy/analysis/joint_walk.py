"""A walk over all classes of paths in one or more policies, for many callers at once.

The paths of a class have the same rules for these callers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.policy.analysis.partition import Part, Partition
from policyfs.policy.analysis.sides import numbers_of
from policyfs.policy.analysis.tracks import Callers, Nodes, Track
from policyfs.policy.analysis.walk import MAX_PLACES, Hidden, Path, hidden_below, names_of
from policyfs.policy.globs.classes import Known, TooHardError, names_out_of
from policyfs.policy.rules.table import Live, hides

MAX_JOINT_PLACES: Final = 50_000
"""Maximum number of classes of paths in a walk for many callers together. If there are more, the walk begins
again with half of the callers at a time."""

Hiders = tuple[tuple[int, int], ...]
"""The rules that hide a place (class of paths) because they hide a directory above it. Each rule is a pair:
the policy (0: old, 1: new), and the rule's number."""


class Spot(NamedTuple):
    """A class of paths, for a set of callers.

    path: a sample path. nodes: the nodes of each policy's automaton that this path reaches. hidden: the ways
    in which directories above hide the class (walk.Hidden), the same for all these callers. hiders: the rules
    that hide the class. top: True for the root.
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
        return names_of(self.path)

    @property
    def mixed(self) -> bool:
        """True if only one of the policies hides the place, for some owners of the directories above."""
        return any(len(set(way)) > 1 for way in self.hidden)


Matters = Callable[[Spot], Callers]
"""A function that gets a class of paths, and returns the callers for whom the walk must yield this class."""


class JointWalk:
    """A walk over the classes of paths that matter for some callers, or that lead to such classes.

    The argument *matters* of the constructor decides which classes matter.
    """

    def __init__(
        self, tracks: Sequence[Track], matters: Callable[[], Matters], most: int = MAX_JOINT_PLACES
    ) -> None:
        """Prepare a walk over classes of paths. most: the maximum number of classes (MAX_JOINT_PLACES).

        matters: a function that returns the function Matters as it is now. (Each finding can change the
        function Matters.) The walk calls *matters* for each class. After the walk has yielded a class, it
        calls *matters* again for the classes below.
        """
        self._tracks: Final = tracks
        self._partition: Final = Partition(tracks)
        self._known: Final[Known] = tracks[0].compiled.name_classes
        self._matters: Final = matters
        self._most: Final = most

    def spots(self) -> Iterator[tuple[Spot, list[Part]]]:
        """Yield classes of paths, each with parts: callers for whom the same rules match. Raise TooHardError.

        For one caller, each class comes once. If there are too many classes for many callers together, the
        walk begins again with half of the callers at a time.
        """
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

    def _spots(self, callers: Callers, most: int) -> Iterator[tuple[Spot, list[Part]]]:
        """Yield the classes of paths for some callers, nearest to the root first.

        Raise TooHardError beyond *most*.
        """
        shown: Hidden = {tuple(False for _ in self._tracks): ()}
        root = Spot(None, tuple(t.root(callers) for t in self._tracks), callers, shown, (), True)
        seen: set[tuple[object, ...]] = set()
        opened: set[tuple[object, ...]] = set()
        todo: deque[Iterator[Spot]] = deque([iter((root,))])
        while todo:
            for spot in todo.popleft():
                if self._matters()(spot):
                    parts = self._partition.parts(spot.nodes, spot.callers)
                    yield spot, parts
                    todo.append(self._new(self._below_once(spot, parts, self._matters(), opened), seen, most))

    @staticmethod
    def _new(spots: Iterable[Spot], seen: set[tuple[object, ...]], most: int) -> Iterator[Spot]:
        """Yield the classes of paths not reached before. Raise TooHardError beyond *most*."""
        for spot in spots:
            key = (spot.nodes, spot.callers, frozenset(spot.hidden))
            if key not in seen:
                seen.add(key)
                if len(seen) > most:
                    raise TooHardError
                yield spot

    def _below_once(
        self, spot: Spot, parts: list[Part], matters: Matters, opened: set[tuple[object, ...]]
    ) -> Iterator[Spot]:
        """Yield the classes of paths one name below a class. A class is made only when the walk reaches it.

        opened: the keys of the classes whose lower classes were yielded already.
        """
        for below in self._below(spot, parts):
            key = self._key(below)
            if key not in opened:  # another place can have the same places below: yield them once
                opened.add(key)
                yield from self._children(below, matters)

    def _key(self, spot: Spot) -> tuple[object, ...]:
        """Return a value with all that decides on the classes of paths below a class."""
        exits = (
            tuple((number, who & spot.callers) for number, who in nodes if number in track.exits)
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
        )
        return (*exits, spot.callers, frozenset(spot.hidden))

    def _below(self, spot: Spot, parts: list[Part]) -> list[Spot]:
        """Return copies of a class of paths: one for each set of rules that hide the paths below it.

        Each copy has the callers to whom these rules apply.
        """
        if spot.top:
            return [spot]
        ways: dict[tuple[tuple[Live, ...], ...], Callers] = {}
        for part in parts:
            hiding = tuple(tuple(live for live, _ in lives if hides(live.rule)) for lives in part.lives)
            ways[hiding] = ways.get(hiding, 0) | part.callers
        found = []
        for hiding, callers in ways.items():
            hidden, hiders = hidden_below(spot.hidden, hiding), spot.hiders
            if any(hiding):
                more = ((index, live.number) for index, lives in enumerate(hiding) for live in lives)
                hiders = tuple(dict.fromkeys((*hiders, *more)))
            found.append(spot._replace(callers=callers, hidden=hidden, hiders=hiders))
        return found

    def _children(self, spot: Spot, matters: Matters) -> Iterator[Spot]:
        """Yield the classes of paths one name below a class: one for each class of names."""
        edges = (
            edge
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
            for edge in track.edges(nodes, spot.callers)
        )
        for name in names_out_of(edges, self._known):
            nodes = tuple(
                track.step(nodes, name, spot.callers)
                for track, nodes in zip(self._tracks, spot.nodes, strict=True)
            )
            child = Spot((spot.path, name), nodes, spot.callers, spot.hidden, spot.hiders, False)
            callers = matters(child) & spot.callers
            if callers:
                yield child if callers == spot.callers else child._replace(
                    nodes=tuple(_only(some, callers) for some in nodes), callers=callers
                )


def _only(nodes: Nodes, callers: Callers) -> Nodes:
    return tuple((number, who & callers) for number, who in nodes if who & callers)
