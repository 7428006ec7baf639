"""The tables of docs/threat-model.md and docs/faults.md are what docstrings say, and name what is there."""

from __future__ import annotations

import ast
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT

EVIDENCE: Final = runpy.run_path(str(CHECKOUT / "packaging/docs/evidence.py"))
ROWS: Final = EVIDENCE["rows"]()
LINES: Final = {
    "A": range(1, 7), "B": range(1, 12), "C": range(1, 5), "D": range(1, 3), "E": range(1, 6),
    "F": (0, 1, 2, 3, 5),
}  # fmt: skip
"""The lines of attack of each part: A1 to A6 and so on."""

_NAMED: Final = re.compile(r"`((?:tests|policyfs)/[\w/]+\.(?:py|c))(?:::([\w.]+))?`")


def cells(what: str) -> list[tuple[str, list[str]]]:
    """The part and the cells of each attack, or of each fault."""
    return [(row.part, EVIDENCE["cells"](row)) for row in ROWS if row.what == what]


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


@pytest.mark.parametrize("page", EVIDENCE["PAGES"], ids=lambda page: page.name)
def test_the_tables_are_what_the_docstrings_say(page: Path) -> None:
    text = page.read_text("utf-8")
    assert EVIDENCE["page"](text, ROWS) == text, "make docs"
    assert text.count("\n| ") > 60


def test_each_row_is_in_a_table() -> None:
    pages = "".join(page.read_text("utf-8") for page in EVIDENCE["PAGES"])
    for row in ROWS:
        assert f"| {row.summary} |" in pages, f"{row.what} {row.part} is in no table"


def test_a_docstring_with_other_lines_is_refused() -> None:
    rows_in = EVIDENCE["rows_in"]
    told = "It fails.\n\nAttack A1.2: try\nGuard: policyfs/a.py::b, the kernel\nAlso: ::t"
    [row] = rows_in(told, "tests/x.py::s")
    assert EVIDENCE["cells"](row) == [
        "A1.2", "try", "`policyfs/a.py::b`, the kernel", "`tests/x.py::s`, `tests/x.py::t`", "`tests/x.py::s`"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="the lines are not Guard, Also, Without"):
        list(rows_in("Attack A1.2: try\nWithout: ::t\nGuard: ::u", "tests/x.py::s"))


def test_every_line_of_attack_has_a_row() -> None:
    wanted = {f"{part}{number}" for part, numbers in LINES.items() for number in numbers}
    assert {part for part, _ in cells("Attack")} == wanted


@pytest.mark.parametrize(
    "row", [row for _, row in cells("Attack")], ids=lambda row: f"{row[0]} {row[1][:40]}"
)
def test_an_attack_names_what_is_there(row: list[str]) -> None:
    _, attempt, held_by, test, without = row
    guards = named(held_by)
    assert all(path.startswith("tests/") for path, _ in named(test))
    assert guards or held_by.startswith(("none yet", "the kernel"))
    check([*named(test), *guards, *named(without)])
    assert attempt
    assert named(without), "what shows that the test can fail"


@pytest.mark.parametrize("row", [row for _, row in cells("Fault")], ids=lambda row: row[0][:50])
def test_a_fault_names_what_is_there(row: list[str]) -> None:
    check(named(row[4]))
    assert row[0]
    assert row[1]


def check(names: list[tuple[str, str]]) -> None:
    for path, name in names:
        assert (CHECKOUT / path).is_file(), path
        assert not name or name in defined(path), f"{path} has no {name}"


def test_every_test_of_a_fault_stands_in_a_table() -> None:
    shown = {pair for _, row in cells("Fault") for pair in named(row[4])}
    there = {
        (str(path.relative_to(CHECKOUT)), name)
        for path in (CHECKOUT / "tests/faults").glob("test_*.py")
        for name in defined(str(path.relative_to(CHECKOUT)))
        if name.startswith("test_")
    }
    assert there <= shown, there - shown
