"""The lines of an explanation: for each rule, the verdict (does it match a request?), and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policyfs.domain import Facts, Op, Principal
from policyfs.policy.decide import Engine
from policyfs.policy.errors import words_of
from policyfs.policy.model import ANY, STRANGER, Block, Effect, Rule, Where, Who
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.facts import Truth
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Live, Situated, binds_hold

_FAULTS: Final = ("mode", "when", "who", "paths", "allow")
"""Keys that can keep an allow rule from matching. The earlier the failing key, the nearer the match."""

NO: Final = "no"
"""The verdict on a rule that does not match the request."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """The line about one rule. verdict: ``matches``, ``may match`` (a fact is unknown) or ``no``."""

    rule: str
    effect: str
    verdict: str
    reason: str
    where: Where


class Weigher:
    """Finder of the lines about rules for one request: the verdict on each rule, with the reason."""

    def __init__(self, engine: Engine, who: Principal, ops: Op, state: PathState, facts: Facts) -> None:
        self._table: Final = engine.table
        self._caller: Final = engine.caller(who)
        self._profile: Final = engine.profile(who, state)
        self._ops: Final = ops
        self._state: Final = state
        self._facts: Final = facts
        self._placed: Final = {one.rule: one for one in state.situated(engine.table)}

    def lines(self) -> tuple[RuleLine, ...]:
        """Return a line for every rule, sorted by id."""
        return tuple(self._line(number, rule) for number, rule in enumerate(self._table.rules))

    def nearest(self, missing: Op, path: bytes) -> RuleLine | None:
        """Return the line of the allow rule with the fewest faults that nearly allows *missing*, or None."""
        ranked: list[tuple[int, int, int, str, int]] = []
        for number, rule in enumerate(self._table.rules):
            if rule.effect is Effect.ALLOW:
                faults = self._faults(number, rule, missing)
                if faults:
                    shared = max((_shared(glob, path) for glob in rule.paths or ("/",)), default=0)
                    ranked.append((len(faults), max(map(_FAULTS.index, faults)), -shared, rule.id, number))
        if not ranked:
            return None
        number = min(ranked)[-1]
        rule = self._table.rules[number]
        if self._faults(number, rule, missing) == ["allow"]:
            told = f"the rule matches, but allows only {words_of(rule.ops)}"
            return RuleLine(rule.id, rule.effect.value, NO, told, rule.where)
        return self._line(number, rule)

    def _faults(self, number: int, rule: Rule, missing: Op) -> list[str]:
        faults = [] if rule.ops & missing else ["allow"]
        if not self._caller.fits(number, rule):
            faults.append("who")
        situated = self._placed.get(number)
        if situated is None or not all(binds_hold(binds, self._caller) for binds in situated.binds):
            return [*faults, "paths"]
        live = self._table.live(situated, self._caller)
        if "who" not in faults and (live is None or live.match(self._facts) is not Truth.YES):
            faults.append("when")
        return faults or (["mode"] if rule.monitor else [])

    def _line(self, number: int, rule: Rule) -> RuleLine:
        verdict, reason = self._weigh(number, rule)
        if verdict != NO and rule.monitor:
            reason += "; only recorded (mode: monitor)"
        return RuleLine(rule.id, rule.effect.value, verdict, reason, rule.where)

    def _weigh(self, number: int, rule: Rule) -> tuple[str, str]:
        touched = self._ops & (Op.WRITE if rule.effect is Effect.CONTENT else rule.ops)
        if not touched:
            return NO, f"the rule is about {words_of(rule.ops)}"
        if not self._caller.fits(number, rule):
            return NO, f"who: {_who_fault(rule.who, self._caller)}"
        situated = self._placed.get(number)
        if situated is None:
            fault = self._table.path_fault(number, self._state.position)
            return NO, f"{fault or 'paths'}: no glob matches"
        if not all(binds_hold(binds, self._caller) for binds in situated.binds):
            return NO, "paths: {app} or {uid} in the glob does not match this caller"
        live = self._table.live(situated, self._caller)
        if live is None or live.match(self._facts) is Truth.NO:
            return NO, self._condition_fault(rule, situated, live)
        if rule.effect is Effect.CONTENT and not self._profile.can_fill:
            return NO, "no rule could allow this caller to write or create a file here"
        if rule.limit is not None:
            if self._ops & Op.CREATE:
                return NO, "a new file does not count"
            return "matches", f"an existing file that is changed here counts: at most {rule.limit}"
        if live.match(self._facts) is Truth.YES:
            return "matches", f"it applies to {words_of(touched)}, and all its conditions hold"
        if rule.effect is Effect.ALLOW:
            return NO, f"{_unknown(live)} is unknown, so this allow does not match"
        return "may match", f"{_unknown(live)} is unknown, so the rule counts as matching"

    def _condition_fault(self, rule: Rule, situated: Situated, live: Live | None) -> str:
        if live is not None and live.when is not None and live.when.hold(self._facts) is Truth.NO:
            return f"when: {_asked(rule.when)} does not hold"
        for number, binds in situated.unless:
            if binds is None or binds_hold(binds, self._caller):
                block = rule.unless[number]
                if block.kinds is None and block.owners is None:
                    return f"unless: {_asked(block)} holds"
        if live is None:
            return f"when: {_asked(rule.when)} holds for no stranger"
        held = [c for c in live.unless if c.hold(self._facts) is Truth.YES]
        if not held:
            return "the conditions of the rule exclude each other"
        return f"unless: {_asked(rule.unless[0]) if len(rule.unless) == 1 else 'one of its blocks'} holds"


def _unknown(live: Live) -> str:
    asked = live.conditions()
    kind = any(condition.kinds is not None for condition in asked)
    owner = any(condition.owners is not None for condition in asked)
    return " or ".join([*(["the content kind"] if kind else []), *(["the owner"] if owner else [])])


def _asked(block: Block | None) -> str:
    if block is None:
        return "nothing"
    parts = []
    if block.kinds is not None:
        parts.append(f"type {', '.join(sorted(block.kinds))}")
    if block.owners is not None:
        parts.append(f"owner {', '.join(sorted(block.owners))}")
    if block.paths is not None:
        parts.append(f"path {', '.join(block.paths)}")
    return " and ".join(parts)


def _who_fault(who: Who | None, caller: Caller) -> str:
    if who is None:
        return "everyone"
    name = caller.app or STRANGER
    if who.apps is not None and name not in who.apps and (caller.app is None or ANY not in who.apps):
        apps = ["an app" if app == ANY else app for app in sorted(who.apps)]
        return f"{name} is not {apps[0]}" if len(apps) == 1 else f"{name} is not one of {', '.join(apps)}"
    if who.grants is not None and who.grants.isdisjoint(caller.of.grants):
        grants = sorted(who.grants)
        several = f"has none of the grants {', '.join(grants)}"
        return f"{name} {several if len(grants) > 1 else f'does not have the grant {grants[0]}'}"
    if who.not_ is not None and caller.of.within(who.not_):
        return f'{name} is excluded by "not"'
    return f"uid {caller.uid} is not among the uids of the rule"


def _shared(glob: str, path: bytes) -> int:
    text = path.decode("utf-8", "surrogateescape")
    same = 0
    for one, other in zip(glob, text, strict=False):
        if one != other:
            break
        same += 1
    return same
