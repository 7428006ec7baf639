"""A function that combines the decisions for all names of a file into one decision."""

from __future__ import annotations

from policyfs.domain import Decision
from policyfs.policy.rules.tally import least


def stricter(one: Decision | None, other: Decision) -> Decision:
    """Return one decision as strict as both: a denial wins, of two the errno that reveals less; obligations
    add up."""
    if one is None or one == other:
        return other
    if one.allowed and other.allowed:
        return Decision(
            allowed=True,
            errno=0,
            rules=tuple(dict.fromkeys(one.rules + other.rules)),
            audit=max(one.audit, other.audit),
            redact=one.redact | other.redact,
            content=one.content + tuple(c for c in other.content if c not in one.content),
            bare=one.bare or other.bare,
            would_deny=tuple(dict.fromkeys(one.would_deny + other.would_deny)),
            would_allow=tuple(dict.fromkeys(one.would_allow + other.would_allow)),
            monitored_content=tuple(dict.fromkeys(one.monitored_content + other.monitored_content)),
            quarantine=one.quarantine or other.quarantine,
        )
    denials = [decision for decision in (one, other) if not decision.allowed]
    return Decision(
        allowed=False,
        errno=least(d.errno for d in denials),
        rules=tuple(dict.fromkeys(match for d in denials for match in d.rules)),
        audit=max(one.audit, other.audit),
        would_deny=tuple(dict.fromkeys(name for d in denials for name in d.would_deny)),
        would_allow=tuple(dict.fromkeys(name for d in denials for name in d.would_allow)),
    )
