"""Sizes of files, functions and constructors: beyond these a concept is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.statements import statements

FILE_LINES: Final = 600
FUNCTION_LINES: Final = 60
COLLABORATORS: Final = 8
SETTINGS: Final = {"bool", "int", "float", "str", "int | None", "str | None", "float | None"}
"""Types of values that are no collaborators."""
PACKAGE: Final = CHECKOUT / "policyfs"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
SOURCES: Final = sorted(PACKAGE.rglob("*.[ch]"))
DEFINITION: Final = re.compile(
    r"^[a-zA-Z][^;{}=#]*?(\w+)\([^;{}]*\)\n\{\n(.*?)^\}$", re.MULTILINE | re.DOTALL
)
"""A function of C: its name, and the lines between its braces, which are in the first column."""


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in statements(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _excesses(path: Path) -> Iterator[str]:
    """Yield what of a module is larger than a reader takes in."""
    if len(path.read_text("utf-8").splitlines()) > FILE_LINES:
        yield "the file"
    for function in _functions(path):
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES:
            yield function.name
        if function.name == "__init__":
            taken = [*function.args.args[1:], *function.args.kwonlyargs]
            collaborators = [one.arg for one in taken if ast.unparse(one.annotation or one) not in SETTINGS]
            if len(collaborators) > COLLABORATORS:
                yield f"__init__ of {', '.join(collaborators)}"


def test_a_module_is_no_larger_than_a_reader_takes_in() -> None:
    assert {_name(path): found for path in MODULES if (found := [*_excesses(path)])} == {}


def _bodies(source: str) -> dict[str, int]:
    """Return the lines of each function of a C source, with its head and braces."""
    return {one[1]: one[0].count("\n") + 1 for one in DEFINITION.finditer(source)}


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_c_source_is_no_larger(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= FILE_LINES
    found = _bodies(source)
    assert len(found) == len(re.findall(r"^\{$", source, re.MULTILINE)), "each function is measured"
    assert {name: lines for name, lines in found.items() if lines > FUNCTION_LINES} == {}
