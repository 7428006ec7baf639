"""Docstrings begin with the noun or the verb that they are about, not with a question."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.statements import statements

QUESTION: Final = re.compile(r"(What|Whether|Who|Whose|Whoever|Which|How|Why|When|Where)\b")


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string that stands alone: docstrings, also of fields and constants."""
    for node in statements(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def test_no_docstring_begins_with_a_question() -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}: {text.splitlines()[0]}"
        for path in sorted((CHECKOUT / "policyfs").rglob("*.py"))
        for line, text in docstrings(path.read_text("utf-8"))
        if QUESTION.match(text.strip())
    ]
    assert found == [], "name the object: a noun of the field, or a verb with one"


def test_questions_are_found() -> None:
    source = 'class A:\n    """What is it."""\n    a = 1\n    """Why not."""\n    b = 2\n    """Weight."""\n'
    assert [line for line, text in docstrings(source) if QUESTION.match(text)] == [2, 4]
