"""A walk over all classes of paths in two policies, for many callers at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.policy.analysis.partition import Part, Partition
from policyfs.policy.analysis.tracks import Callers, Nodes, Track
from policyfs.policy.analysis.walk import Hidden, Path, hidden_below, names_of
from policyfs.policy.classes import Known, TooHardError, names_out_of
from policyfs.policy.table import Live, hides

Hiders = tuple[tuple[int, int], ...]
"""Rules that hide a place by the directories above: the side and the number of each."""


class Spot(NamedTuple):
    """A class of paths: a sample path, and the nodes on each side, for a set of callers.

    hidden: as of walk.Place, the same for all of them. hiders: the rules by which it is.
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
    def may_be_hidden(self) -> bool:
        """True if some owners of the directories above hide the place on some side."""
        return any(any(way) for way in self.hidden)

    @property
    def mixed(self) -> bool:
        """True if some owners of the directories above hide the place on one side only."""
        return any(len(set(way)) > 1 for way in self.hidden)


class JointWalk:
    """All classes of paths at or below which two policies may differ for some of the callers."""

    def __init__(self, tracks: Sequence[Track], partition: Partition, names: Known) -> None:
        """names: remembers classes of names."""
        self._tracks: Final = tracks
        self._partition: Final = partition
        self._known: Final = names

    def spots(self, callers: Callers, most: int) -> Iterator[tuple[Spot, list[Part]]]:
        """Yield the places nearest to the root first, each with its callers, parted by the rules that match.

        Each class of paths comes once. Raises TooHardError if there are more than ``most``.
        """
        shown: Hidden = {tuple(False for _ in self._tracks): ()}
        root = Spot(None, tuple(t.root(callers) for t in self._tracks), callers, shown, (), True)
        seen: set[tuple[object, ...]] = set()
        opened: set[tuple[object, ...]] = set()
        todo = deque([root] if self._differing(root) else [])
        while todo:
            spot = todo.popleft()
            parts = self._partition.parts(spot.nodes, spot.callers)
            yield spot, parts
            for below in self._below(spot, parts):
                key = self._key(below)
                if key in opened:  # it differs only in rules that end here
                    continue
                opened.add(key)
                for child in self._children(below):
                    key = (child.nodes, child.callers, frozenset(child.hidden))
                    if key not in seen:
                        seen.add(key)
                        if len(seen) > most:
                            raise TooHardError
                        todo.append(child)

    def _differing(self, spot: Spot) -> Callers:
        """Return the callers for whom the policies may differ at a place or below."""
        if spot.mixed:
            return spot.callers
        found = 0
        for track, nodes in zip(self._tracks, spot.nodes, strict=True):
            found |= track.differing(nodes)
        return found & spot.callers

    def _key(self, spot: Spot) -> tuple[object, ...]:
        """Return all that the places below depend on."""
        exits = (
            tuple((number, who & spot.callers) for number, who in nodes if number in track.exits)
            for track, nodes in zip(self._tracks, spot.nodes, strict=True)
        )
        return (*exits, spot.callers, frozenset(spot.hidden))

    def _below(self, spot: Spot, parts: list[Part]) -> list[Spot]:
        """Return the place once for each way in which it hides what is below it from its callers."""
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

    def _children(self, spot: Spot) -> Iterator[Spot]:
        """Yield the places one name below, one for each class of names."""
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
            callers = self._differing(child)
            if callers:
                yield child if callers == spot.callers else child._replace(
                    nodes=tuple(_only(some, callers) for some in nodes), callers=callers
                )


def _only(nodes: Nodes, callers: Callers) -> Nodes:
    return tuple((number, who & callers) for number, who in nodes if who & callers)
