"""Numbers in the code that may bound what redaction looks at, found in the syntax trees of its modules.

A bound is one of these, and is written so:

- ``MAX_STRIPS``: a name of a module or class for a number (also one calculated from other names), if it is
  compared for size, calculated with, or handed on anywhere; a name that is only compared for equality (a tag,
  a marker) is none;
- ``_SIZES[]``: a dictionary of a module with numbers as values;
- ``_sound<128>``: a number of at least 2 in a function: in a comparison for size, in min(), max(), range() or
  islice(), as the size of a read, in find(), as the end of a slice, or as a default; if a function has a
  number twice, the two are one bound. A slice that is decoded or compared as a whole is a field, and none;
- ``_PATTERN{}``: a pattern that bounds a repetition.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.machine.documents import CHECKOUT

PACKAGE: Final = CHECKOUT / "policyfs"
_MODULES: Final = sorted((*PACKAGE.glob("redact/**/*.py"), *PACKAGE.glob("content/**/*.py")))
_SIZED: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_ARITHMETIC: Final = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.LShift)
_LIMITS: Final = frozenset({"min", "max", "range", "islice", "split", "read", "pread"})
_SEARCHES: Final = frozenset({"find", "rfind", "index"})
_DECODERS: Final = frozenset(
    {"from_bytes", "to_bytes", "unpack", "number", "startswith", "endswith", "get", "match", "fullmatch"}
    | {"rstrip", "strip", "decode", "hex"}
)
_REPEATED: Final = re.compile(r"\{(?:\d*,(\d+)|(\d+))\}")
_LEAST: Final = 2


@cache
def bounds() -> dict[str, set[str]]:
    """Return the bounds of each module that has any, by the module's path in the package."""
    trees = {path: _parsed(path) for path in _MODULES}
    used = {name for tree in trees.values() for name in _names_in_use(tree)}
    numbers = {name for tree in trees.values() for name, value in _assigned(tree) if _number(value) >= _LEAST}
    found = {
        path.relative_to(PACKAGE).as_posix(): {
            *(name for name, value in _assigned(tree) if name in used and _is_number(value, numbers)),
            *(f"{name}[]" for name, value in _assigned(tree) if _is_table(value)),
            *_literals(tree),
            *_patterns(tree),
        }
        for path, tree in trees.items()
    }
    return {module: rows for module, rows in found.items() if rows}


def _parsed(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text("utf-8"))
    tree.nodes = []  # type: ignore[attr-defined]
    _note(tree, tree.nodes, ())  # type: ignore[attr-defined]
    return tree


def _note(node: ast.AST, nodes: list[ast.AST], functions: tuple[str, ...]) -> None:
    """Note all nodes of a tree, and of each its parent and the functions around it: walks cost seconds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        functions = (*functions, node.name)
    node.functions = functions  # type: ignore[attr-defined]
    nodes.append(node)
    for child in ast.iter_child_nodes(node):
        child.parent = node  # type: ignore[attr-defined]
        _note(child, nodes, functions)


def _nodes(tree: ast.Module) -> list[ast.AST]:
    nodes: list[ast.AST] = tree.nodes  # type: ignore[attr-defined]
    return nodes


def _parent(node: ast.AST) -> ast.AST | None:
    parent: ast.AST | None = getattr(node, "parent", None)
    return parent


def _number(node: ast.AST | None) -> int:
    """The value of an expression of plain numbers; 0 for any other expression."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else 0
    if isinstance(node, ast.BinOp) and _number(node.left) and _number(node.right):
        value = eval(compile(ast.Expression(node), "", "eval"))  # numbers and operators alone
        return value if isinstance(value, int) else 0
    return 0


def _is_number(value: ast.AST, names: set[str]) -> bool:
    """Whether an expression is a number of at least 2, or is calculated from names of such numbers."""
    if isinstance(value, ast.BinOp):
        return any(_is_number(part, names) for part in (value.left, value.right))
    return value.id in names if isinstance(value, ast.Name) else _number(value) >= _LEAST


def _is_table(value: ast.AST) -> bool:
    """Whether an expression is a dictionary with numbers, or tuples of numbers, as values."""
    if isinstance(value, ast.Call):
        return any(map(_is_table, value.args))
    values = value.values if isinstance(value, ast.Dict) else []
    flat = [part for one in values for part in (one.elts if isinstance(one, ast.Tuple) else [one])]
    return any(_number(part) >= _LEAST for part in flat)


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """The names of modules and classes, each with its expression."""
    for node in _nodes(tree):
        if not isinstance(_parent(node), ast.Module | ast.ClassDef):
            continue
        if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            names = getattr(node.targets[0], "elts", [])
            yield from ((name.id, one) for name, one in zip(names, node.value.elts, strict=False))


def _names_in_use(tree: ast.Module) -> Iterator[str]:
    """The names that are used as a number, and not only as a code."""
    for node in _nodes(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Compare) and any(isinstance(op, _SIZED) for op in node.ops):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, _ARITHMETIC):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Call):
            parts = [*node.args, *(word.value for word in node.keywords)]
        elif isinstance(node, ast.Slice):
            parts = [node.lower, node.upper, node.step]
        elif isinstance(node, ast.arguments):
            parts = [*node.defaults, *node.kw_defaults]
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.Tuple | ast.List):
            parts = [*node.elts] if isinstance(_parent(node), ast.List | ast.Assign | ast.Call) else []
        elif isinstance(node, ast.AugAssign | ast.Assign | ast.AnnAssign | ast.Return):
            parts = [node.value]
        yield from (one.id for one in parts if isinstance(one, ast.Name))
        yield from (one.attr for one in parts if isinstance(one, ast.Attribute))


def _literals(tree: ast.Module) -> Iterator[str]:
    for node in _nodes(tree):
        if functions := node.functions:  # type: ignore[attr-defined]
            numbers = [number for number in map(_number, _bounding(node)) if number >= _LEAST]
            yield from (f"{function}<{number}>" for function in functions for number in numbers)


def _bounding(node: ast.AST) -> list[ast.AST | None]:
    """The parts of a node that bound something, if they are numbers."""
    if isinstance(node, ast.Compare) and any(isinstance(op, _SIZED) for op in node.ops):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call) and _called(node) in _LIMITS:
        return [*node.args, *(word.value for word in node.keywords)]
    if isinstance(node, ast.Call) and _called(node) in _SEARCHES:
        return [part for one in node.args for part in ast.walk(one) if isinstance(part, ast.Constant)]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and not _is_field(node):
        return [node.slice.upper]
    return [*node.defaults, *node.kw_defaults] if isinstance(node, ast.arguments) else []


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _is_field(node: ast.AST) -> bool:
    """Whether a slice is decoded or compared as a whole."""
    parent = _parent(node)
    if isinstance(parent, ast.Compare):
        return not any(isinstance(op, _SIZED) for op in parent.ops)
    if isinstance(parent, ast.Attribute):
        return parent.attr in _DECODERS
    return isinstance(parent, ast.Call) and _called(parent) in _DECODERS


def _patterns(tree: ast.Module) -> Iterator[str]:
    for node in _nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            most = max((int(one or two) for one, two in _REPEATED.findall(text)), default=0)
            if most >= _LEAST and not isinstance(_parent(node), ast.Expr):
                yield f"{_owner(node)}{{}}"


def _owner(node: ast.AST | None) -> str:
    """The name of the constant or function that a text belongs to."""
    while node is not None:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        if isinstance(target, ast.Name):
            return target.id
        if isinstance(node, ast.FunctionDef):
            return node.name
        node = _parent(node)
    return ""
