"""A stranger has a uid that no app lists, also inside of ranges."""

from __future__ import annotations

import pytest

from policyfs.domain import WORKER_UIDS
from policyfs.policy.stranger import stranger_of
from tests.support.models.policies import engine_of

RULES = "- {id: all, allow: [see]}\n"
HIGHEST = (1 << 32) - 2
BELOW, ABOVE = WORKER_UIDS.start - 1, WORKER_UIDS.stop


@pytest.mark.parametrize(
    ("uids", "uid"),
    [
        ("10010", 65533),
        ('"60000-70000"', 70001),
        ('"0-65533", "65535-70000"', 65534),
        (f'"1-{BELOW}", "{ABOVE}-{HIGHEST}"', 0),
        (f'"0-{BELOW}"', ABOVE),
        (f'"0-{BELOW}", "{ABOVE}-{HIGHEST}"', None),
    ],
)
def test_the_uid_of_a_stranger(uids: str, uid: int | None) -> None:
    one = stranger_of(engine_of(RULES, apps=f"apps:\n  all: {{uid: [{uids}]}}\n"))
    assert (None if one is None else one.uid) == uid
    assert one is None or one.app is None
