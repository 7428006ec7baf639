"""Measures of the project's size."""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from policyfs.cli.main import build_parser
from tests.support.machine.documents import CHECKOUT

_MADE: Final = re.compile(
    r"^# .*\n\nMade from the code by `make docs`[\s\S]*"  # the whole page
    r"|^<!-- made by `make docs`.*-->\n+(?:\|.*\n)+"
    r"|^<!-- (\w+): begin -->\n[\s\S]*?^<!-- \1: end -->\n",  # by tests/bench
    re.MULTILINE,
)
"""What no person has written in a page."""

_NO_CODE: Final = frozenset({
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
})  # fmt: skip


def code_lines(source: str) -> int:
    """Return the number of lines of a Python source with a token that is no comment; docstrings count."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def commands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command without commands below it, with its parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield path, parser
    for name, made in dict.fromkeys(below[0].choices.items()) if below else ():
        yield from commands(made, f"{path} {name}".strip())


def options(parser: argparse.ArgumentParser) -> int:
    """Return the number of options of a command, without --help."""
    return sum(bool(action.option_strings) and action.dest != "help" for action in parser._actions)


def circles(root: Path) -> int:
    """Return the number of modules below a package that import each other in a circle. Imports within
    functions and for annotations alone count, too."""
    imports = {_module(path, root): _imported(path) for path in root.rglob("*.py")}
    reached: dict[str, set[str]] = {}
    for name in imports:
        reached[name], waiting = set(), [name]
        while waiting:
            more = imports[waiting.pop()] & imports.keys() - reached[name]
            reached[name] |= more
            waiting += more
    return sum(any(name in reached[other] for other in reached[name] - {name}) for name in imports)


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def words(text: str) -> tuple[int, int]:
    """Return the number of words of a page that a person wrote, and of those that are generated."""
    by_hand = len(_MADE.sub("", text).split())
    return by_hand, len(text.split()) - by_hand


def _lines(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def measured() -> dict[str, int]:
    """Return a dictionary from the name of each thing with a budget to how much of it there is."""
    package, docs = CHECKOUT / "policyfs", CHECKOUT / "docs"
    pages = [*docs.rglob("*.md"), CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"]
    leaves = list(commands(build_parser()))
    found = {"python": 0}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        lines = code_lines(path.read_text("utf-8"))
        found["python"] += lines
        found[f"python/{room}"] = found.get(f"python/{room}", 0) + lines
    found["c"] = _lines(package.rglob("*.[ch]"))
    found["tests"] = _lines((CHECKOUT / "tests").rglob("*.py"))
    by_hand, made = map(sum, zip(*(words(page.read_text("utf-8")) for page in pages), strict=True))
    found["words"], found["words of generated tables"] = by_hand, made
    found["decisions"] = sum(page.name != "README.md" for page in (docs / "decisions").glob("*.md"))
    found["commands"] = len(leaves)
    found["options"] = sum(options(made) for _, made in leaves)
    found["options of mount"] = next(options(made) for name, made in leaves if name == "mount")
    found["modules in circles"] = circles(package)
    found["modules in the fullest directory"] = max(
        sum(1 for one in directory.glob("*.py") if one.name != "__init__.py")
        for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]
    )
    return found
