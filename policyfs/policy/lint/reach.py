"""Rules that never match, and allows that never give anything: found exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from policyfs.domain import Decision, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.sides import Compiled, Side, numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.walk import Walk
from policyfs.policy.automaton import Position
from policyfs.policy.classes import TooHardError
from policyfs.policy.facts import FILE_TYPES, Truth, fixed_facts
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.model import Effect, Rule
from policyfs.policy.paths import DEEP, End, Glob, Wild, parse_glob

_TRIED: Final = 8
"""Callers and globs for which a plain path is tried before all paths are."""

_PLAIN: Final = "\ue000"


def reach(compiled: Compiled, groups: Sequence[Group]) -> Iterator[Finding]:
    """Yield the findings on all rules."""
    sides = [group.sides[0] for group in groups]
    about = compiled.callers_by_rule([side.caller for side in sides])
    for (number, rule), callers in zip(enumerate(compiled.table.rules), about, strict=True):
        yield from _Reach(compiled, number, rule, [sides[at] for at in numbers_of(callers)]).findings()


class _Reach:
    """The search for a request that one rule matches, and for what an allow really gives."""

    def __init__(self, compiled: Compiled, number: int, rule: Rule, sides: list[Side]) -> None:
        self._compiled: Final = compiled
        self._number: Final = number
        self._rule: Final = rule
        self._sides: Final = sides
        gives = rule.effect is Effect.ALLOW and not rule.monitor
        self._left = rule.ops if gives else Op(0)
        self._matched = False
        self._denied_by: dict[Op, set[str]] = {}

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the rule."""
        if not self._sides:
            told = "who matches no caller: no app, and no uid, meets all its conditions"
            yield on_rule("never-matches", self._rule, told, "correct who, or remove the rule")
            return
        self._try_plain_paths()
        try:
            if not self._done():
                self._try_all_paths()
        except TooHardError:
            yield not_searched(self._rule)
            return
        if not self._matched:
            yield on_rule(
                "never-matches",
                self._rule,
                "no request ever matches: paths, when and unless leave nothing",
                "correct its conditions, or remove the rule",
            )
        elif self._left:
            yield self._without_effect()

    def _without_effect(self) -> Finding:
        ops = ", ".join((op.name or "").lower() for op in self._left)
        whole = self._left == self._rule.ops
        what = "this allow never gives anything" if whole else f"{ops} never takes effect"
        denies = sorted(set().union(*(self._denied_by.get(op, set()) for op in self._left)))
        if denies:
            told = f"{what}: denied wherever it matches, by {', '.join(denies)}"
            todo = "remove it, or write an exception into the deny"
            return on_rule("covered-by-deny", self._rule, told, todo)
        told = f"{what}: no rule lets these callers see the paths"
        return on_rule("unseen", self._rule, told, "add see to the allow")

    def _done(self) -> bool:
        return self._matched and not self._left

    def _try_plain_paths(self) -> None:
        paths = self._rule.paths or ("/**",)
        for side in self._sides[:_TRIED]:
            for glob in paths[:_TRIED]:
                names = plain_names(parse_glob(glob), side)
                if names is not None and not self._done():
                    position, hidden_by = _down(side, names)
                    self._try_place(side, position, top=not names, hidden_by=hidden_by)

    def _try_all_paths(self) -> None:
        numbers = frozenset({self._number})
        nodes = self._compiled.nodes_of(numbers)
        everywhere = self._number in self._compiled.table.everywhere()
        for side in self._sides:
            places = Walk((side,)).places(
                lambda place: everywhere or not nodes.isdisjoint(place.positions[0].free)
            )
            for place in places:
                by = frozenset() if (False,) in place.hidden else _down(side, place.names)[1]
                self._try_place(side, place.positions[0], top=place.top, hidden_by=by)
                if self._done():
                    return

    def _try_place(self, side: Side, position: Position, *, top: bool, hidden_by: frozenset[str]) -> None:
        profile = side.profile(position, top=top)
        live = next((live for live in profile.lives if live.number == self._number), None)
        if live is None:
            return
        files = FileClasses(profile.lives)
        for ftype in (FileType.DIRECTORY,) if top else FILE_TYPES:
            for facts in files.samples(ftype):
                if live.match(fixed_facts(ftype, facts)) is not Truth.YES:
                    continue
                self._matched = True
                for op in self._left:
                    decision = side.profile(position, top=top).answer(
                        int(op), ftype, facts, below=lambda: side.below(position)
                    )
                    self._weigh(op, decision, hidden_by)
                if self._done():
                    return

    def _weigh(self, op: Op, decision: Decision, hidden_by: frozenset[str]) -> None:
        """Take note of an answer to an operation where the rule matches."""
        if decision.allowed and not decision.bare and not hidden_by:
            self._left &= ~op
            return
        denies = {
            match.rule
            for match in decision.rules
            if match.effect == Effect.DENY.value and not match.monitor
        }
        self._denied_by.setdefault(op, set()).update(denies | hidden_by)


def not_searched(rule: Rule) -> Finding:
    """Return the finding on a rule for which not all requests could be tried."""
    told = "the policy has too many sorts of paths or callers, so not all requests could be checked"
    return on_rule("not-searched", rule, told, "use fewer ** and ? in a row, and fewer numbers beside {uid}")


def _down(side: Side, names: Iterable[str]) -> tuple[Position, frozenset[str]]:
    """Return the position of a path, and the rules that may hide it by one of its directories."""
    position, top = side.root, True
    found: set[str] = set()
    for name in names:
        if side.hides:
            found.update(live.rule.id for live in side.hiding(position, top=top))
        position, top = side.step(position, name), False
    return position, frozenset(found)


def plain_names(glob: Glob, side: Side) -> tuple[str, ...] | None:
    """Return the names of a path that a glob matches for a caller; None if it can match none."""
    names = []
    for segment in glob.segments:
        if segment is DEEP:
            continue
        name = ""
        for token in segment.variants[0]:
            if token is Wild.APP or token is Wild.UID:
                if side.caller.app is None:
                    return None
                name += side.caller.app if token is Wild.APP else str(side.caller.uid)
            else:
                name += token if isinstance(token, str) else _PLAIN
        names.append(name)
    return (*names, *([] if glob.end is End.HERE else [_PLAIN]))
