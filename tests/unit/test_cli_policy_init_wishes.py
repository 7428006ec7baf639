"""Wishes; test_cli_policy_init_command.py has those that cannot be."""

from __future__ import annotations

import pwd

import pytest

from policyfs.cli.policy.init.wishes import Level, share, uid_of, wish_of
from policyfs.errors import UsageError


def test_an_app_has_the_uid_of_its_user() -> None:
    nobody = pwd.getpwnam("nobody")
    assert uid_of("nobody") == (nobody.pw_uid, "nobody")
    assert uid_of(str(nobody.pw_uid)) == (nobody.pw_uid, "nobody")
    assert uid_of("no-such-user") == (None, "")
    assert wish_of("nobody").uid == nobody.pw_uid
    assert wish_of("gallery=nobody").user == "nobody"
    assert wish_of("no-such-user").uid is None


@pytest.mark.parametrize("uid", ["0", "4294967295", "4294967296"])
def test_a_number_that_no_app_can_have(uid: str) -> None:
    """Root reads the store itself; 2**32 - 1 is the kernel's "no uid"."""
    with pytest.raises(UsageError, match="use a uid from 1 to 4294967294"):
        uid_of(uid)


@pytest.mark.parametrize("uid", ["2100000000", "2100065535"])
def test_a_uid_of_the_workers_is_no_apps(uid: str) -> None:
    with pytest.raises(UsageError, match="2100000000-2100065535 belong to the workers"):
        wish_of(f"a={uid}")


def test_an_app_that_edits_reads_true_bytes() -> None:
    wish = wish_of("a=1")
    share([wish], "a:/DCIM/, Music", Level.READ, ["DCIM", "Music", "Other"])
    assert wish.dirs(Level.READ) == ["DCIM", "Music"]
    assert not wish.trusted
    share([wish], "a:Other", Level.EDIT, ["Other"])
    assert wish.trusted
