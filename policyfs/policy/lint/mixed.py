"""Search for mixed directories: an app sees some of the files in such a directory, and not the others.

On a shared mount, inotify on such a directory tells the app about the hidden files, too. The search is a hint
for people. It uses decisions on sample paths, made from the rules' globs. No decision of a mount depends on
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, OWNER_NONE, Facts, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.model import SELF, App, Block, Effect, Rule, Who
from policyfs.policy.rules.callers import CallerClass
from policyfs.policy.rules.table import Situated

_CAPTURED: Final = 3
"""Maximum number of directories to try for one rule with ``{app}`` or ``{uid}`` in its globs. Each app has a
directory of its own for such a rule. These directories differ only by their names, or by another rule about
one of the apps. That other rule is tried, too."""
_OTHER: Final = "some-other-name"
_ALTERNATIVES: Final = re.compile(r"\{([^{}]*)\}")
_WILD: Final = re.compile(r"[*?]+")


class MixedDirectory(NamedTuple):
    """A directory in which an app sees only some of the files, and the rule whose globs led to it."""

    rule: Rule
    app: str
    directory: str


def mixed_directories(engine: Engine) -> list[MixedDirectory]:
    """Return mixed directories (an app sees only some files): at most one for each rule on ``see``, in the
    rules' order.
    """
    # an app without uids has only app mounts
    apps = [(app, engine.principal(app.uids[0][0])) for app in engine.policy.apps if app.uids]
    search = _Search(engine, [_Asking(app, who, engine.caller(who).of) for app, who in apps])
    found = []
    for rule in engine.policy.rules:
        if rule.effect in {Effect.ALLOW, Effect.DENY} and rule.ops & Op.SEE and not rule.monitor:
            mixed = next(search.mixed_by(rule), None)
            if mixed is not None:
                found.append(mixed)
    return found


class _Asking(NamedTuple):
    """An app of the shared mount. The search tries directories for this app."""

    app: App
    who: Principal
    caller: CallerClass


class _Search:
    """The search for mixed directories (an app sees only some files) in one policy.

    Two rules are of one sort if they differ only in their paths. In a large policy, many rules are of one
    sort. The search tries two names in each directory. It remembers the result for an app by the sorts of the
    rules that can match at these names.
    """

    def __init__(self, engine: Engine, asking: Sequence[_Asking]) -> None:
        self._engine: Final = engine
        self._asking: Final = asking
        self._about: Final[dict[Who | None, list[_Asking]]] = {}
        self._directories: Final[dict[str, PathState]] = {"": engine.root}
        self._sorts: Final[dict[tuple[object, ...], int]] = {}
        self._sort_of: Final[dict[int, int]] = {}
        self._numbers: Final = {rule.id: number for number, rule in enumerate(engine.table.rules)}
        self._known: Final[dict[tuple[object, ...], dict[str, bool]]] = {}

    def mixed_by(self, rule: Rule) -> Iterator[MixedDirectory]:
        """Yield directories, for paths of one rule, in which an app of it sees only some of the files."""
        at: dict[str, _Place] = {}
        captured = 0
        for one in self._asked_by(rule.who):
            for glob in rule.paths or ("/**",):
                if "{app}" in glob or "{uid}" in glob:
                    captured += 1
                    if captured > _CAPTURED:
                        continue
                    place = self._place(rule, *sample(glob, one.app))
                else:
                    place = at.get(glob) or at.setdefault(glob, self._place(rule, *sample(glob, one.app)))
                if not place.dull and self._is_mixed(rule, place, one):
                    yield MixedDirectory(rule, one.app.name, place.directory or "/")

    def _asked_by(self, who: Who | None) -> list[_Asking]:
        """Return the apps that match a ``who`` block and have uids (so that they use the shared mount)."""
        found = self._about.get(who)
        if found is None:
            found = [one for one in self._asking if who is None or one.caller.within(who)]
            self._about[who] = found
        return found

    def _place(self, rule: Rule, directory: str, name: str) -> _Place:
        engine, table = self._engine, self._engine.table
        above = self._directory(directory)
        first, second = (engine.step(above, each.encode()) for each in (name, _OTHER))
        placed = {*first.situated(table), *second.situated(table), *first.hides}
        rules = [table.rules[one.rule] for one in placed]
        dull = first is second and not any(rule.blocks for rule in rules)
        key = (
            self._sort(self._numbers[rule.id]),
            *(tuple(map(self._situated, state.situated(table))) for state in (first, second)),
            frozenset(map(self._situated, first.hides)),
            *(state.position.lost for state in (first, second)),
        )
        return _Place(directory, (first, second), dull, self._known.setdefault(key, {}))

    def _directory(self, path: str) -> PathState:
        found = self._directories.get(path)
        if found is None:
            above, _, name = path.rpartition("/")
            found = self._directories[path] = self._engine.step(self._directory(above), name.encode())
        return found

    def _situated(self, one: Situated) -> tuple[object, ...]:
        return self._sort(one.rule), one.binds, one.unless

    def _sort(self, number: int) -> int:
        """Return a number for the sort of a rule.

        Two rules have the same number if they have the same effect at all paths that both rules match.
        """
        found = self._sort_of.get(number)
        if found is None:
            rule = self._engine.table.rules[number]
            value = (
                rule.effect, rule.ops, rule.who, rule.when is None, *map(_facts_asked, rule.blocks),
                rule.errno, rule.redact, rule.content, rule.raw_types, rule.audit, rule.monitor,
            )  # fmt: skip
            found = self._sort_of[number] = self._sorts.setdefault(value, len(self._sorts))
        return found

    def _is_mixed(self, rule: Rule, place: _Place, one: _Asking) -> bool:
        """Return True if the app sees one file in the directory, and does not see another file there."""
        found = place.known.get(one.app.name)
        if found is None:
            found = place.known[one.app.name] = _is_mixed(self._engine, one.who, rule, place)
        return found


class _Place(NamedTuple):
    """Two names to try in one directory: a name from a glob, and another name.

    dull: True if no name and no fact makes a difference for any caller. known: for each app that was tried,
    True if the app sees one file in the directory and not another file. Directories in which the same sorts
    of rules match share this dictionary.
    """

    directory: str
    states: tuple[PathState, PathState]
    dull: bool
    known: dict[str, bool]


def _facts_asked(block: Block) -> tuple[object, ...]:
    return block.kinds, block.owners


def sample(glob: str, app: App) -> tuple[str, str]:
    """Return a directory for files that the glob matches, and the name of such a file."""
    text = glob.replace("{app}", app.name).replace("{uid}", str(app.uids[0][0] if app.uids else 0))
    while (chosen := _ALTERNATIVES.sub(lambda match: match[1].split(",")[0], text)) != text:
        text = chosen  # alternatives in braces can contain further braces
    parts = text.strip("/").split("/")
    if parts[-1] in {"**", "***"}:
        parts[-1] = "*"
    parts = [_WILD.sub("x", part) for part in parts if part != "**"] or ["x"]
    return "".join(f"/{part}" for part in parts[:-1]), parts[-1]


def _is_mixed(engine: Engine, who: Principal, rule: Rule, place: _Place) -> bool:
    """Return True if the caller sees one file in the directory, and does not see another file there."""
    first, second = (
        [live for live in engine.profile(who, state).lives if live.ops & Op.SEE] for state in place.states
    )
    if first == second and all(live.fixed is not None for live in first):
        return False  # no name and no fact makes a difference
    seen = {
        engine.decide(who, Op.SEE, state, FileType.REGULAR, facts)
        for state in place.states
        for facts in _facts(rule, who)
    }
    return len({answer.allowed and not answer.bare for answer in seen}) == 2


def _facts(rule: Rule, who: Principal) -> Iterator[Facts]:
    """Yield sample facts (kind and owner) of files that the rule can treat in different ways."""
    yield Facts("application/octet-stream", OWNER_NONE)
    yield Facts("application/octet-stream", who.app)
    for block in rule.blocks:
        kind = next(iter(sorted(block.kinds or ())), None)
        owner = next(iter(sorted(block.owners or ())), OWNER_NONE)
        named = who.app if owner == SELF else owner
        yield Facts(None if kind is None else kind.replace("*", "x"), named)
    if rule.when is None and not rule.unless:
        yield NO_FACTS
