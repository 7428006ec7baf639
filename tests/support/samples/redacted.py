"""A file as an app under redaction reads it."""

from __future__ import annotations

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate


def redacted(kind: str, data: bytes, *words: str) -> bytes:
    """Return the bytes of a reader. Redacting them again finds nothing. words: ``location`` if none."""
    hide = frozenset(words or ("location",))
    plan = locate(kind, hide, MemorySource(data))
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    out = apply(data, plan.patches)
    assert locate(kind, hide, MemorySource(out)).outcome is Outcome.CLEAN
    return out
