"""Answers at plain paths, for `policy lint`: one path that a glob matches.

In a large policy, most plain paths have rules of the same shapes as another one, and share its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeVar

from policyfs.domain import Facts, FileType, Need, Op
from policyfs.policy.analysis.shapes import Shapes
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.globs.automaton import Position
from policyfs.policy.globs.paths import DEEP, End, Wild, parse_glob
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.table import Live, Situated, hides

T = TypeVar("T")

Names = tuple[str, ...]

_PLAIN: Final = "\ue000"
"""A name, or a part of one, that stands for a wildcard."""


class Place(NamedTuple):
    """A path. situated: the rules that match there. above: those that can hide it from above."""

    position: Position
    situated: tuple[Situated, ...]
    above: tuple[Situated, ...]
    top: bool


class Answer(NamedTuple):
    """The part of a decision that is the same for all paths and callers with rules of the same shapes."""

    allowed: bool
    redact: frozenset[str]
    content: tuple[frozenset[str], ...]


class Here:
    """The rules at one place for one caller. lives: the rules that match, if the file's facts fit."""

    __slots__ = ("_key", "_place", "_places", "_profile", "_side", "lives")

    def __init__(self, places: Places, place: Place, side: Side) -> None:
        self._places = places
        self._place = place
        self._side = side
        table, caller = places.compiled.table, side.caller
        found = (table.live(situated, caller) for situated in place.situated)
        self.lives: tuple[Live, ...] = tuple(live for live in found if live is not None)
        self._key: Hashable = None
        self._profile: Profile | None = None

    @property
    def top(self) -> bool:
        """True if the path is the root."""
        return self._place.top

    @property
    def hidden_by(self) -> frozenset[str]:
        """The ids of the rules that can hide this path because they hide a directory above it."""
        table, caller = self._places.compiled.table, self._side.caller
        return frozenset(
            table.rules[one.rule].id for one in self._place.above if table.live(one, caller) is not None
        )

    @property
    def profile(self) -> Profile:
        """The rules that match at this path, without those that hide a directory above."""
        if self._profile is None:
            self._profile = Profile(self._places.compiled.table.policy, self.lives, top=self.top)
        return self._profile

    def shared(self, question: Hashable, find: Callable[[Callable[[], bool]], T]) -> T:
        """Return the answer to a question, remembered for all paths with rules of the same shapes.

        find: a function that finds it. Its argument is a function that returns True if the caller could see
        some path below.
        """
        if self._key is None:
            self._key = self._places.shapes.alone(self.lives)
        key = (question, self._key, self.top)
        return self._places.shared(key, find, self._below)

    def _below(self) -> bool:
        return self._side.below(self._side.pruned(self._place.position.free))

    def answer(self, op: Op, facts: Facts, ftype: FileType = FileType.REGULAR) -> Answer:
        """Return the answer to one operation on a file with these facts at this path."""

        def find(below: Callable[[], bool]) -> Answer:
            decision = self.profile.answer(int(op), ftype, facts, below=below)
            return Answer(decision.allowed, decision.redact, decision.content)

        return self.shared((op, facts, ftype), find)

    def needs(self, op: Op) -> Need:
        """Return the facts of a regular file on which the answer to an operation depends."""

        def find(below: Callable[[], bool]) -> Need:
            return self.profile.needs(int(op), FileType.REGULAR, below=below, lenient=False)

        return self.shared(("needs", op), find)


def sides_by_app(groups: Sequence[Group]) -> dict[str, list[Side]]:
    """Return the callers of each app of the policy, one for each group of callers."""
    found: dict[str, list[Side]] = {}
    for group in groups:
        for subject in group.subjects:
            app = subject.apps[0]
            if app is not None:
                found.setdefault(app, []).append(group.sides[0])
    return found


class Places:
    """The places (paths for which `policy lint` asks questions) of one policy."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled: Final = compiled
        self.shapes: Final = Shapes()
        self._shared: Final[dict[Names, Place | None]] = {}
        self._shared[()] = self._place(compiled.table.automaton.root, None)
        self._own: Final[dict[tuple[Side, Names], Place]] = {}
        self._known: Final[dict[Hashable, object]] = {}
        self._known_below: Final[dict[Hashable, object]] = {}

    def at(self, names: Names, side: Side) -> Here:
        """Return the rules at the path of these names, for one caller."""
        return Here(self, self._at(names, side), side)

    def here(self, position: Position, side: Side, *, top: bool) -> Here:
        """Return the rules at a position (the nodes of the automaton for a path), for one caller."""
        return Here(self, Place(position, self.compiled.table.situated(position), (), top), side)

    def shared(self, key: Hashable, find: Callable[[Callable[[], bool]], T], below: Callable[[], bool]) -> T:
        """Return the result of *find*, remembered under the key, and under what *below* says if it asks."""
        found = self._known.get(key, self)
        if found is self:
            asked: list[bool] = []

            def told() -> bool:
                asked.append(below())
                return asked[-1]

            made = find(told)
            if not asked:
                self._known[key] = made
                return made
            self._known[key] = self._known_below
            self._known_below[key, asked[0]] = made
            return made
        if found is self._known_below:
            key = (key, below())
            found = self._known_below.get(key, self)
            if found is self:
                found = self._known_below[key] = find(below)
        return found  # type: ignore[return-value]  # the question is in the key

    def _at(self, names: Names, side: Side) -> Place:
        place = self._common(names)
        if place is None:
            place = self._own.get((side, names))
        if place is None:
            parent = self._at(names[:-1], side)
            place = self._own[side, names] = self._place(side.step(parent.position, names[-1]), parent)
        return place

    def _common(self, names: Names) -> Place | None:
        try:
            return self._shared[names]
        except KeyError:
            pass
        parent, made = self._common(names[:-1]), None
        automaton = self.compiled.table.automaton
        if parent is not None and not any(automaton.nodes[n].captures for n in parent.position.free):
            free = frozenset(
                target for number in parent.position.free for target in automaton.targets(number, names[-1])
            )
            accepts = frozenset(accept for number in free for accept in automaton.nodes[number].accepts)
            made = self._place(Position(free, frozenset(), accepts, {}, lost=False), parent)
        self._shared[names] = made
        return made

    def _place(self, position: Position, parent: Place | None) -> Place:
        table = self.compiled.table
        above = parent.above if parent is not None else ()
        if parent is not None and not parent.top:
            above += tuple(one for one in parent.situated if hides(table.rules[one.rule]))
        return Place(position, table.situated(position), above, parent is None)


def plain_names(glob: str, caller: Caller) -> Names | None:
    """Return the names of one path that a glob matches for a caller, or None."""
    names = []
    parsed = parse_glob(glob)
    for segment in parsed.segments:
        if segment is DEEP:
            continue
        name = ""
        for token in segment.variants[0]:
            if token is Wild.APP or token is Wild.UID:
                if caller.app is None:
                    return None
                name += caller.app if token is Wild.APP else str(caller.uid)
            else:
                name += token if isinstance(token, str) else _PLAIN
        names.append(name)
    return (*names, *([] if parsed.end is End.HERE else [_PLAIN]))


def shown(names: Names) -> str:
    """Return the path of these names as text."""
    return "/" + "/".join(name.replace(_PLAIN, "x") for name in names)
