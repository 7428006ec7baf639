"""Wishes; test_cli_policy_init.py has those that cannot be."""

from __future__ import annotations

import pwd

from policyfs.cli.init.wishes import Level, share, uid_of, wish_of


def test_an_app_has_the_uid_of_its_user() -> None:
    nobody = pwd.getpwnam("nobody")
    assert uid_of("nobody") == (nobody.pw_uid, "nobody")
    assert uid_of(str(nobody.pw_uid)) == (nobody.pw_uid, "nobody")
    assert uid_of("no-such-user") == (None, "")
    assert wish_of("nobody").uid == nobody.pw_uid
    assert wish_of("gallery=nobody").user == "nobody"
    assert wish_of("no-such-user").uid is None


def test_an_app_that_edits_reads_true_bytes() -> None:
    wish = wish_of("a=1")
    share([wish], "a:/DCIM/, Music", Level.READ, ["DCIM", "Music", "Other"])
    assert wish.dirs(Level.READ) == ["DCIM", "Music"]
    assert not wish.trusted
    share([wish], "a:Other", Level.EDIT, ["Other"])
    assert wish.trusted
