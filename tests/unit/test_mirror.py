"""tests/unit mirrors policyfs/: each module with logic has a file of tests, named after it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.documents import CHECKOUT

PACKAGE: Final = CHECKOUT / "policyfs"
UNIT: Final = CHECKOUT / "tests/unit"
LOGIC: Final = (
    ast.If, ast.IfExp, ast.BoolOp, ast.Match, ast.Try, ast.For, ast.AsyncFor, ast.While, ast.comprehension,
)  # fmt: skip
"""Branches and loops. A module whose functions have none (constants, protocols, wiring) needs no tests."""

WITHOUT: Final = {
    "daemon/daemon.py": "mounts",
    "cli/kept/kept.py": "undo", "cli/kept/stores.py": "undo", "cli/kept/undo.py": "undo",
    "cli/running/brake.py": "brakes", "fs/access/kept_changes.py": "undo", "store/kept/bins.py": "undo",
    "store/kept/places.py": "undo", "store/kept/plan.py": "undo",
    "store/kept/record.py": "undo", "store/kept/undo.py": "undo", "store/names/aside_names.py": "mounts",
}  # fmt: skip
"""Modules with logic and without a file of tests: where they are tested instead.

mounts: their work is calls on a mount (tests/mount, tests/attack). undo, brakes: tests/mount/test_undo*.py,
test_brake*.py, which compare trees before a loss and after an undo.
"""


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node


def has_logic(source: str) -> bool:
    return any(
        isinstance(part, LOGIC) for function in _functions(ast.parse(source)) for part in ast.walk(function)
    )


def file_of(module: Path) -> Path:
    return UNIT / f"test_{'_'.join(module.relative_to(PACKAGE).with_suffix('').parts)}.py"


def without() -> set[str]:
    """Name the modules that have logic and no file of tests."""
    return {
        module.relative_to(PACKAGE).as_posix()
        for module in PACKAGE.rglob("*.py")
        if not file_of(module).exists() and has_logic(module.read_text("utf-8"))
    }


def test_a_module_with_logic_has_a_file_of_tests() -> None:
    """If not: write tests/unit/test_<package>_<module>.py."""
    assert without() - WITHOUT.keys() == set()


def test_who_has_one_is_not_in_the_list() -> None:
    """Nor who was moved, or has no logic any more: take the line out."""
    assert WITHOUT.keys() - without() == set()


def test_what_make_check_leaves_out_is_there() -> None:
    """A file that has moved would be run by `make check`, dear as it is."""
    makefile = (CHECKOUT / "Makefile").read_text("utf-8")
    named = re.search(r"^DEAR := .*?%\.py, \\\n(.*?)\)$", makefile, re.MULTILINE | re.DOTALL)
    assert named is not None
    names = named[1].replace("\\", " ").split()
    assert [name for name in names if not (UNIT / f"test_{name}.py").exists()] == []
    assert len(names) > 5


def test_logic_is_a_branch_or_a_loop_in_a_function() -> None:
    for plain in (
        "A = [b for b in c] if d else e",
        "class A(Protocol):\n    def b(self) -> int: ...",
        "def a(b):\n    with b as c:\n        return c + 1",
    ):
        assert not has_logic(plain), plain
    for body in (
        "if b: c()",
        "for d in b: c()",
        "return b or c",
        "return [d for d in b]",
        "return lambda: b or c",
    ):
        assert has_logic(f"def a(b):\n    {body}"), body
    assert has_logic("A = lambda b: b if b else 0")
