"""The matrix of a policy: the rights of all callers (columns) on regular files, at all paths (rows)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.shapes import Shapes
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import Subject, groups
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import Hidden, Walk
from policyfs.policy.collector import paused
from policyfs.policy.decide import compile_policy
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.globs.paths import MAX_GLOB
from policyfs.policy.model import Effect, Policy, Rule
from policyfs.policy.rules.facts import Kinds, sample_kinds
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.table import Live

OPS: Final = (Op.SEE, Op.READ, Op.WRITE, Op.CREATE, Op.DELETE, Op.ATTR)
_MARK: Final = "\0path "
_FOLDED: Final = " (in any case)"
MAX_GLOBS: Final = 2000
"""Maximum number of globs of a policy for a matrix. With more, TooHardError is raised."""

SELF: Final = "\0self"
OTHER: Final = "\0app"
"""Owners of files, in a cell: the caller of the column, and an app that no rule names."""


class Rights(NamedTuple):
    """The rights of one caller on some files. ops: the operations, as bits. redact, content: see Decision."""

    ops: int
    redact: frozenset[str] = frozenset()
    content: frozenset[frozenset[str]] = frozenset()


File = tuple[str, str]
"""A class of files, by a sample: a kind of Matrix.kinds, and an owner (``none``, SELF, OTHER, or an app)."""

Answers = tuple[tuple[File, Rights], ...]

Cell = tuple[Answers, ...]
"""The answers to one caller at the paths of a row: several if they depend on the directories above."""

Label = tuple[str, ...]

Key = frozenset[str]
"""The globs that match at a class of paths; for a rule that can hide ``/P``, ``/P/**``, too."""


class Row(NamedTuple):
    """A row of the matrix: paths that are decided alike for every caller.

    paths: for people; lists of globs that match all paths of one class, except those of a more exact row;
    empty: paths that no glob matches. keys: the same, exactly. cells: by column; none if each path has
    another app's name or uid in it.
    """

    paths: tuple[Label, ...]
    keys: frozenset[Key]
    cells: dict[str, Cell]


class Matrix(NamedTuple):
    """The matrix of a policy. kinds: one of each class; the first stands for those that no rule names."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    kinds: tuple[str, ...]


def matrix(policy: Policy) -> Matrix:
    """Return the matrix of a policy: the operations of each caller at all paths. Raise TooHardError."""
    globs = _globs(policy)
    if len(globs) > MAX_GLOBS:
        raise TooHardError
    compiled = Compiled(compile_policy(replace(policy, rules=(*policy.rules, *_marks(policy, globs)))))
    files = _Files(policy)
    with paused():
        found = [(group.subjects, _column(group.sides[0], files)) for group in groups([compiled])]
    columns = _columns(found)
    alike: dict[tuple[Cell | None, ...], set[Key]] = {}
    names = {f"{glob}{_FOLDED * folds}": own for (glob, folds), own in globs.items()}
    keys = {key for column in columns.values() for key in column if not _is_top(key, names)}
    for key in keys:
        alike.setdefault(tuple(column.get(key) for column in columns.values()), set()).add(key)
    rows = []
    for cells, some in alike.items():
        shown = {name: cell for name, cell in zip(columns, cells, strict=True) if cell is not None}
        rows.append(Row(_labels(frozenset(some), keys, names), frozenset(some), shown))
    rows.sort(key=lambda row: (not {(), ("/**",), ("/***",)}.isdisjoint(row.paths), row.paths))
    return Matrix(tuple(columns), tuple(rows), files.kinds)


def _globs(policy: Policy) -> dict[tuple[str, bool], bool]:
    """Return the globs (and if they ignore case): True for those of rules, False for hidden paths below."""
    globs: dict[tuple[str, bool], bool] = {}
    for rule in policy.rules:
        for paths in (rule.paths, *(block.paths for block in rule.blocks)):
            for glob in paths or ():
                globs[glob, rule.ignore_case] = True
                below = f"{glob.removesuffix('/***')}/**"
                hides = rule.effect is Effect.DENY and rule.ops & Op.SEE and not glob.endswith("/**")
                if hides and glob != "/" and len(below) <= MAX_GLOB:
                    globs.setdefault((below, rule.ignore_case), False)
    return globs


def _marks(policy: Policy, globs: Iterable[tuple[str, bool]]) -> list[Rule]:
    """Return, for every glob, a rule with `mode: monitor`, which only shows where the glob matches."""
    return [
        Rule(
            id=f"{_MARK}{glob}{_FOLDED * folds}", effect=Effect.DENY, ops=Op.SEE, who=None,
            paths=(glob,), ignore_case=folds, monitor=True, where=policy.rules[0].where,
        )
        for glob, folds in globs
    ]  # fmt: skip


def _is_top(key: Key, globs: Iterable[str]) -> bool:
    """Return True if the path of a key is only a directory: the path ``/P``, with a glob ``/P/**``."""
    tops = (glob.replace("/***", "/**") for glob in key if "/***" in glob)
    return any(below in globs and below not in key for below in tops)


class _Files:
    def __init__(self, policy: Policy) -> None:
        blocks = [block for rule in policy.rules for block in rule.blocks]
        sets = {*(block.kinds for block in blocks), *(rule.raw_types for rule in policy.rules)}
        kinds = sample_kinds((Kinds(one) for one in sets if one), FileType.REGULAR, unknown=False)
        owners = {owner for block in blocks for owner in block.owners or ()} - {OWNER_NONE, "self"}
        self.kinds: Final = tuple(sorted(kind for kind in kinds if kind is not None))
        self.owners: Final = (OTHER, SELF, OWNER_NONE, *sorted(owners))
        self._policy: Final = policy
        self._shapes: Final = Shapes()
        self._known: Final[dict[object, Answers]] = {}

    def answers(self, app: str | None, lives: tuple[Live, ...], hidden: Hidden) -> Iterator[Answers]:
        """Yield the answers at a class of paths: one for each way in which directories above can hide it."""
        key = app, self._shapes.alone(lives)
        shown = self._known.get(key)
        if shown is None:
            shown = self._known[key] = self._shown(app, lives)
        for way in hidden:
            yield tuple((file, Rights(0)) for file, _ in shown) if way[0] else shown

    def _shown(self, app: str | None, lives: tuple[Live, ...]) -> Answers:
        profile, classes = Profile(self._policy, lives, top=False), FileClasses(lives)
        found: dict[object, Rights] = {}
        answers: list[tuple[File, Rights]] = []
        for owner in self.owners:
            if owner == app or (owner == SELF and app is None):
                continue
            name = app if owner == SELF else owner
            for kind in self.kinds:
                same = (classes.kind_class(kind), classes.owner_class(name), owner == SELF)
                if same not in found:
                    found[same] = self._rights(app, profile, Facts(kind, name))
                answers.append(((kind, owner), found[same]))
        return tuple(answers)

    @staticmethod
    def _rights(app: str | None, profile: Profile, facts: Facts) -> Rights:
        """Return a caller's rights on one sample file. Those to create it do not depend on the facts."""
        ops, redact, content = 0, frozenset[str](), frozenset[frozenset[str]]()
        for op in OPS:
            one = Facts(None, app or OWNER_NONE) if op is Op.CREATE else facts
            decision = profile.answer(int(Op.SEE | op), FileType.REGULAR, one, below=lambda: False)
            if decision.allowed:
                ops |= op
                redact |= decision.redact
                content |= frozenset(decision.content) if op is Op.WRITE else frozenset()
        return Rights(ops, redact, content)


def _column(side: Side, files: _Files) -> dict[Key, Cell]:
    found: dict[Key, dict[Answers, None]] = {}
    track = Track([side])
    for spot in Walk([track], lambda _: 1).spots():
        if spot.top:
            continue  # everyone sees the root, and it is not a file
        lives = side.profile(track.position(spot.nodes[0], 0), top=False).lives
        ids = (live.rule.id for live in lives)
        key = frozenset(one.removeprefix(_MARK) for one in ids if one.startswith(_MARK))
        own = tuple(live for live in lives if not live.rule.id.startswith(_MARK))
        found.setdefault(key, {}).update(dict.fromkeys(files.answers(side.caller.app, own, spot.hidden)))
    return {key: tuple(answers) for key, answers in found.items()}


def _columns(found: list[tuple[tuple[Subject, ...], dict[Key, Cell]]]) -> dict[str, dict[Key, Cell]]:
    """Return the answers by the names of columns: callers, with uid or mount if these make a difference."""
    columns: dict[str, dict[Key, Cell]] = {}
    for subjects, cells in found:
        for subject in subjects:
            known = columns.setdefault(subject.label, cells)
            if known != cells:
                how = "own mount" if subject.mounted is not None else f"uid {subject.uid}"
                columns.setdefault(f"{subject.label} ({how})", cells)
    ordinary = [name for name in columns if name != "stranger"]
    return {name: columns[name] for name in (*ordinary, *(["stranger"] if "stranger" in columns else []))}


def _labels(row: frozenset[Key], keys: set[Key], globs: dict[str, bool]) -> tuple[Label, ...]:
    """Return the shortest text for a row: single globs that match only in this row, then lists of globs."""
    inside = {glob for key in row for glob in key} - {glob for key in keys - row for glob in key}
    left: set[Key] = set(row)
    found: list[Label] = []
    for glob in sorted(inside, key=lambda one: (-sum(one in key for key in row), not globs[one], one)):
        if any(glob in key for key in left):
            found.append((glob,))
            left = {key for key in left if glob not in key}
    exact = {_most_exact(key, keys) for key in left}
    single = {labels[0] for labels in exact if len(labels) == 1}
    found += [labels for labels in exact if len(labels) == 1 or not single & set(labels)]
    named = {tuple(sorted(_as_written(glob, globs) for glob in label)) for label in found}
    whole = {(f"{label[0]}/***",) for label in named if len(label) == 1 and (f"{label[0]}/**",) in named}
    named -= {(one.removesuffix(end),) for [one] in whole for end in ("/***", "*")}
    return tuple(sorted(named | whole, key=lambda one: (not one, one)))


def _as_written(glob: str, globs: dict[str, bool]) -> str:
    """Return ``/P/***`` instead of ``/P/**`` if only the former is a glob of the policy."""
    stem, _, end = glob.rpartition("/**")
    return f"{stem}/***{end}" if not globs[glob] and f"{stem}/***{end}" in globs else glob


def _most_exact(key: Key, sets: Iterable[Key]) -> Label:
    """Return the globs of a set, sorted, without those that match all paths of another one in it."""
    wider = set()
    for one in key:
        for other in key - {one}:
            covers = all(one in places for places in sets if other in places)
            if covers and not (one < other and all(other in places for places in sets if one in places)):
                wider.add(one)
    return tuple(sorted(key - wider))
