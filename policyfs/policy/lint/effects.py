"""Search for rules without effect: denies and requirements where no allow applies, and repeated rules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.sides import Compiled, Side, numbers_of
from policyfs.policy.analysis.subjects import Group, groups
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import Walk
from policyfs.policy.decide import compile_policy
from policyfs.policy.errors import words_of
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.lint.places import Here, Places, plain_names, sides_by_app
from policyfs.policy.lint.reach import not_searched
from policyfs.policy.lint.texts import other_form
from policyfs.policy.model import STRANGER, Effect, Policy, Rule, Who
from policyfs.policy.rules.facts import FILE_TYPES, Truth, fixed_facts

_SYNCS: Final = re.compile(r"sync|cloud|unison|resilio|dropbox|seafile", re.IGNORECASE)
_HEAD: Final = re.compile(r"/[^/*?{]+")
_MOST: Final = 5_000
"""Maximum number of places (classes of paths) that are tried for all rules of a policy together."""
_TRIED: Final = 8
"""Maximum number of callers for which plain paths are tried first."""


def repeated(rules: Iterable[Rule]) -> Iterator[Finding]:
    """Yield a finding for each rule that only repeats another rule, or a part of it."""
    known: dict[tuple[object, ...], list[Rule]] = {}
    for rule in rules:
        for path in rule.paths or (None,):
            known.setdefault((_sort(rule), path), []).append(rule)
    flagged: set[str] = set()
    for rule in (one for some in known.values() for one in some):
        sort = _sort(rule)
        near = [*known.get((sort, None), ()), *known[sort, (rule.paths or (None,))[0]]]
        covers = (one for one in near if one is not rule and one.id not in flagged and _covers(one, rule))
        other = next(covers, None)
        if other is None or rule.id in flagged or (_covers(rule, other) and _begins_before(rule, other)):
            continue
        flagged.add(rule.id)
        told = f"this rule changes nothing: rule {other.id} has the same effect on all its requests"
        yield on_rule("no-effect", rule, told, "remove one of the two rules, or correct who or paths")


def _sort(rule: Rule) -> tuple[object, ...]:
    return (
        rule.effect, rule.who, rule.ignore_case, rule.when, frozenset(rule.unless), rule.errno, rule.audit,
        rule.monitor, rule.quarantine, rule.raw_types, rule.content,
    )  # fmt: skip


def _covers(rule: Rule, other: Rule) -> bool:
    paths = rule.paths is None or (other.paths is not None and set(other.paths) <= set(rule.paths))
    return paths and other.ops & ~rule.ops == Op(0) and other.redact <= rule.redact


def _begins_before(rule: Rule, other: Rule) -> bool:
    one, two = rule.where, other.where
    return (one.file, one.line, one.column) < (two.file, two.line, two.column)


class Effects:
    """The search for denies and requirements (restrictions) that change no answer.

    It asks a policy without restrictions if it allows a request on which a restriction has an effect. There
    each restriction is a deny that is only recorded (a probe).
    """

    def __init__(self, policy: Policy) -> None:
        """Take the policy. Raise TooHardError if it has too many callers."""
        self._policy: Final = policy
        self._restrictions: Final = [
            rule for rule in policy.rules if rule.effect is not Effect.ALLOW and not rule.monitor
        ]
        rules = [rule for rule in policy.rules if rule.effect is Effect.ALLOW and not rule.monitor]
        for rule in self._restrictions:
            rules.append(_probe(rule, rule.id, None if _is_guard(rule.who) else rule.who, _ops(rule)))
            if len(rule.paths or ()) > 1:
                rules += (
                    replace(_probe(rule, f"{rule.id} {at}", None, Op.ALL), paths=(glob,))
                    for at, glob in enumerate(rule.paths or ())
                )
        self._free: Final = Compiled(compile_policy(replace(policy, rules=tuple(rules), exceptions=())))
        self._places: Final = Places(self._free)
        self._number: Final = {rule.id: number for number, rule in enumerate(self._free.table.rules)}
        self._left = _MOST
        self._unsearched: Final[set[str]] = set()
        callers = groups([self._free])
        self._track: Final = Track([group.sides[0] for group in callers])
        self._by_app: Final = sides_by_app(callers)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings on all restrictions."""
        for rule in self._restrictions:
            try:
                yield from self._of(rule)
            except TooHardError:
                yield not_searched(rule)
        unsearched = [rule for rule in self._restrictions if rule.id in self._unsearched]
        if unsearched:
            told = (
                f"the search for rules without effect ended after {_MOST:,} classes of paths; this rule and"
                f" {len(unsearched) - 1:,} others are not checked for no-effect"
            )
            yield on_rule("not-searched", unsearched[0], told, "test these rules (policyfs policy test)")

    def _of(self, rule: Rule) -> Iterator[Finding]:
        if rule.paths is None and rule.when is None and _is_guard(rule.who):
            return  # a default, also for apps and paths that the policy gets later
        if not self._has_effect(rule.id):
            what = {Effect.DENY: "deny", Effect.LIMIT: "limit"}.get(rule.effect, "requirement")
            told = f"this {what} has no effect: no allow lets its callers {words_of(rule.ops)} at its paths"
            yield on_rule("no-effect", rule, told, self._remedy(rule.paths or ()))
            return
        for at, glob in enumerate(rule.paths or ()):
            if other_form(glob) in (rule.paths or ()):
                continue  # a name that no allow has in this Unicode form, as `spelling` proposes
            if f"{rule.id} {at}" in self._number and not self._has_effect(f"{rule.id} {at}"):
                told = f"the rule has no effect at {glob}: no allow applies there"
                yield on_rule("no-effect", rule, told, self._remedy((glob,)))
                return

    def _remedy(self, globs: Sequence[str]) -> str:
        heads = {found[0] for rule in self._policy.rules if rule.effect is Effect.ALLOW
                 for glob in rule.paths or () if (found := _HEAD.match(glob))}  # fmt: skip
        for head in (found[0] for glob in globs if (found := _HEAD.match(glob)) and found[0] not in heads):
            lower = {one.lower(): one for one in sorted(heads)}
            near = difflib.get_close_matches(head.lower(), lower, 1, 0.75)
            if near:
                return f"write {head} here and {lower[near[0]]} in an allow alike, if one is a typing error"
        return "correct who or paths, or remove what has no effect"

    def _has_effect(self, probe: str) -> bool:
        number = self._number[probe]
        rule = self._free.table.rules[number]
        globs = (rule.paths or ("/**",))[:_TRIED]
        track = self._track
        callers = list(numbers_of(track.about.by_rule[number]))
        for side in (track.sides[at] for at in callers[:_TRIED]):
            for glob in globs:
                names = plain_names(glob, side.caller)
                if names is not None and _allowed(self._places.at(names, side), number, rule.ops):
                    return True
        for spot in Walk([track], lambda spot: track.leading_to(spot.nodes[0], number)).spots():
            for at in numbers_of(spot.callers):
                self._left -= 1
                if self._left < 0:
                    self._unsearched.add(probe.partition(" ")[0])
                    return True  # without a proof, the rule counts as one with an effect
                here = self._places.here(track.position(spot.nodes[0], at), track.sides[at], top=spot.top)
                if _allowed(here, number, rule.ops):
                    return True
        return False

    def hidden_from_sync(self, places: Places, callers: Sequence[Group]) -> Iterator[Finding]:
        """Yield a finding if a deny hides files from a sync app. places, callers: of the whole policy."""
        syncs = [sides[0] for app, sides in sides_by_app(callers).items() if _SYNCS.search(app)]
        for rule in self._restrictions:
            if rule.effect is not Effect.DENY or not rule.ops & Op.SEE:
                continue
            found = next(filter(None, (self._hidden(rule, places, side) for side in syncs)), None)
            if found is not None:
                yield found

    def _hidden(self, rule: Rule, places: Places, side: Side) -> Finding | None:
        app = side.caller.app or ""
        free = self._by_app[app][0]
        for glob in rule.paths or ("/**",):
            names, facts = plain_names(glob, side.caller), Facts("image/jpeg", "none")
            if not names or not any(live.rule.id == rule.id for live in places.at(names, side).lives):
                continue
            if self._places.at(names, free).answer(Op.SEE, facts).allowed:
                told = (
                    f"this deny hides files from {app}, which looks like a sync job: its peers take the"
                    " hidden files for deleted, and may delete their copies"
                )
                todo = "exclude these files in the app's own settings, or exempt the app from this rule"
                return on_rule("hidden-from-sync", rule, told, todo)
        return None


