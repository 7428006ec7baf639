"""Proof of a policy's invariants: each holds for every request, or there is a request that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import KIND_EMPTY, Decision, Facts, FileType, Op
from policyfs.policy.analysis.files import GONE, FileClasses
from policyfs.policy.analysis.outcomes import hides_at_least, redaction
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import Group, groups
from policyfs.policy.analysis.walk import Place, Walk, is_made_up
from policyfs.policy.classes import TooHardError
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import PolicyError, PolicyErrors, harmless
from policyfs.policy.exceptions import ALWAYS, in_force
from policyfs.policy.facts import FILE_TYPES, Truth, fixed_facts
from policyfs.policy.model import Effect, Invariant, Policy, Promise
from policyfs.policy.parse import SourceText, parse_policy
from policyfs.policy.table import Live

_MARK: Final = "\0invariant "

Rank = tuple[int, ...]


class Breach(NamedTuple):
    """A request that breaks an invariant."""

    invariant: Invariant
    request: Request
    decision: Decision


def load_policy(
    sources: Sequence[SourceText],
    *,
    monitor: bool = False,
    parse: Callable[[Sequence[SourceText]], Policy] = parse_policy,
    at_ns: int | None = None,
) -> Engine:
    """Parse, prove and compile a policy: what a mount loads. Raises PolicyErrors.

    at_ns: the time, in ns since 1970; exceptions that have ended then are left out. None: all are.
    """
    policy = parse(sources)
    prove(policy)
    return compile_policy(policy if at_ns is None else in_force(policy, at_ns), monitor=monitor)


def prove(policy: Policy) -> None:
    """Raise PolicyErrors with a request for each invariant that does not hold.

    All exceptions count, ended or not: a policy that loads today loads tomorrow.
    """
    if not policy.invariants:
        return
    try:
        found = breaches(policy)
    except TooHardError as error:
        raise PolicyErrors([_unproved(one) for one in policy.invariants]) from error
    if found:
        raise PolicyErrors([_told(breach, policy) for breach in found])


def breaches(policy: Policy) -> list[Breach]:
    """Return one request for each invariant that does not hold. Raises TooHardError."""
    # as monitored denies the invariants are matched as rules are, and change no answer
    promised = {_MARK + one.id: one for one in policy.invariants}
    rules = tuple(replace(one.rule, id=name) for name, one in promised.items())
    whole = in_force(policy, ALWAYS)
    compiled = Compiled(compile_policy(replace(whole, rules=(*whole.rules, *rules))))
    best: dict[str, tuple[Rank, Breach]] = {}
    for group in groups([compiled]):
        for rank, breach in _Proof(compiled, group, promised).breaches():
            known = best.get(breach.invariant.id)
            if known is None or rank < known[0]:
                best[breach.invariant.id] = (rank, breach)
    return [best[one.id][1] for one in policy.invariants if one.id in best]


class _Proof:
    """The search among the requests of one group of callers."""

    def __init__(self, compiled: Compiled, group: Group, promised: dict[str, Invariant]) -> None:
        self._group: Final = group
        self._side: Final[Side] = group.sides[0]
        self._promised: Final = promised
        table = compiled.table
        self._numbers: Final = frozenset(n for n in self._side.rules if table.rules[n].id in promised)
        self._nodes: Final = compiled.nodes_of(self._numbers)
        self._everywhere: Final = not self._numbers.isdisjoint(table.everywhere())
        self._walk: Final = Walk(group.sides)

    def breaches(self) -> Iterator[tuple[Rank, Breach]]:
        """Yield requests that break invariants, each with a key by which plain ones come first."""
        if not self._numbers:
            return
        for place in self._walk.places(self._alive):
            if self._alive(place) and (False,) in place.hidden:
                yield from self._at(place)

    def _alive(self, place: Place) -> bool:
        return self._everywhere or not self._nodes.isdisjoint(place.positions[0].free)

    def _at(self, place: Place) -> Iterator[tuple[Rank, Breach]]:
        profile = self._side.profile(place.positions[0], top=place.top)
        asked = [live for live in profile.lives if live.number in self._numbers]
        if not asked:
            return
        files = FileClasses(profile.lives)
        best: dict[tuple[int, Op], tuple[Rank, FileType, Facts, Decision]] = {}
        for ftype in (FileType.DIRECTORY,) if place.top else FILE_TYPES:
            for facts in files.samples(ftype):
                for live in asked:
                    for op, decision in self._broken(live, place, ftype, facts):
                        rank = _rank(place, op, ftype, facts)
                        key = (live.number, op)
                        if key not in best or rank < best[key][0]:
                            best[key] = (rank, ftype, facts, decision)
        for (number, op), (rank, ftype, facts, decision) in best.items():
            invariant = self._promised[self._side.compiled.table.rules[number].id]
            yield rank, Breach(invariant, self._request(place, op, ftype, facts, files), decision)

    def _broken(
        self, live: Live, place: Place, ftype: FileType, facts: Facts
    ) -> Iterator[tuple[Op, Decision]]:
        """Yield the operations that an invariant forbids and the policy allows."""
        if live.match(fixed_facts(ftype, facts)) is Truth.NO:
            return
        invariant = self._promised[live.rule.id]
        raw = invariant.promise is Promise.NEVER_RAW
        if raw and (ftype is not FileType.REGULAR or facts.kind == KIND_EMPTY):
            return
        position = place.positions[0]
        profile = self._side.profile(position, top=place.top)
        for op in live.rule.ops:
            decision = profile.answer(int(op), ftype, facts, below=lambda: self._side.below(position))
            if decision.allowed and not (raw and hides_at_least(decision.redact, invariant.words)):
                yield op, decision

    def _request(
        self, place: Place, op: Op, ftype: FileType, facts: Facts, files: FileClasses
    ) -> Request:
        subject = self._group.subjects[0]
        apps = {app.name for app in self._side.compiled.engine.policy.apps}
        owners = place.hidden[(False,)] if place.may_be_hidden else ()
        owners = tuple(GONE if owner == "\0app" else owner for owner in owners)
        path = b"/" + b"/".join(self._walk.spelled(place))
        return Request(subject, op, path, ftype, files.spelled(facts, apps - {subject.apps[0]}), owners)


def _rank(place: Place, op: Op, ftype: FileType, facts: Facts) -> Rank:
    names = place.names
    special = bool(names) and not is_made_up(names[-1])
    return FILE_TYPES.index(ftype), facts.kind is None, facts.owner is None, special, len(names), int(op)


def _told(breach: Breach, policy: Policy) -> PolicyError:
    """Return the counterexample as an error at the invariant."""
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
        what = f"{what}, {redaction(decision.redact)}"
    for directory, owner in request.above():
        what += f", where {directory} is owned by {owner}"
    command = request.command(name, frozenset(app.name for app in policy.apps))
    return PolicyError(
        where,
        f'invariant "{harmless(invariant.id)}" does not hold: {what}',
        f"change the rules, or the invariant; this shows the rules: {command}",
        invariant.line,
        invariant.width,
    )


def _unproved(invariant: Invariant) -> PolicyError:
    return PolicyError(
        invariant.rule.where,
        f'invariant "{harmless(invariant.id)}" cannot be proved: the policy has too many sorts of paths',
        "use fewer ** and ? in a row, or name fewer paths in the invariant",
        invariant.line,
        invariant.width,
    )



