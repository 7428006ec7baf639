"""Lives of files: all events of each file in a trail, also under names before and after renames (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from policyfs.errors import CONTENT_REFUSED
from policyfs.trail.lines.event import DENY, Event

Item = TypeVar("Item")

NAMES: Final = 1000
"""The limit of names of one file that other_names() returns."""

MAKES: Final = frozenset({"create", "mkdir", "mknod", "symlink"})
REMOVES: Final = frozenset({"unlink", "rmdir"})
MOVES: Final = frozenset({"rename", "link"})


Move = tuple[bytes, bytes]
"""A rename or link that was carried out: the old path and the new path."""


def happened(event: Event) -> bool:
    """Return True if an event is of one request that was carried out: not denied, and without an error."""
    return event.decision != DENY and not event.errno and not event.folded


def _is_refusal(event: Event) -> bool:
    return event.operation == "write" and event.decision == DENY and event.errno == CONTENT_REFUSED


def other_names(path: bytes, moves: Sequence[Move]) -> set[bytes]:
    """Return all paths that a file with the path *path* may have had, by renames and links (moves: all in a
    trail) of it, or renames of a directory above it."""
    found, todo = {path}, [path]
    while todo and len(found) < NAMES:
        above = {place for name in todo for place in _and_above(name)}
        by_name: dict[bytes, list[bytes]] = {}
        for old, new in [move for move in moves if move[0] in above or move[1] in above]:
            by_name.setdefault(old, []).append(new)
            by_name.setdefault(new, []).append(old)
        others = (
            other + name[len(place) :]
            for name in todo
            for place in _and_above(name)
            for other in by_name.get(place, ())
        )
        todo = list(dict.fromkeys(other for other in others if other not in found))[: NAMES - len(found)]
        found.update(todo)
    return found


def _and_above(path: bytes) -> Iterator[bytes]:
    while len(path) > 1:
        yield path
        path = path.rpartition(b"/")[0]


@dataclass(eq=False)
class Life(Generic[Item]):
    """The life of one file. first: its first known path. names: the present ones. ever: all. events: in
    order, each with an item of the caller. was_replaced: another file took its only name. was_refused: its
    content was refused, so it never existed."""

    first: bytes
    names: set[bytes] = field(default_factory=set)
    ever: set[bytes] = field(default_factory=set)
    events: list[tuple[Event, Item]] = field(default_factory=list)
    was_made: bool = False
    was_deleted: bool = False
    was_replaced: bool = False
    was_refused: bool = False


class Lives(Generic[Item]):
    """The lives of all files of a trail, also under former names. Events are added in the order of time."""

    def __init__(self) -> None:
        self.all: list[Life[Item]] = []
        self._by_name: dict[bytes, Life[Item]] = {}
        self._above: Counter[bytes] = Counter()
        """For each path: the number of known names that are this path or below it."""

    def add(self, event: Event, item: Item) -> Life[Item]:
        """Add an event to the life of its file, and return this life. item: any object of the caller."""
        is_real = happened(event)
        if is_real and event.operation in MAKES:
            life = self._begin(event.path, made=True)
        else:
            life = self._by_name.get(event.path) or self._begin(event.path)
        life.events.append((event, item))
        if not is_real:
            life.was_refused = life.was_refused or (life.was_made and _is_refusal(event))
            return life
        life.was_refused = life.was_refused and event.operation == "release"
        if event.operation in REMOVES:
            self._lose(life, event.path)
            life.was_deleted = not life.names
        elif event.operation == "rename" and event.new_path is not None and "EXCHANGE" in event.syscall:
            self._exchanged(event.path, event.new_path, (event, item))
        elif event.operation in MOVES and event.new_path is not None:
            self._moved(life, event.operation, event.path, event.new_path, (event, item))
        return life

    def _begin(self, path: bytes, *, made: bool = False) -> Life[Item]:
        life: Life[Item] = Life(path, was_made=made)
        self.all.append(life)
        self._gain(life, path)
        return life

    def _gain(self, life: Life[Item], path: bytes) -> None:
        former = self._by_name.get(path)
        if former is not None and former is not life:
            former.names.discard(path)
            former.was_replaced = not former.names
        if former is None:
            self._above.update(_and_above(path))
        life.names.add(path)
        life.ever.add(path)
        self._by_name[path] = life

    def _lose(self, life: Life[Item], path: bytes) -> None:
        life.names.discard(path)
        if self._by_name.get(path) is life:
            del self._by_name[path]
            self._above.subtract(_and_above(path))

    def _moved(
        self, life: Life[Item], operation: str, path: bytes, new_path: bytes, event: tuple[Event, Item]
    ) -> None:
        if operation == "rename":
            self._lose(life, path)
        replaced = self._by_name.get(new_path)
        self._gain(life, new_path)
        if replaced is not None and replaced is not life:
            replaced.events.append(event)
        if operation == "rename" and self._above[path] > 0:
            below = path + b"/"
            for name in [name for name in self._by_name if name.startswith(below)]:
                inner = self._by_name[name]
                self._lose(inner, name)
                self._gain(inner, new_path + name[len(path) :])
                inner.events.append(event)

    def _exchanged(self, path: bytes, new_path: bytes, event: tuple[Event, Item]) -> None:
        """Exchange two names, and the names below them. A life with *path* has the event already."""
        first = self._by_name[path]
        if new_path not in self._by_name:
            self._begin(new_path)
        moved = [
            (self._by_name[name], name, new + name[len(old) :])
            for old, new in ((path, new_path), (new_path, path))
            for name in self._at_and_below(old)
        ]
        for life, name, _ in moved:
            self._lose(life, name)
        for life, _, name in moved:
            self._gain(life, name)
        for life in dict.fromkeys(life for life, _, _ in moved):
            if life is not first:
                life.events.append(event)

    def _at_and_below(self, path: bytes) -> list[bytes]:
        if self._above[path] <= 1:
            return [path]
        return [name for name in self._by_name if name == path or name.startswith(path + b"/")]