def _probe(rule: Rule, name: str, who: Who | None, ops: Op) -> Rule:
    return Rule(
        id=name, effect=Effect.DENY, ops=ops, who=who, paths=rule.paths, where=rule.where,
        ignore_case=rule.ignore_case, when=rule.when, unless=rule.unless, monitor=True,
    )  # fmt: skip


def _ops(rule: Rule) -> Op:
    """Return the operations of which one must be allowed: with errno or audit also `see`."""
    return rule.ops | Op.SEE if rule.errno is not None or rule.audit is not None else rule.ops


def _is_guard(who: Who | None) -> bool:
    """Return True if a restriction is for all callers but some: also for apps that the policy gets later."""
    if who is None or who.apps == frozenset({STRANGER}):
        return True
    return who.apps is None and who.grants is None and who.uids is None


def _allowed(here: Here, number: int, ops: Op) -> bool:
    at = next((at for at, live in enumerate(here.lives) if live.number == number), None)
    if at is None:
        return False
    index = at

    def find(below: Callable[[], bool]) -> bool:
        live, profile = here.lives[index], here.profile
        files = FileClasses(profile.lives)
        return any(
            live.match(fixed_facts(ftype, facts)) is not Truth.NO
            and any(
                decision.allowed and not (here.top and decision.bare)
                for decision in (profile.answer(int(op), ftype, facts, below=below) for op in ops)
            )
            for ftype in ((FileType.DIRECTORY,) if here.top else FILE_TYPES)
            for facts in files.samples(ftype)
        )

    return here.shared(("allowed", index, ops), find)
