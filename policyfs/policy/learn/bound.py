"""A bound for proposals: the policy in force at the end of a trail. What it refuses is not proposed."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, Facts, FileType, Op
from policyfs.policy.analysis.diff import Block as Difference
from policyfs.policy.analysis.diff import Note, diff
from policyfs.policy.analysis.outcomes import Direction
from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import without_exceptions
from policyfs.policy.model import Block, Effect, Policy
from policyfs.policy.replay.recorded import Recorded, demand_of
from policyfs.policy.replay.replay import Engines, Replayer, principal_of
from policyfs.policy.rules.table import sample_facts_of


class Limit(NamedTuple):
    """Conditions of a rule: the block ``when``, and the blocks of ``unless``."""

    when: Block | None = None
    unless: tuple[Block, ...] = ()


class Bound:
    """The policy in force at the end of a trail, without exceptions. monitor: True with --monitor."""

    def __init__(self, policy: Policy, monitor: bool, recorded_policies: Engines) -> None:
        self.policy: Final = without_exceptions(policy)
        self._monitor: Final = monitor
        self._engine: Final = compile_policy(self.policy, monitor=monitor)
        self._replayer: Final = Replayer(self._engine, recorded_policies)
        self.redacts: Final = any(rule.effect is Effect.REDACT for rule in policy.rules)

    def app_of(self, uid: int) -> str | None:
        """Return the app of a uid on a shared mount; None for a stranger."""
        return self._engine.principal(uid).app

    def limits(self, app: str, uid: int, path: bytes, ops: Op) -> dict[Limit, Op]:
        """Return the conditions under which the policy gives an app some of these operations on a path."""
        engine, state = self._engine, self._engine.state_of(path)
        who, found = engine.app_principal(app, uid), dict[Limit, Op]()
        for live in engine.profile(who, state).lives:
            rule = live.rule
            if rule.effect is Effect.ALLOW and not rule.monitor and rule.ops & ops:
                limit = Limit(rule.when, rule.unless)
                found[limit] = found.get(limit, Op(0)) | (rule.ops & ops)
        if ops == Op.SEE and engine.decide(who, ops, state, FileType.DIRECTORY, Facts(KIND_DIRECTORY)).bare:
            found[Limit(Block(frozenset({KIND_DIRECTORY}), None, None))] = ops
        return found

    def allows_only_own(self, recorded: Recorded, path: bytes) -> bool:
        """Return True if the policy allows an app a request only for files that the app owns."""
        demand = demand_of(recorded.operation, recorded.syscall)
        who = principal_of(self._engine, recorded)
        if demand is None or demand.move or demand.creates or who is None or who.app is None:
            return False
        engine, state = self._engine, self._engine.state_of(path)
        lives = engine.profile(who, state).lives
        owners = {
            facts.owner == who.app
            for ftype in demand.types
            for facts in sample_facts_of(lives, ftype, unknown=False)
            if engine.decide(
                who, demand.ops[0], state, ftype, facts._replace(kind=recorded.kind or facts.kind)
            ).allowed
        }
        return owners == {True}

    def wider(self, proposal: Policy) -> list[Difference | Note]:
        """Return the differences by which a proposal allows more; none with --monitor. Raise TooHardError."""
        if self._monitor:
            return []
        return list(diff(self.policy, proposal).wider)

    def allows(self, recorded: Recorded, path: bytes, new_path: bytes | None, *, empty: bool | None) -> bool:
        """Return True if the policy certainly allows a request, or the trail shows it refused."""
        if not recorded.allowed or demand_of(recorded.operation, recorded.syscall) is None:
            return True
        verdict = self._replayer.decide(self._replayer.asked(recorded), path, new_path, empty=empty)
        if verdict.untold:
            return recorded.digest == self.policy.digest and not recorded.exceptions
        return verdict.direction is not Direction.NARROWER or not verdict.after.startswith(("E", "no app"))
