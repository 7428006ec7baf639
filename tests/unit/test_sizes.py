"""Sizes of files, functions and constructors: beyond these a concept is missing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT

FILE_LINES: Final = 400
FUNCTION_LINES: Final = 60
COLLABORATORS: Final = 8
SETTINGS: Final = {"bool", "int", "float", "str", "int | None", "str | None", "float | None"}
"""Types of values that are no collaborators."""
PACKAGE: Final = CHECKOUT / "policyfs"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_no_larger_than_a_reader_takes_in(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= FILE_LINES
    for function in _functions(path):
        assert (function.end_lineno or 0) - function.lineno < FUNCTION_LINES, function.name
        if function.name == "__init__":
            taken = [*function.args.args[1:], *function.args.kwonlyargs]
            collaborators = [one.arg for one in taken if ast.unparse(one.annotation or one) not in SETTINGS]
            assert len(collaborators) <= COLLABORATORS, collaborators
