"""A walk over all classes of paths, for one caller in one policy or in two policies.

A class consists of all paths that the rules treat alike for the caller.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Facts
from policyfs.policy.analysis.sides import Side
from policyfs.policy.globs.automaton import Position
from policyfs.policy.globs.classes import TooHardError, joint_name_classes
from policyfs.policy.globs.names import bytes_of
from policyfs.policy.rules.table import Live

MAX_PLACES: Final = 200_000
"""Maximum number of classes of paths for one caller. With more, TooHardError is raised."""

_NICE: Final = ("x", "y", "other", "q", "Z", "xyz", "new-name")

Path = tuple["Path", str] | None
"""A path: the path of its directory, and its last name. None stands for the root."""


def names_of(path: Path) -> tuple[str, ...]:
    """Return the names of a path, from the root down."""
    found = []
    while path is not None:
        path, name = path
        found.append(name)
    return tuple(reversed(found))


Hidden = Mapping[tuple[bool, ...], tuple[str | None, ...]]
"""The ways in which directories above can hide a place (class of paths), depending on the owners of these
directories. Key: for each policy, True if it hides the place. Value: one owner for each directory, so that
the place is hidden in this way."""


def may_be_hidden(hidden: Hidden) -> bool:
    """True if some policy hides a place (class of paths) for some owners of the directories above it."""
    return any(any(way) for way in hidden)


class Place(NamedTuple):
    """A class of paths that the rules treat alike: a sample path, and its position in each policy's
    automaton.

    hidden: the ways in which directories above can hide the place. top: True for the root.
    """

    path: Path
    positions: tuple[Position, ...]
    hidden: Hidden
    top: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sample path, from the root down."""
        return names_of(self.path)


class Walk:
    """All places (classes of paths) that the rules about a caller distinguish, nearest to the root first."""

    def __init__(self, sides: tuple[Side, ...], most: int = MAX_PLACES) -> None:
        self._sides: Final = sides
        self._most: Final = most

    def root(self) -> Place:
        """Return the place that consists of the mount's root."""
        shown: Hidden = {tuple(False for _ in self._sides): ()}
        return Place(None, tuple(side.root for side in self._sides), shown, True)

    def places(self, into: Callable[[Place], bool], start: Place | None = None) -> Iterator[Place]:
        """Yield the places (classes of paths) at and below *start*, or all places. Raise TooHardError.

        into: a function that returns True if the walk must go on below a place.
        """
        seen: set[tuple[tuple[Position, ...], frozenset[tuple[bool, ...]]]] = set()
        todo = deque([start or self.root()])
        while todo:
            place = todo.popleft()
            yield place
            if not into(place):
                continue
            for child in self.children(place):
                key = (child.positions, frozenset(child.hidden))
                if key not in seen:
                    seen.add(key)
                    if len(seen) > self._most:
                        raise TooHardError
                    todo.append(child)

    def children(self, place: Place) -> Iterator[Place]:
        """Yield the places (classes of paths) one name below a place: one for each class of names."""
        hidden = self._hidden_below(place)
        for name in self._names(place):
            positions = tuple(
                side.step(position, name)
                for side, position in zip(self._sides, place.positions, strict=True)
            )
            yield Place((place.path, name), positions, hidden, False)

    def _names(self, place: Place) -> list[str]:
        return joint_name_classes(
            (side.edges(position) for side, position in zip(self._sides, place.positions, strict=True)),
            self._sides[0].compiled.name_classes,
        )

    def _hidden_below(self, place: Place) -> Hidden:
        """Return the ways in which a place, or directories above it, hide the paths below it."""
        if place.top:
            return place.hidden
        hiding = [
            side.hiding(position, top=False)
            for side, position in zip(self._sides, place.positions, strict=True)
        ]
        return hidden_below(place.hidden, hiding)

    def spelled(self, place: Place) -> tuple[bytes, ...]:
        """Return the sample path of a place, with names that a person would write."""
        return self.spelled_names(place.names)

    def spelled_names(self, names: Iterable[str]) -> tuple[bytes, ...]:
        """Return the names of a sample path. Made-up names become names that a person would write."""
        at = tuple(side.root for side in self._sides)
        found = []
        for name in names:
            child = self._step(at, name)
            if is_made_up(name):
                nice = (name.translate({ord(char): one for char in name if _odd(char)}) for one in _NICE)
                name = next((one for one in nice if self._step(at, one) == child), name)
            found.append(bytes_of(name))
            at = child
        return tuple(found)

    def _step(self, at: tuple[Position, ...], name: str) -> tuple[Position, ...]:
        return tuple(side.step(position, name) for side, position in zip(self._sides, at, strict=True))


def hidden_below(above: Hidden, hiding: Sequence[Sequence[Live]]) -> Hidden:
    """Return the ways in which directories can hide the paths below a directory.

    above: the ways in which the directory itself is hidden. hiding: for each policy, the rules by which the
    directory can hide the paths below it.
    """
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


def _odd(char: str) -> bool:
    return "\ue000" <= char <= "\uf8ff"


def is_made_up(name: str) -> bool:
    """Return True if a sample name is made up: it stands for names that no glob contains literally."""
    return any(map(_odd, name))
