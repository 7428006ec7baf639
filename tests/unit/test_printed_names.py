"""Names that others choose reach a terminal escaped: no command prints a path or a name past shown()."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT

NAMES: Final = {
    "ack", "append", "at", "config", "container", "containers", "directory", "error", "file", "files", "html",
    "link", "listed", "log_file", "mountpoint", "name", "names", "output", "path", "paths", "place", "root",
    "service", "services", "source", "store", "target", "trail",
}  # fmt: skip
"""Names of variables and attributes that hold a path, a name, or an error with such a name in its text."""
ESCAPES: Final = frozenset({"shown", "shown_path", "word", "words", "harmless"})
TEXT: Final = frozenset({"str", "quote", "join", "fspath", "basename", "dirname", "realpath", "map"})
"""Functions whose result has the names of their arguments. Any other makes a text of its own."""
ALLOWED: Final = {"cli/main.py": {"out.error"}}
"""An error of standard output, which has no name in it."""


def loose(node: ast.expr) -> Iterator[str]:
    """Yield the names in an expression that reach the text without an escape."""
    if isinstance(node, ast.Call):
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        first = node.args[0] if node.args else None
        is_mapped = name == "map" and isinstance(first, ast.Name) and first.id in ESCAPES  # map(shown, names)
        if name in ESCAPES or name not in TEXT or is_mapped:
            return
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield node.id
    elif isinstance(node, ast.Attribute | ast.Subscript):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node.slice, "value", "")
        if name in NAMES:
            yield ast.unparse(node)
        return
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else ast.iter_child_nodes(node)
    for part in parts:
        if isinstance(part, ast.expr):
            yield from loose(part)


def breaches(source: str) -> Iterator[str]:
    """Yield what the calls of print() in a module print raw."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            for argument in node.args:
                yield from loose(argument)


@pytest.mark.parametrize(
    "source",
    ['print(f"at {mount.at}")', "print(path)", 'print("wrote " + ", ".join(files))', "print(str(args.store))",
     'print(f"next: {shlex.quote(file)}")', 'print(f"policyfs: {error}", file=sys.stderr)',
     'print(f"{shown(place)}: {path}" if path else done)'],
)  # fmt: skip
def test_the_rule_sees(source: str) -> None:
    assert list(breaches(source))


@pytest.mark.parametrize(
    "source",
    ['print(f"at {shown(mount.at)}")', "print(', '.join(map(shown, files)))", "print(json.dumps(paths))",
     "print(len(paths), 'names' if names else 'none')", 'print(f"next: {words(program, file)}")'],
)  # fmt: skip
def test_the_rule_lets_pass(source: str) -> None:
    assert not list(breaches(source))


def test_no_command_prints_a_name_raw() -> None:
    package = CHECKOUT / "policyfs"
    found = {
        str(file.relative_to(package)): set(breaches(text))
        for file in package.rglob("*.py")
        if "print(" in (text := file.read_text(encoding="utf-8"))
    }
    assert {file: names for file, names in found.items() if names} == ALLOWED
