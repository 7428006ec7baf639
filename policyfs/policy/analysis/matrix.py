"""The matrix of a policy: a table that shows the operations of each caller on regular files, at all paths.

Its rows are classes of paths, its columns are callers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from policyfs.domain import DENY_UNKNOWN, OWNER_NONE, Decision, Facts, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import Subject, groups
from policyfs.policy.analysis.walk import Place, Walk
from policyfs.policy.collector import paused
from policyfs.policy.decide import compile_policy
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Effect, Policy, Rule

OPS: Final = (Op.SEE, Op.READ, Op.WRITE, Op.CREATE, Op.DELETE, Op.ATTR)
_MARK: Final = "\0path "
MAX_GLOBS: Final = 2000
"""Maximum number of globs of a policy for a matrix, which has about as many rows. With more, TooHardError is
raised."""


class Answer(enum.Enum):
    """The answer in one cell of the matrix.

    The answer is about the regular files at some paths, with known kind and owner.
    """

    ALWAYS = "always"
    NEVER = "never"
    OWN = "own files"
    KIND = "by kind"
    PART = "at some of the paths"
    FACTS = "by owner, or by kind and owner"


class Cell(NamedTuple):
    """A cell of the matrix: one operation of one caller at the paths of one row.

    words: the words of data that policyfs hides in at least one of the files. checked: True if, for at least
    one of the files, written bytes must meet content requirements.
    """

    answer: Answer
    words: tuple[str, ...] = ()
    checked: bool = False


Cells = dict[Op, Cell]


class Row(NamedTuple):
    """A row of the matrix: the paths that all of *globs* match.

    A path that a more exact glob matches, too, is in the row of that glob. Without globs: all paths that no
    glob matches. cells: the cells by the names of the columns. A caller has no cell if each path of the row
    contains another app's name or another uid (``{app}`` or ``{uid}`` in the glob).
    """

    globs: tuple[str, ...]
    cells: dict[str, Cells]


class Matrix(NamedTuple):
    """The matrix of a policy: the names of the columns (callers), and the rows (classes of paths)."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def matrix(policy: Policy) -> Matrix:
    """Return the matrix of a policy: the operations of each caller at all paths. Raise TooHardError."""
    marks = _marks(policy)
    if len(marks) > MAX_GLOBS:
        raise TooHardError
    compiled = Compiled(compile_policy(replace(policy, rules=(*policy.rules, *marks))))
    with paused():
        found = [(group.subjects, _Column(group.sides[0]).tallies()) for group in groups([compiled])]
    sets = {key for _, tallies in found for key in tallies}
    labels = {key: _most_exact(key, sets) for key in sets}
    columns = _columns(found)
    rows = []
    for globs in sorted({*labels.values()}, key=lambda one: (not one, one)):
        cells: dict[str, Cells] = {}
        for name, tallies in columns.items():
            here = [tally for key, tally in tallies.items() if labels[key] == globs]
            if here:
                cells[name] = _cells(here)
        rows.append(Row(globs, cells))
    return Matrix(tuple(columns), tuple(rows))


def _marks(policy: Policy) -> list[Rule]:
    """Return, for every glob, a rule that shows where the glob matches.

    These rules have `mode: monitor`, so they change no answer.
    """
    globs: dict[tuple[str, bool], None] = {}
    for rule in policy.rules:
        blocks = (*rule.unless, *(() if rule.when is None else (rule.when,)))
        for paths in (rule.paths, *(block.paths for block in blocks)):
            globs |= dict.fromkeys((glob, rule.ignore_case) for glob in paths or ())
    return [
        Rule(
            id=f"{_MARK}{glob}{' (in any case)' if folds else ''}", effect=Effect.DENY, ops=Op.SEE, who=None,
            paths=(glob,), ignore_case=folds, when=None, unless=(), errno=None, redact=frozenset(),
            content=frozenset(), raw_types=frozenset(), audit=None, monitor=True, description="",
            where=policy.rules[0].where,
        )
        for glob, folds in globs
    ]  # fmt: skip


Key = frozenset[str]
"""The globs that match at a class of paths."""


