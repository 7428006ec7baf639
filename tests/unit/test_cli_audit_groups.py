"""Counts by group beyond the bound of memory are as those in memory."""

from __future__ import annotations

import random

import pytest

from policyfs.cli.audit import groups
from policyfs.cli.audit.groups import StoredGroups
from policyfs.trail.query.summary import Groups


def test_stored_counts_are_as_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_IN_MEMORY", 50)
    rng, stored, kept = random.Random(7), StoredGroups(2), Groups()
    names = [*map(str, range(20)), "\ud800", "ä", "\U0001f600", ""]
    for number in range(3000):
        key = rng.choice(names), rng.choice(names)
        decision = rng.choice(("allow", "deny", "would_deny"))
        stored.add(key, decision, number)
        kept.add(key, decision, number)
        if number % 500 == 0:
            assert (key in stored) and ("x", key[1]) not in stored
    assert stored.decisions() == kept.decisions()
    assert len(stored._counts) < 50
    for _ in range(2):
        assert list(stored) == list(kept)
