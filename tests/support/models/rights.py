"""A caller's rights under one combination of facts, by a tally, to compare with RightsMap."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from policyfs.domain import Audit, Facts, FileType, Op
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.tally import Tally

SEE, READ = int(Op.SEE), int(Op.READ)


class Rights(NamedTuple):
    """A caller's rights at one path. refusals: errnos, 0 if allowed. audits: levels, None for the default."""

    allowed: int
    bare: bool
    redact: frozenset[str]
    content: frozenset[frozenset[str]]
    refusals: tuple[int, ...]
    audits: tuple[Audit | None, ...]


class _Tally(Tally):
    def rights(self, *, bare: bool) -> Rights:
        refusals = tuple(self._errno(int(op)) for op in Op.ALL)
        allowed = sum(int(op) for op, code in zip(Op.ALL, refusals, strict=True) if not code)
        redact = self._redact() if allowed & READ else frozenset()
        content = frozenset(live.rule.content for live in self._content if not live.rule.monitor)
        levels = (self._level(int(op), code, redact) for op, code in zip(Op.ALL, refusals, strict=True))
        return Rights(allowed, bare, redact, content, refusals, tuple(levels))

    def _level(self, op: int, code: int, redact: frozenset[str]) -> Audit | None:
        if code:
            return max(self._refusing_levels(op | SEE))
        lives = [live for live in (*self._allows, *self._content, *self._redacts) if live.ops & (op | SEE)]
        levels = [live.rule.audit for live in lives if live.rule.audit is not None]
        redacting = self._redacts if redact and op == READ else ()
        return max(levels + self._denied_levels(redacting), default=None)


def rights_of(profile: Profile, ftype: FileType, facts: Facts, below: Callable[[], bool]) -> Rights:
    """The rights on a file at a path. Rules in monitor mode do not count. facts: a result of fixed_facts."""
    tally = _Tally(profile.policy, int(Op.ALL), can_fill=profile.can_fill, lenient=False)
    for live in profile.lives:
        truth = live.match(facts)
        if truth:
            tally.count(live, live.ops, truth, facts.kind)
    return tally.rights(bare=profile._see(tally, ftype, below))
