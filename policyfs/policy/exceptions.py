"""Exceptions of a policy: allow rules that end at a date. Functions get the present time as an argument."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from policyfs.policy.model import ExceptionRule, Policy

PREFIX: Final = "exception:"
"""The beginning of the ids that exceptions have as rules. Ids of other rules have no colon."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ALWAYS: Final = -(1 << 70)
"""An instant before the end of every exception, also of an end in year 1."""


def in_force(policy: Policy, at_ns: int) -> Policy:
    """Return the policy with the exceptions that have not ended at an instant (ns since 1970) as rules."""
    return with_exceptions(policy, live(policy, at_ns))


def live(policy: Policy, at_ns: int) -> tuple[str, ...]:
    """Return the ids, without PREFIX and sorted, of the exceptions that have not ended at an instant."""
    held = (one.rule.id for one in policy.exceptions if at_ns < one.until_ns)
    return tuple(sorted(id_.removeprefix(PREFIX) for id_ in held))


def with_exceptions(policy: Policy, ids: Collection[str]) -> Policy:
    """Return the policy with only these exceptions as rules. ids: without PREFIX."""
    base = tuple(rule for rule in policy.rules if not rule.id.startswith(PREFIX))
    dated = tuple(one.rule for one in policy.exceptions if one.rule.id.removeprefix(PREFIX) in ids)
    return policy if base + dated == policy.rules else replace(policy, rules=base + dated)


def without_exceptions(policy: Policy) -> Policy:
    """Return the policy without its exceptions."""
    return replace(with_exceptions(policy, ()), exceptions=())


def ended(policy: Policy) -> tuple[ExceptionRule, ...]:
    """Return exceptions that have ended. policy: a result of in_force()."""
    ids = {rule.id for rule in policy.rules}
    return tuple(one for one in policy.exceptions if one.rule.id not in ids)


def next_end(policy: Policy) -> int | None:
    """Return the next end (ns since 1970) of an exception of a result of in_force(), or None."""
    gone = ended(policy)
    return min((one.until_ns for one in policy.exceptions if one not in gone), default=None)


def ends(policies: Iterable[Policy], after_ns: int) -> list[int]:
    """Return all instants after *after_ns* at which an exception of one of the policies ends."""
    found = {one.until_ns for policy in policies for one in policy.exceptions}
    return sorted(until_ns for until_ns in found if until_ns > after_ns)


def instant_text(at_ns: int) -> str:
    """Format an instant (ns since 1970) as policies write it: in UTC, without fractions of a second."""
    return f"{_EPOCH + timedelta(seconds=at_ns // 1_000_000_000):%Y-%m-%dT%H:%M:%SZ}"
