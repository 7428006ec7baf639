"""Proof of the invariants of a policy: no request can break them, or the proof finds a request that does."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import KIND_EMPTY, Decision, Facts, FileType, Op, hides_at_least
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.outcomes import redaction
from policyfs.policy.analysis.partition import Lives, Part
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.samples import Sample, Samples, is_made_up
from policyfs.policy.analysis.shapes import Shapes
from policyfs.policy.analysis.sides import Compiled, bits, numbers_of
from policyfs.policy.analysis.subjects import Group, groups
from policyfs.policy.analysis.tracks import Callers, Marks, Track
from policyfs.policy.analysis.walk import Spot, Walk
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import PolicyError, PolicyErrors, harmless
from policyfs.policy.exceptions import ALWAYS, in_force
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Effect, Invariant, Policy, Promise, Rule
from policyfs.policy.rules.facts import FILE_TYPES, Truth, fixed_facts
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.table import Live
from policyfs.policy.text.parse import SourceText, parse_policy

_MARK: Final = "\0invariant "

Rank = tuple[int, ...]


class Breach(NamedTuple):
    """A request that breaks an invariant."""

    invariant: Invariant
    request: Request
    decision: Decision


def load_policy(sources: Sequence[SourceText], *, monitor: bool = False, at_ns: int | None = None) -> Engine:
    """Parse a policy for a mount, prove its invariants, and compile it. Raise PolicyErrors. at_ns: the time,
    in ns since 1970, at which exceptions must be in force to count; None: none counts."""
    policy = proved_policy(sources)
    return compile_policy(policy if at_ns is None else in_force(policy, at_ns), monitor=monitor)


def proved_policy(sources: Sequence[SourceText]) -> Policy:
    """Parse a policy, and prove its invariants. Raise PolicyErrors."""
    policy = parse_policy(sources)
    prove(policy)
    return policy


def prove(policy: Policy) -> None:
    """Raise PolicyErrors with a request for each invariant that does not hold, or cannot be proved. All
    exceptions count, even those that have ended: the result does not depend on the date."""
    if not policy.invariants:
        return
    try:
        found = breaches(policy)
    except TooHardError as error:
        raise PolicyErrors([_unproved(one) for one in policy.invariants]) from error
    if found:
        raise PolicyErrors([_told(breach, policy) for breach in found])


def breaches(policy: Policy) -> list[Breach]:
    """Return one request for each invariant of the policy that does not hold. Raise TooHardError."""
    whole = in_force(policy, ALWAYS)
    promised = {_MARK + one.id: one for one in whole.invariants}
    # each of these rules is a deny with `mode: monitor`: it matches requests, but changes no answer
    rules = tuple(replace(one.rule, id=name) for name, one in promised.items())
    with paused():
        compiled = Compiled(compile_policy(replace(whole, rules=(*whole.rules, *rules))))
        found = {one.invariant.id: one for one in _Proof(groups([compiled]), promised).breaches()}
    return [found[one.id] for one in promised.values() if one.id in found]


class _Broken(NamedTuple):
    """A request that breaks an invariant wherever the same rules match. at: the invariant's index there."""

    at: int
    op: Op
    ftype: FileType
    facts: Facts
    files: FileClasses

    @property
    def rank(self) -> Rank:
        """A sort key by which plain requests come first. The path does not count."""
        return FILE_TYPES.index(self.ftype), self.facts.kind is None, self.facts.owner is None


_SHOWN: Final = (False,)
"""The value of clues.Way for a place that no directory above hides."""


class _Found(NamedTuple):
    """A request that breaks an invariant at a class of paths. caller: the index of the caller's group."""

    rank: Rank
    sample: Sample
    caller: int
    lives: tuple[Live, ...]
    bare: bool


