"""policyfs/fs/inodes/caller.py."""

from __future__ import annotations

import os
from pathlib import Path

from policyfs.domain import Principal
from policyfs.fs.inodes.caller import NO_ID, Caller
from policyfs.linux.statx import cached_stat


def test_the_principal_is_that_of_the_policy_in_force() -> None:
    policies = [{10_010: "camera"}, {}]

    def who(uid: int) -> Principal:
        return Principal(0, policies[0].get(uid), uid)

    caller = Caller(who, 10_010, 10_010, 1, 0o22)
    assert (caller.principal.app, caller.holder) == ("camera", "camera")
    policies.pop(0)
    assert (caller.principal.app, caller.holder) == (None, 10_010)


def test_a_caller_without_known_ids_makes_files_as_those_that_are_there(tmp_path: Path) -> None:
    os.chown(tmp_path, 7, 8)
    there = cached_stat(-100, bytes(tmp_path))

    def who(uid: int) -> Principal:
        return Principal(0, "camera", uid)

    assert Caller(who, 5, 6, 1, 0).owner_like(there) == (5, 6)
    assert Caller(who, NO_ID, NO_ID, 1, 0).owner_like(there) == (7, 8)