class _Column:
    """The answers to one caller at all classes of paths: a column of the matrix."""

    def __init__(self, side: Side) -> None:
        self._side: Final = side

    def tallies(self) -> dict[Key, dict[Op, _Tally]]:
        """Return, for each set of globs that match together, the counted answers to each operation."""
        found: dict[Key, dict[Op, _Tally]] = {}
        for place in Walk((self._side,)).places(lambda _: True):
            if place.top:
                continue  # everyone sees the root, and it is not a file
            profile = self._side.profile(place.positions[0], top=False)
            key = frozenset(
                live.rule.id.removeprefix(_MARK) for live in profile.lives if live.rule.id.startswith(_MARK)
            )
            tallies = found.setdefault(key, {op: _Tally() for op in OPS})
            for op in OPS:
                tallies[op].count(list(self._answers(place, op)))
        return found

    def _answers(self, place: Place, op: Op) -> Iterator[tuple[Facts, str, Decision]]:
        """Yield the answer for each class of files: the facts of a sample file, "own" or "other", and the
        decision.

        op: the operation. "own" means that the caller owns the file.
        """
        side, position = self._side, place.positions[0]
        profile = side.profile(position, top=False)
        own = side.caller.app or OWNER_NONE
        facts = FileClasses(profile.lives).samples(FileType.REGULAR, unknown=False)
        for one in [Facts(None, own)] if op is Op.CREATE else facts:
            decision = profile.answer(int(op), FileType.REGULAR, one, below=lambda: side.below(position))
            whose = "own" if one.owner == side.caller.app else "other"
            for way in place.hidden:
                yield one, whose, replace(decision, allowed=False) if way[0] else decision


@dataclass(slots=True)
class _Tally:
    """A counter of the answers to one operation at several classes of paths."""

    always: bool = False
    never: bool = False
    by_fact: set[Answer] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    checked: bool = False

    def count(self, answers: list[tuple[Facts, str, Decision]]) -> None:
        """Add the answers at one class of paths."""
        allowed = {decision.allowed for _, _, decision in answers}
        if allowed == {True}:
            self.always = True
        elif allowed == {False}:
            self.never = True
        else:
            self.by_fact.add(_fact_behind(answers))
        for _, _, decision in answers:
            if decision.allowed:
                self.words |= decision.redact - {DENY_UNKNOWN}
                self.checked = self.checked or bool(decision.content)

    def add(self, other: _Tally) -> None:
        """Add the answers that another tally has counted."""
        self.always = self.always or other.always
        self.never = self.never or other.never
        self.by_fact |= other.by_fact
        self.words |= other.words
        self.checked = self.checked or other.checked

    def cell(self) -> Cell:
        """Return the cell of the matrix for all counted answers."""
        sorts = self.always + self.never + len(self.by_fact)
        if sorts > 1:
            answer = Answer.PART if self.never or self.always else Answer.FACTS
        elif self.by_fact:
            [answer] = self.by_fact
        else:
            answer = Answer.ALWAYS if self.always else Answer.NEVER
        return Cell(answer, tuple(sorted(self.words)), self.checked)


def _fact_behind(answers: list[tuple[Facts, str, Decision]]) -> Answer:
    """Return the fact (owner or kind) that decides on the answers at one class of paths."""
    own = {decision.allowed for _, whose, decision in answers if whose == "own"}
    others = {decision.allowed for _, whose, decision in answers if whose != "own"}
    if own == {True} and others == {False}:
        return Answer.OWN
    kinds: dict[str | None, set[bool]] = {}
    for facts, _, decision in answers:
        kinds.setdefault(facts.kind, set()).add(decision.allowed)
    return Answer.KIND if all(len(allowed) == 1 for allowed in kinds.values()) else Answer.FACTS


def _most_exact(key: Key, sets: Iterable[Key]) -> tuple[str, ...]:
    """Return the globs of a set, sorted. Leave out a glob that matches all paths of another glob in the set.
    """
    wider = set()
    for one in key:
        for other in key - {one}:
            covers = all(one in places for places in sets if other in places)
            if covers and not (one < other and all(other in places for places in sets if one in places)):
                wider.add(one)
    return tuple(sorted(key - wider))


def _columns(
    found: list[tuple[tuple[Subject, ...], dict[Key, dict[Op, _Tally]]]],
) -> dict[str, dict[Key, dict[Op, _Tally]]]:
    """Return the answers by the names of columns.

    A column has the name of its caller. If the answers depend on the uid or the mount, the name includes the
    uid or the mount.
    """
    columns: dict[str, dict[Key, dict[Op, _Tally]]] = {}
    for subjects, tallies in found:
        for subject in subjects:
            known = columns.setdefault(subject.label, tallies)
            if known != tallies:
                how = "own mount" if subject.mounted is not None else f"uid {subject.uid}"
                columns.setdefault(f"{subject.label} ({how})", tallies)
    ordinary = [name for name in columns if name != "stranger"]
    return {name: columns[name] for name in (*ordinary, *(["stranger"] if "stranger" in columns else []))}


def _cells(tallies: list[dict[Op, _Tally]]) -> Cells:
    found = {}
    for op in OPS:
        total = _Tally()
        for tally in tallies:
            total.add(tally[op])
        found[op] = total.cell()
    return found
