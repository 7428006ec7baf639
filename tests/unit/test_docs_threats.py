"""The table of attempts in docs/threat-model.md: every line of attack, its test, its guard, all real."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final, NamedTuple

import pytest

from tests.support.machine.documents import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "threat-model.md"
LINES: Final = {
    "A": range(1, 7), "B": range(1, 12), "C": range(1, 4), "D": range(1, 3), "E": range(1, 6),
    "F": (0, 1, 2, 3, 5),
}  # fmt: skip
"""The lines of attack of each part: A1 to A6 and so on."""

_NAMED: Final = re.compile(r"`((?:tests|policyfs)/[\w/]+\.(?:py|c))(?:::([\w.]+))?`")


class Row(NamedTuple):
    """One attempt. held_by, test, without: cells as they stand."""

    line: str
    attempt: str
    held_by: str
    test: str
    without: str


def rows() -> list[Row]:
    text = PAGE.read_text(encoding="utf-8").split("## Each attempt, and what stands against it")[1]
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[A-F]\d+", cells[0]):
            assert len(cells) == len(Row._fields), line
            found.append(Row(*cells))
    return found


@cache
def defined(path: str) -> frozenset[str]:
    """Names that a file defines: functions, and methods as Class.method."""
    source = (CHECKOUT / path).read_text(encoding="utf-8")
    if path.endswith(".c"):
        return frozenset(re.findall(r"^(?:static )?[\w \*]*?(\w+)\(", source, re.MULTILINE))
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name")}
    return frozenset(names)


def named(cell: str) -> list[tuple[str, str]]:
    """The (file, name in it) pairs of a cell; the name is empty for a whole file."""
    return [(path, name or "") for path, name in _NAMED.findall(cell)]


def test_every_line_of_attack_has_a_row() -> None:
    wanted = {f"{part}{number}" for part, numbers in LINES.items() for number in numbers}
    assert {row.line for row in rows()} == wanted


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.line} {row.attempt[:40]}")
def test_a_row_names_what_is_there(row: Row) -> None:
    tests, guards = named(row.test), named(row.held_by)
    assert tests
    assert all(path.startswith("tests/") for path, _ in tests)
    assert guards or row.held_by.startswith(("none yet", "the kernel"))
    for path, name in [*tests, *guards, *named(row.without)]:
        assert (CHECKOUT / path).is_file(), path
        assert not name or name in defined(path), f"{path} has no {name}"
    assert row.attempt
    assert named(row.without), "what shows that the test can fail"
