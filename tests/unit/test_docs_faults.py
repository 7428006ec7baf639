"""The tables of docs/faults.md: every test there is real, and every test of a fault stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.machine.documents import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "faults.md"
FAULTS: Final = CHECKOUT / "tests" / "faults"
_NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


class Row(NamedTuple):
    """One fault: cells as they stand."""

    fault: str
    app: str
    store: str
    trail: str
    test: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|-]+", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            assert len(cells) == len(Row._fields), line
            if cells[0] != "fault":
                found.append(Row(*cells))
    return found


def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.fault[:50])
def test_a_row_names_tests_that_are_there(row: Row) -> None:
    named = _NAMED.findall(row.test)
    assert named
    for path, name in named:
        assert name in names_in(CHECKOUT / path), f"{path} has no {name}"
    assert row.fault
    assert row.app


def test_every_test_of_a_fault_stands_in_a_table() -> None:
    named = {pair for row in rows() for pair in _NAMED.findall(row.test)}
    there = {
        (str(path.relative_to(CHECKOUT)), name)
        for path in FAULTS.glob("test_*.py")
        for name in names_in(path)
    }
    assert there <= named, there - named
