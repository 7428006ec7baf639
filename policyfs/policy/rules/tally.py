"""The effects of all rules on one request, combined to a decision or to rights."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from policyfs.domain import Audit, Decision, Keep, Op, RuleMatch
from policyfs.errors import by_rank
from policyfs.policy.model import Effect, Policy
from policyfs.policy.rules.facts import Truth
from policyfs.policy.rules.table import Live

NO_ALLOW: Final = "(no rule allows it)"
"""The text in ``would_deny`` if no rule allows a request and the mount has --monitor."""

_SEE: Final = int(Op.SEE)
_REQUIRE: Final = {Effect.REDACT.value, Effect.CONTENT.value, Effect.KEEP.value}
"""The effects of `require` rules, which never cause a denial here: a denial does not name them."""


def least(codes: Iterable[int]) -> int:
    """Return the errno that reveals least. Return 0 if *codes* is empty."""
    return next(iter(by_rank(codes)), 0)


def strongest(keeps: Iterable[Keep | None]) -> Keep | None:
    """Return the requirement that meets all of these, or None if there is none."""
    asked = [keep for keep in keeps if keep is not None]
    if not asked:
        return None
    return Keep(max(keep.age_s for keep in asked), strict=any(keep.strict for keep in asked))


class Tally:
    """A counter of the effects of rules on one request. It gives the decision."""

    def __init__(self, policy: Policy, ops: int, *, can_fill: bool, lenient: bool) -> None:
        self.policy: Final = policy
        self.can_fill: Final = can_fill
        self.ops: Final = ops
        self.lenient: Final = lenient
        self.granted = 0
        self.denied = 0
        self.unseen = False
        self.named = False  # True: the path is unseen because of a rule
        self.would_deny: list[str] = []
        self.would_allow: list[str] = []
        self._redacts: list[Live] = []
        self._raw = True
        self._content: list[Live] = []
        self._keeps: list[Live] = []
        self._denies: list[Live] = []
        self._hiding: tuple[Live, ...] = ()
        self._allows: list[Live] = []
        self._said: dict[int, RuleMatch] = {}

    def spoke(self, live: Live, ops: int, truth: Truth, *, monitor: bool) -> None:
        """Add a rule to those that the decision names, with the operations on which it acts."""
        certain = truth is Truth.YES
        before = self._said.get(live.number)
        if before is not None:
            ops |= int(before.op)
            certain = certain and before.certain
        effect = live.rule.effect.value
        self._said[live.number] = RuleMatch(live.rule.id, effect, Op(ops), certain, monitor)

    def count(self, live: Live, touched: int, truth: Truth, kind: str | None) -> None:
        """Apply a rule. truth: YES or UNKNOWN. touched: its operations. kind: None if unknown."""
        rule = live.rule
        monitor = rule.monitor
        if rule.effect is Effect.ALLOW:
            if truth is not Truth.YES:
                return
            self._allows.append(live)
            if monitor:
                self.would_allow.append(rule.id)
            else:
                self.granted |= touched
        elif rule.effect is Effect.DENY:
            if monitor:
                self.would_deny.append(rule.id)
                self._allows.append(live)
            else:
                self.denied |= touched
                self._denies.append(live)
                monitor = self.lenient
        elif rule.effect is Effect.REDACT:
            self._redacts.append(live)
            self._raw = self._raw and live.raw.hold(kind) is Truth.YES
        elif rule.effect is Effect.KEEP:
            self._keeps.append(live)
        elif not self.can_fill:
            return
        else:
            self._content.append(live)
        self.spoke(live, touched, truth, monitor=monitor)

    def hide(self, hiding: tuple[Live, ...]) -> None:
        """Apply, after all others, the rules that hide a directory above: monitors then change nothing."""
        self._hiding = hiding
        if hiding and not self.lenient:
            self.would_deny.clear()
            self.would_allow.clear()
        for live in hiding:
            self.spoke(live, _SEE, Truth.YES, monitor=self.lenient)
            if self.lenient:
                self.would_deny.append(live.rule.id)

    def decision(self, *, bare: bool) -> Decision:
        """Return the decision. bare: True for a directory that is only the way to a path below."""
        code = self._errno(self.ops)
        if self.lenient and code:
            self.would_deny.extend(live.rule.id for live in self._denies)
            if self._lacks_allow(self.ops):
                self.would_deny.append(NO_ALLOW)
            code = 0
        # a refusal has no obligations (they depend on the kind, and a refusal does not need the kind)
        redact = self._redact() if code == 0 else frozenset()
        content = self._content if code == 0 else []
        said = [self._said[number] for number in sorted(self._said)]
        return Decision(
            allowed=code == 0,
            errno=code,
            rules=tuple(match for match in said if code == 0 or match.effect not in _REQUIRE),
            audit=self._audit(denied=code != 0, redacted=bool(redact)),
            redact=redact,
            content=tuple(dict.fromkeys(live.rule.content for live in content if not live.rule.monitor)),
            bare=bare,
            would_deny=tuple(dict.fromkeys(self.would_deny)),
            would_allow=tuple(self.would_allow),
            monitored_content=tuple(
                (live.rule.id, live.rule.content) for live in content if live.rule.monitor
            ),
            quarantine=any(live.rule.quarantine for live in content if not live.rule.monitor),
            keep=strongest(live.rule.keep for live in self._keeps) if code == 0 else None,
        )

    def _redact(self) -> frozenset[str]:
        if self._raw:
            return frozenset()
        return frozenset(what for live in self._redacts for what in live.rule.redact)

    def _errno(self, ops: int) -> int:
        if self.unseen:
            return errno.ENOENT
        wanted = ops & ~_SEE
        refused = wanted & (self.denied | ~self.granted)
        codes = [live.rule.errno or errno.EACCES for live in self._denies if live.ops & refused]
        if refused & ~self.denied:
            codes.append(errno.EACCES)
        return least(codes)

    def _lacks_allow(self, ops: int) -> bool:
        return (self.unseen and not self.named) or bool(ops & ~(self.granted | self.denied) & ~_SEE)

    def _audit(self, *, denied: bool, redacted: bool) -> Audit:
        """Return the highest audit level of the rules that made the answer. A rule that refuses or redacts
        has the default of denials; others count if they set a level. Monitors prevent ``off``."""
        if denied:
            levels = self._refusing_levels(self.ops)
        else:
            told = (self._allows, self._content, self._keeps, self._denies, self._hiding, self._redacts)
            levels = _levels(live for lives in told for live in lives)
            levels += self._denied_levels(self._redacts) if redacted else []
        level = max(levels, default=self.policy.audit_allowed)
        return max(level, Audit.BEST_EFFORT) if self.would_deny or self.would_allow else level

    def _refusing_levels(self, ops: int) -> list[Audit]:
        """Return the levels of the reasons to refuse: what hides a directory counts alone."""
        if self._hiding:
            return self._denied_levels(self._hiding)
        lacking = [self.policy.audit_denied] if self._lacks_allow(ops) else []
        # every caller sees the root, so there a rule that denies only SEE refuses nothing
        refused = ops if self.unseen else ops & ~_SEE
        return self._denied_levels(live for live in self._denies if live.ops & refused) + lacking

    def _denied_levels(self, lives: Iterable[Live]) -> list[Audit]:
        return [live.rule.audit_or(self.policy.audit_denied) for live in lives]


def _levels(lives: Iterable[Live]) -> list[Audit]:
    return [live.rule.audit for live in lives if live.rule.audit is not None]
