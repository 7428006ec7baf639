"""Lives of files: all events of each file in a trail, also under names before and after renames (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from policyfs.trail.event import DENY, Event

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


def other_names(path: bytes, moves: Sequence[Move]) -> set[bytes]:
    """Return a set of all paths that a file may have had. path: one of these paths.

    moves: all renames and links in a trail. A file gets another path by a rename or link of the file, or by a
    rename of a directory above it.
    """
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
    """The life of one file.

    first: the file's first known path. names: its present paths. ever: all its paths. events: its events in
    order, each with an item of the caller. was_replaced: another file took the only name that the file still
    had.
    """

    first: bytes
    names: set[bytes] = field(default_factory=set)
    ever: set[bytes] = field(default_factory=set)
    events: list[tuple[Event, Item]] = field(default_factory=list)
    was_made: bool = False
    was_deleted: bool = False
    was_replaced: bool = False
    replaces: Life[Item] | None = None
    """The file that lost its only name to this file (by a rename, for example), or None."""


class Lives(Generic[Item]):
    """The lives of all files of a trail: the events of each file, also under its former names.

    The caller adds events in the order of time. Each event has an item (any object of the caller).
    """

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
            return life
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
            if former.was_replaced:
                life.replaces = former
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
        """Return the known names that are *path* or below it. path: a known name."""
        if self._above[path] <= 1:
            return [path]
        return [name for name in self._by_name if name == path or name.startswith(path + b"/")]


class Change(NamedTuple):
    """The changes of one file in a period.

    path: its last path. former: its first path if it was moved, else empty. what: words such as ``made``,
    ``changed``, ``moved``, ``deleted``. before, after: the file's size in bytes before and after the changes;
    None if unknown. apps: the apps that changed the file. first_ns, last_ns: the time of the first and last
    change.
    """

    path: bytes
    former: bytes
    what: tuple[str, ...]
    before: int | None
    after: int | None
    apps: tuple[str, ...]
    first_ns: int
    last_ns: int


def is_change(event: Event) -> bool:
    """Return True if an event's request may have changed a file or its name."""
    if not happened(event):
        return False
    if event.operation in MAKES | REMOVES | MOVES or event.operation == "truncate":
        return True
    return event.operation == "release" and _wrote(event)


def _wrote(event: Event) -> bool:
    if event.bytes_written:
        return True
    if event.size_after is None:
        return False
    before = event.size_before, event.mtime_before_ns
    return before != (event.size_after, event.mtime_after_ns) and event.size_before is not None


def _size_before(life: Life[Item]) -> int | None:
    return next(
        (
            one.size_before
            for one, _ in life.events
            if one.size_before is not None and one.operation not in MOVES
        ),
        None,
    )


def changes_of(lives: Iterable[Life[Item]]) -> list[Change]:
    """Return the changes of files, one Change for each changed file, sorted by path and time."""
    everything = list(lives)
    saved_over = {
        id(one.replaces) for one in everything if one.was_made and one.replaces and not one.replaces.was_made
    }
    found = (change_of(life) for life in everything if id(life) not in saved_over)
    changes = (change for change in found if change is not None)
    return sorted(changes, key=lambda one: (one.path, one.former, one.first_ns))


def change_of(life: Life[Item]) -> Change | None:
    """Return the changes of one file, or None if it was not changed."""
    events = [event for event, _ in life.events if is_change(event)]
    if not events:
        return None
    own = [event for event in events if event.operation not in MOVES or event.path in life.ever]
    written = any(event.operation in {"release", "truncate"} for event in own)
    last = max(life.names) if life.names else (own or events)[-1].path
    is_gone = life.was_deleted or life.was_replaced
    what = [
        word
        for word, holds in (
            ("made", life.was_made),
            ("changed", written and not life.was_made),
            ("moved", last != life.first and not is_gone),
            ("linked", len(life.names) > 1),
            ("deleted", life.was_deleted),
            ("replaced", life.was_replaced),
        )
        if holds
    ]
    if not what:
        return None
    before = None if life.was_made else _size_before(life)
    former = life.first if last != life.first else b""
    if life.was_made and not is_gone:
        # A new file took the name of an old one: many programs save files in this way.
        old = life.replaces
        known = old is not None and not old.was_made
        took = [one.size_before for one in own if one.operation == "rename" and one.new_path == last]
        if known or any(size is not None for size in took):
            before = _size_before(old) if old is not None and known else None
            before = next((size for size in took if size is not None), before)
            what, former = ["changed", *(word for word in what if word not in {"made", "moved"})], b""
    sizes = [one.size_after for one in own if one.size_after is not None]
    after = None if is_gone else (sizes[-1] if sizes else before if not written else None)
    apps = tuple(dict.fromkeys(event.app for event in events))
    return Change(last, former, tuple(what), before, after, apps, events[0].time_ns, events[-1].time_ns)
