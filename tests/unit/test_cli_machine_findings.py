"""Findings as a table, and checks that raise."""

from __future__ import annotations

from collections.abc import Iterator

from policyfs.cli.machine.findings import Finding, State, render, tried


def test_the_table_says_what_to_do_below_what_is_wrong() -> None:
    table = render([Finding("fuse", State.OK, "fine"), Finding("kernel", State.SLOW, "old", "new one")])
    assert table.splitlines() == ["ok    fuse    fine", "slow  kernel  old", "              -> new one"]


def test_an_error_in_a_check_is_its_finding_after_those_it_had_made() -> None:
    def check() -> Iterator[Finding]:
        yield Finding("a", State.OK, "fine")
        raise KeyError("b")

    assert [(found.name, found.state) for found in tried("c", check)] == [
        ("a", State.OK),
        ("c", State.ERROR),
    ]