class _Proof:
    def __init__(self, callers: Sequence[Group], promised: dict[str, Invariant]) -> None:
        sides = [group.sides[0] for group in callers]
        self._rules: Final = sides[0].compiled.table.rules
        self._promised: Final = {
            number: promised[rule.id] for number, rule in enumerate(self._rules) if rule.id in promised
        }
        self._groups: Final = callers
        asked = bits(self._promised)
        self._track: Final = Track(sides, [frozenset(numbers_of(side.bits & asked)) for side in sides])
        ops = functools.reduce(operator.or_, (self._rules[number].ops for number in self._promised), Op(0))
        about = self._track.about.by_rule
        self._giving: Final = Marks(
            [about[number] if _gives(rule, ops) else 0 for number, rule in enumerate(self._rules)]
        )
        self._pending = self._track.watched
        self._walk: Final = Walk([self._track], functools.partial(self._matters, self._pending))
        self._open: Final = set(self._promised)
        """The invariants for which the search can still find a plainer request."""
        self._only_files: Final = all(one.promise is Promise.NEVER_RAW for one in promised.values())
        """True if no invariant is about directories, so that bare directories do not matter."""
        self._shapes: Final = Shapes()
        self._known: Final[dict[tuple[object, ...], list[_Broken]]] = {}
        self._best: Final[dict[int, _Found]] = {}

    def breaches(self) -> list[Breach]:
        for spot in self._walk.spots():
            if _SHOWN in spot.hidden:
                for part in self._walk.parts(spot):
                    self._at(spot, part)
            if not self._open:
                break
        samples = Samples(self._groups)
        return [
            Breach(self._promised[number], samples.request(best.sample, best.caller), self._decision(best))
            for number, best in sorted(self._best.items())
        ]

    def _matters(self, pending: Marks, spot: Spot) -> Callers:
        if _SHOWN not in spot.hidden:
            return 0
        asked = self._track.leading(spot.nodes[0], pending) & spot.callers
        # everyone sees the root; a rule must allow anything else
        return asked if spot.top or not asked else asked & self._track.leading(spot.nodes[0], self._giving)

    def _at(self, spot: Spot, part: Part) -> None:
        (lives,) = part.lives
        if not any(watched for _, watched in lives):
            return
        below = 0 if self._only_files else self._track.below(spot.nodes[0], part.callers)
        for bare, callers in ((True, part.callers & below), (False, part.callers & ~below)):
            for broken in self._broken(lives, top=spot.top, bare=bare) if callers else ():
                self._take(spot, lives, broken, callers, bare=bare)

    def _take(self, spot: Spot, lives: Lives, broken: _Broken, callers: Callers, *, bare: bool) -> None:
        names = spot.names
        special = bool(names) and not is_made_up(names[-1])
        rank = (*broken.rank, special, len(names), int(broken.op))
        number, caller = lives[broken.at][0].number, next(numbers_of(callers))
        known = self._best.get(number)
        if known is not None and (known.rank, known.caller) <= (rank, caller):
            return
        sample = Sample(spot, broken.op, broken.ftype, broken.facts, _SHOWN, broken.files)
        self._best[number] = _Found(rank, sample, caller, tuple(live for live, _ in lives), bare)
        if not any(rank[:4]) and broken.op is next(iter(self._promised[number].rule.ops)):
            # later requests have longer paths
            marks = [0 if n == number else who for n, who in enumerate(self._pending.by_rule)]
            self._pending = Marks(marks)
            self._walk.matters = functools.partial(self._matters, self._pending)
            self._open.discard(number)

    def _broken(self, lives: Lives, *, top: bool, bare: bool) -> list[_Broken]:
        asked = [
            (at, live, self._promised[live.number]) for at, (live, watched) in enumerate(lives) if watched
        ]
        terms = tuple((one.promise, one.words) for _, _, one in asked)
        key = (self._shapes.of((lives,)), terms, top, bare)
        found = self._known.get(key)
        if found is None:
            best: dict[tuple[int, Op], _Broken] = {}
            profile = Profile(self._track.compiled.table.policy, tuple(live for live, _ in lives), top=top)
            files = FileClasses(profile.lives)
            for ftype in (FileType.DIRECTORY,) if top else FILE_TYPES:
                for facts in files.samples(ftype):
                    for at, live, invariant in asked:
                        for op in _forbidden(live, invariant, profile, ftype, facts, bare=bare):
                            one = _Broken(at, op, ftype, facts, files)
                            if (at, op) not in best or one.rank < best[at, op].rank:
                                best[at, op] = one
            found = self._known[key] = list(best.values())
        return found

    def _decision(self, found: _Found) -> Decision:
        sample = found.sample
        profile = Profile(self._track.compiled.table.policy, found.lives, top=sample.spot.top)
        return profile.answer(int(sample.op), sample.ftype, sample.facts, below=lambda: found.bare)


def _gives(rule: Rule, ops: Op) -> bool:
    return rule.effect is Effect.ALLOW and not rule.monitor and bool(rule.ops & ops)


def _forbidden(
    live: Live, invariant: Invariant, profile: Profile, ftype: FileType, facts: Facts, *, bare: bool
) -> Iterator[Op]:
    if live.match(fixed_facts(ftype, facts)) is Truth.NO:
        return
    raw = invariant.promise is Promise.NEVER_RAW
    if raw and (ftype is not FileType.REGULAR or facts.kind == KIND_EMPTY):
        return
    for op in live.rule.ops:
        decision = profile.answer(int(op), ftype, facts, below=lambda: bare)
        if decision.allowed and not (raw and hides_at_least(decision.redact, invariant.words)):
            yield op


def _told(breach: Breach, policy: Policy) -> PolicyError:
    invariant, request, decision = breach
    where = invariant.rule.where
    files = {rule.where.file for rule in policy.rules} | {one.rule.where.file for one in policy.invariants}
    name = where.file if len(files) == 1 else where.file.rpartition("/")[0] or "."
    allows = sorted(
        match.rule
        for match in decision.rules
        if match.effect == Effect.ALLOW.value and match.op & request.op and not match.monitor
    )
    by = f" by {', '.join(allows)}" if allows else ""
    file = f" ({request.file})" if request.file else ""
    what = f"{request.subject.label} may {request.word} {harmless(request.shown_path)}{file}{by}"
    if invariant.promise is Promise.NEVER_RAW:
        told = redaction(decision.redact)
        what = f"{what}, with {'only ' if ' removed' in told else ''}{told}"
    for directory, owner in request.above():
        what += f", where {directory} is owned by {owner}"
    command = request.command(name, frozenset(app.name for app in policy.apps))
    return PolicyError(
        where,
        f'invariant "{harmless(invariant.id)}" does not hold: {what}',
        f"change the rules or the invariant; this command shows the rules: {command}",
        invariant.line,
        invariant.width,
    )


def _unproved(invariant: Invariant) -> PolicyError:
    return PolicyError(
        invariant.rule.where,
        f'invariant "{harmless(invariant.id)}" cannot be proved: the policy has too many different paths',
        "use fewer ** and ? in a row, or name fewer paths in the invariant",
        invariant.line,
        invariant.width,
    )
