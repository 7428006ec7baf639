"""Sorts of files by their names. tests/mount/test_policy_view.py has the walk."""

from __future__ import annotations

import pytest

from policyfs.cli.policy.view.walk import suffix_of


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        (b"a.jpg", ".jpg"),
        (b"a.b.JPG", ".jpg"),
        (b".profile", ""),
        (b"README", ""),
        (b"a.", "."),
        (b"a.\xff", ".\\xff"),
        (b"a.a-long-ending", ""),
    ],
)
def test_the_suffix_of_a_name(name: bytes, suffix: str) -> None:
    assert suffix_of(name) == suffix
