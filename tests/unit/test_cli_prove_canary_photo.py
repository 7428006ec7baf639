"""The canary photo is a photo, and tells what each word of a policy hides."""

from __future__ import annotations

import pytest

from policyfs.cli.prove.canary_photo import KIND, SECRETS, photo, told
from policyfs.domain import REDACTIONS
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate


def test_it_tells_of_every_word() -> None:
    assert set(SECRETS) == set(REDACTIONS)
    assert told(photo(), REDACTIONS) == sorted(REDACTIONS)
    assert told(bytes(1000), REDACTIONS) == []


@pytest.mark.parametrize("word", sorted(REDACTIONS))
def test_redaction_takes_out_what_it_tells(word: str) -> None:
    plan = locate(KIND, frozenset({word}), MemorySource(photo()))
    assert plan.outcome is Outcome.PATCH
    data = apply(photo(), plan.patches)
    assert len(data) == len(photo())
    assert told(data, {word}) == []
    if word == "location":
        assert told(data, {"time"}) == ["time"]
