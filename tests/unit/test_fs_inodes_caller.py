"""policyfs/fs/inodes/caller.py."""

from __future__ import annotations

from policyfs.domain import Principal
from policyfs.fs.inodes.caller import Caller


def test_the_principal_is_that_of_the_policy_in_force() -> None:
    policies = [{10_010: "camera"}, {}]

    def who(uid: int) -> Principal:
        return Principal(0, policies[0].get(uid), uid)

    caller = Caller(who, 10_010, 10_010, 1, 0o22)
    assert (caller.principal.app, caller.holder) == ("camera", "camera")
    policies.pop(0)
    assert (caller.principal.app, caller.holder) == (None, 10_010)
