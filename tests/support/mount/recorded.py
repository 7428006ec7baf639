"""Trails with the texts of their policies, as a daemon leaves them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import policy_text
from policyfs.trail.lines.event import Event
from tests.support.mount.trail import Clock, a_journal


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_recorded(
    root: Path, policy: str, events: Iterable[Event], *, app: str | None = None, keep: bool = True,
    monitor: bool | None = None, **options: int,
) -> Path:  # fmt: skip
    """Record a mount under this policy and these events, a second apart. keep: with the policy's text."""
    digest, clock = digest_of(policy), Clock()
    with a_journal(root, clock, **options) as journal:
        told = {"app": app} | ({} if monitor is None else {"monitor": monitor})
        text = policy_text(digest, [("home.yaml", policy.encode())]) if keep else None
        journal.tell("mount", {"policy": digest, "options": told}, policy=text)
        for event in events:
            clock.forward(1)
            journal.record(event._replace(policy_digest=digest, time_ns=clock.now_ns), Audit.REQUIRED)
    return root
