"""Findings on exceptions that have ended, end soon, or last longer than a year."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policyfs.policy.exceptions import instant_text
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.model import Policy

_HOUR_NS: Final = 3600 * 1_000_000_000
SOON_NS: Final = 14 * 24 * _HOUR_NS
"""`policy lint` reports an exception if it ends within this time."""
LONG_NS: Final = 366 * 24 * _HOUR_NS
"""`policy lint` reports an exception that lasts longer: it is like a permanent rule."""


def dates(policy: Policy, at_ns: int) -> Iterator[Finding]:
    """Yield the findings on the policy's exceptions at an instant (ns since 1970)."""
    for one in policy.exceptions:
        end, left_ns = instant_text(one.until_ns), one.until_ns - at_ns
        if left_ns <= 0:
            message = f"this exception ended at {end} and allows nothing any more"
            yield on_rule(
                "exception-ended", one.rule, message, "remove the exception, or set a later `until`"
            )
        elif left_ns <= SOON_NS:
            message = f"this exception ends in {_left(left_ns)}, at {end}; {one.approved_by} approved it"
            todo = (
                "if the exception is still needed, have the exception approved again and set a later `until`"
            )
            yield on_rule("exception-ends-soon", one.rule, message, todo)
        elif left_ns > LONG_NS:
            message = f"this exception lasts for more than a year, until {end}"
            todo = "set an earlier `until`, or replace the exception by a rule"
            yield on_rule("exception-too-long", one.rule, message, todo)


def _left(left_ns: int) -> str:
    hours = left_ns // _HOUR_NS
    if hours < 1:
        return "less than an hour"
    count, unit = (hours, "hour") if hours < 48 else (hours // 24, "day")
    return f"{count} {unit}{'' if count == 1 else 's'}"
