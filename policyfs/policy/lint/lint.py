"""All findings (probable mistakes) on one policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.lint.dates import dates
from policyfs.policy.lint.effects import Effects, repeated
from policyfs.policy.lint.findings import Finding, Silenced, split
from policyfs.policy.lint.hints import hints
from policyfs.policy.lint.modes import principal_of
from policyfs.policy.lint.places import Places, plain_names, shown
from policyfs.policy.lint.reach import not_searched, reach
from policyfs.policy.lint.rights import Rights
from policyfs.policy.lint.texts import texts
from policyfs.policy.lint.writers import Writers
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText

_TRIED: Final = 8
"""Maximum number of callers for which one path of an invariant is tried."""


class Report(NamedTuple):
    """The findings to report, sorted by place, and the findings that comments in the policy silence."""

    findings: list[Finding]
    silenced: list[Silenced]


def lint(
    engine: Engine, sources: Sequence[SourceText], more: Iterable[Finding] = (), *, at_ns: int
) -> Report:
    """Return the findings on a policy at a time, in ns since 1970. more: further ones, such as on a store."""
    with paused():
        each = [*_findings(engine), *dates(engine.policy, at_ns), *more]
        found = {(one.id, one.where, one.subject): one for one in each}
    return Report(*split(found.values(), engine.policy, sources))


def _findings(engine: Engine) -> Iterator[Finding]:
    yield from texts(engine.policy)
    yield from hints(engine)
    yield from repeated(engine.policy.rules)
    compiled = Compiled(engine)
    try:
        callers = groups([compiled])
        effects = Effects(engine.policy)
    except TooHardError:
        yield not_searched(engine.policy.rules[0])
        return
    places = Places(compiled)
    reached = list(reach(places, callers))
    yield from reached
    told = {one.subject for one in reached}  # these findings are exact, and say why
    yield from (one for one in effects.findings() if one.subject not in told)
    yield from effects.hidden_from_sync(places, callers)
    del effects  # it holds an engine of its own
    yield from Rights(places, callers).findings()
    yield from (one for one in Writers(places, callers).findings() if one.subject not in told)
    apps = [Side(compiled, engine.caller(principal_of(engine, app))) for app in engine.policy.apps]
    yield from _empty_invariants(places, [*apps, *(group.sides[0] for group in callers)], engine.policy)


def _empty_invariants(places: Places, sides: Sequence[Side], policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each invariant that no request could break: probably a mistake."""
    for one in policy.invariants:
        subject, todo = f"invariant {one.id}", "correct its conditions, or remove it"
        who = one.rule.who
        if who is not None and not any(side.caller.of.within(who) for side in sides):
            told = "it is about no caller: no app and no uid meets all conditions of its who"
            yield Finding("empty-invariant", one.rule.where, subject, told, todo)
            continue
        for glob in (glob for glob in one.rule.paths or () if glob[1:2].isalnum()):  # "/**" is about all
            at = [(names, side) for side in sides[:_TRIED] if (names := plain_names(glob, side.caller))]
            if at and not any(places.at(*each).lives for each in at):
                told = f"no rule is about {shown(at[0][0])}, so nobody may do anything there"
                yield Finding("empty-invariant", one.rule.where, subject, told, todo)
                break
