"""A bound for proposals: the policy in force at the end of a trail. What it refuses is not proposed."""

from __future__ import annotations

from typing import Final

from policyfs.domain import Audit, Facts
from policyfs.policy.analysis.diff import Block, diff
from policyfs.policy.analysis.outcomes import Direction
from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import without_exceptions
from policyfs.policy.model import Effect, Policy
from policyfs.policy.replay.recorded import Recorded, demand_of
from policyfs.policy.replay.replay import Engines, Replayer, principal_of


class Bound:
    """The policy in force at the end of a trail, without exceptions. monitor: True with --monitor."""

    def __init__(self, policy: Policy, monitor: bool, recorded_policies: Engines) -> None:
        lasting = without_exceptions(policy)
        self._policy: Final = policy
        self._monitor: Final = monitor
        self._engine: Final = compile_policy(lasting, monitor=monitor)
        self._replayer: Final = Replayer(self._engine, recorded_policies)
        levels = (rule.audit for rule in lasting.rules if rule.effect is Effect.ALLOW and rule.audit)
        self.all_recorded: Final = max((policy.audit_allowed, *levels)) is Audit.REQUIRED
        """True if the policy, or one of its allow rules, records allowed requests with ``required``."""

    def allows_only_own(self, recorded: Recorded, path: bytes) -> bool:
        """Return True if the policy allows an app a request only for files that the app owns."""
        demand = demand_of(recorded.operation, recorded.syscall)
        who = principal_of(self._engine, recorded)
        if demand is None or demand.move or demand.creates or who is None or who.app is None:
            return False
        state = self._engine.state_of(path)
        decide, ops, ftype = self._engine.decide, demand.ops[0], demand.types[0]
        other, own = (
            decide(who, ops, state, ftype, Facts(recorded.kind, owner)) for owner in (None, who.app)
        )
        return own.allowed and not other.allowed

    def wider(self, proposal: Policy) -> list[Block]:
        """Return the differences by which a proposal allows more; none with --monitor. Raise TooHardError."""
        if self._monitor:
            return []
        found = diff(without_exceptions(self._policy), proposal).blocks
        return [block for block in found if block.direction is Direction.WIDER]

    def allows(self, recorded: Recorded, path: bytes, new_path: bytes | None, *, empty: bool | None) -> bool:
        """Return True if the policy certainly allows a request, or the trail shows it refused."""
        if not recorded.allowed or demand_of(recorded.operation, recorded.syscall) is None:
            return True
        verdict = self._replayer.decide(self._replayer.asked(recorded), path, new_path, empty=empty)
        if verdict.untold:
            return recorded.digest == self._policy.digest and not recorded.exceptions
        return verdict.direction is not Direction.NARROWER or not verdict.after.startswith(("E", "no app"))
