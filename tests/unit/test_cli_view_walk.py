"""Sorts of files by their names. The walk: test_cli_policy_view.py, tests/mount/test_policy_view.py."""

from __future__ import annotations

import pytest

from policyfs.cli.view.walk import suffix_of


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
