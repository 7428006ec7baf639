"""Search, among all requests, for rules that match none, and for allow rules that have no effect."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.domain import Decision, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.sides import numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import Walk
from policyfs.policy.errors import words_of
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.lint.places import Here, Places, plain_names
from policyfs.policy.model import Effect, Rule
from policyfs.policy.rules.facts import FILE_TYPES, Truth, fixed_facts

_TRIED: Final = 8
"""Maximum number of callers, and of globs, for which plain paths are tried before all paths."""


def reach(places: Places, groups: Sequence[Group]) -> Iterator[Finding]:
    """Yield the findings on all rules: rules that match no request, and allow rules without effect."""
    track = Track([group.sides[0] for group in groups])
    for number, rule in enumerate(places.compiled.table.rules):
        yield from _Reach(places, number, rule, track).findings()


class _Reach:
    """The search for a request that one rule matches; for an allow, one for each of its operations."""

    def __init__(self, places: Places, number: int, rule: Rule, track: Track) -> None:
        self._places: Final = places
        self._number: Final = number
        self._rule: Final = rule
        self._track: Final = track
        self._callers: Final = track.about.by_rule[number]
        gives = rule.effect is Effect.ALLOW and not rule.monitor
        self._left = rule.ops if gives else Op(0)
        self._matched = False
        self._denied_by: dict[Op, set[str]] = {}
        self._undenied = Op(0)
        """Operations that are refused at some path where no rule denies them."""

    def findings(self) -> Iterator[Finding]:
        if not self._callers:
            told = '"who" matches no caller: no app and no uid meets all its conditions'
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
                "no request can meet all its conditions (paths and when must match, unless must not)",
                "correct these conditions, or remove the rule",
            )
            return
        unseen = self._left & self._undenied
        if unseen:
            told = f"{self._what(unseen)}: no rule lets these callers see the paths"
            yield on_rule("unseen", self._rule, told, "add see to the allow")
        if covered := self._left & ~unseen:
            yield self._covered(covered)

    def _what(self, ops: Op) -> str:
        return f"{'this allow' if ops == self._rule.ops else words_of(ops)} never takes effect"

    def _covered(self, ops: Op) -> Finding:
        whole = ops == self._rule.ops
        denies = sorted(set().union(*(self._denied_by.get(op, set()) for op in ops)))
        told = f"{self._what(ops)}: wherever the rule matches, the request is denied by {', '.join(denies)}"
        gone = "the rule" if whole else f"{words_of(ops)} from the rule"
        todo = f"remove {gone}, or let the deny spare these requests (unless: {{path: ...}})"
        return on_rule("covered-by-deny", self._rule, told, todo)

    def _done(self) -> bool:
        return self._matched and not self._left

    def _try_plain_paths(self) -> None:
        globs = (self._rule.paths or ("/**",))[:_TRIED]
        for side in (self._track.sides[at] for at in itertools.islice(numbers_of(self._callers), _TRIED)):
            for glob in globs:
                names = plain_names(glob, side.caller)
                if names is not None:
                    here = self._places.at(names, side)
                    self._try_place(here, here.hidden_by)
                    if self._done():
                        return

    def _try_all_paths(self) -> None:
        track, rules = self._track, self._places.compiled.table.rules
        for spot in Walk([track], lambda spot: track.leading_to(spot.nodes[0], self._number)).spots():
            hiders = () if (False,) in spot.hidden else spot.hiders
            by = frozenset(rules[number].id for _, number in hiders)
            for at in numbers_of(spot.callers & self._callers):
                position = track.position(spot.nodes[0], at)
                self._try_place(self._places.here(position, track.sides[at], top=spot.top), by)
                if self._done():
                    return

    def _try_place(self, here: Here, hidden_by: frozenset[str]) -> None:
        at = next((at for at, live in enumerate(here.lives) if live.number == self._number), None)
        if at is None:
            return
        asked = (at, self._left, self._matched, bool(hidden_by))
        seen = here.shared(asked, lambda below: _look(here, asked, below))
        self._matched, self._left = seen.matched, seen.left
        for op, denies in seen.denied:
            by = {here.lives[deny].rule.id for deny in denies} | hidden_by
            self._denied_by.setdefault(op, set()).update(by)
            if not by:
                self._undenied |= op


_OF_FILES: Final = Op.READ | Op.WRITE
"""A rule that allows these operations means files, not directories that are seen only as a way."""


class _Seen(NamedTuple):
    """The results for one rule so far. denied: operations with the indices of the rules that deny them."""

    matched: bool
    left: Op
    denied: tuple[tuple[Op, tuple[int, ...]], ...]


def _look(here: Here, asked: tuple[int, Op, bool, bool], below: Callable[[], bool]) -> _Seen:
    """Find out if a rule matches a file at a path, and which of its operations are allowed. asked: the rule's
    index; the operations left; True if it has matched elsewhere; True if the path is hidden."""
    at, left, matched, hidden = asked
    live, profile = here.lives[at], here.profile
    numbers = {one.rule.id: number for number, one in enumerate(here.lives)}
    denied: list[tuple[Op, tuple[int, ...]]] = []
    files = FileClasses(profile.lives)
    for ftype in (FileType.DIRECTORY,) if here.top else FILE_TYPES:
        for facts in files.samples(ftype):
            if live.match(fixed_facts(ftype, facts)) is not Truth.YES:
                continue
            matched = True
            for op in left:
                decision = profile.answer(int(op), ftype, facts, below=below)
                if decision.allowed and not hidden and not (decision.bare and op & _OF_FILES):
                    left &= ~op
                else:
                    denied.append((op, tuple(numbers[rule] for rule in _denies(decision))))
            if not left:
                return _Seen(matched, left, ())
    return _Seen(matched, left, tuple(denied))


def _denies(decision: Decision) -> list[str]:
    return [match.rule for match in decision.rules if match.effect == Effect.DENY.value and not match.monitor]


def not_searched(rule: Rule) -> Finding:
    """Return the finding on a rule for which not all requests could be tried."""
    told = "the policy has too many different paths or callers to check all requests"
    fewer = "use fewer ** and ? in a row; if a glob has {uid}, use fewer numbers as names in other globs"
    return on_rule("not-searched", rule, told, fewer)
