"""Events: how many requests they stand for, and who pays for them."""

from __future__ import annotations

import pytest

from policyfs.trail.lines.event import STRANGER, holder_of
from tests.support.mount.trail import an_event


@pytest.mark.parametrize(("repeats", "weight"), [(0, 1), (1, 1), (7, 7)])
def test_weight(repeats, weight):
    assert an_event(repeats=repeats).weight == weight


def test_strangers_pay_by_uid_and_apps_by_name():
    assert holder_of(an_event(app="camera", uid=7)) == "camera"
    assert holder_of(an_event(app=STRANGER, uid=7)) == 7
