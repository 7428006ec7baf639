"""docs/modules.md from the code: every room with its first sentence, and which room imports which. And the
list of the decisions, from their titles.

    python packaging/docs/modules.py        # `make docs` runs it, and a test says when it is to be run
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "policyfs"
PAGE = CHECKOUT / "docs/modules.md"
DECISIONS = CHECKOUT / "docs/decisions/README.md"
_HEAD = """\
# Rooms

Made from the code by `make docs`: what each room (a package of `policyfs/`) is for, and which imports which.
An arrow leads to the room that is imported; the import contract in `pyproject.toml` holds the order. What a
module does is in its first sentence: `grep -m1 '^\"\"\"' policyfs/fs/opening/*.py`. What must stay true of a
room is in [architecture.md](architecture.md).
"""


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module and package by its dotted name below policyfs, in order; "" is policyfs itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, in one line. Raises ValueError if there is none."""
    text = ast.get_docstring(_parsed(path))
    if not text:
        raise ValueError(f"{path} has no docstring")
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
    return sentence.replace("|", "\\|")


@functools.cache
def _names(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name in it) of each import from policyfs, wherever it stands."""
    nodes = (node for node in ast.walk(_parsed(path)) if isinstance(node, ast.ImportFrom))
    ours = ((node, node.module or "") for node in nodes if (node.module or "").split(".")[0] == "policyfs")
    return tuple((module[9:], alias.name) for node, module in ours for alias in node.names)


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of policyfs that one imports, those for annotations included."""
    for base, name in _names(path):
        full = f"{base}.{name}".removeprefix(".")
        yield full if full in known else base


def arrows(known: dict[str, Path], inside: str) -> list[tuple[str, str]]:
    """Which room imports which, among those directly below a package ("" for policyfs)."""
    start = f"{inside}." if inside else ""
    found = set()
    for name, path in known.items():
        for other in imported(path, known):
            if name.startswith(start) and other.startswith(start) and name and other:
                pair = (name.removeprefix(start).split(".")[0], other.removeprefix(start).split(".")[0])
                if pair[0] != pair[1]:
                    found.add(pair)
    return sorted(found)


def picture(pairs: list[tuple[str, str]]) -> str:
    """The arrows without those that follow from others, as a picture."""
    below: dict[str, set[str]] = {}
    for above, under in pairs:
        below.setdefault(above, set()).add(under)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(below.get(start, ()))
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo += below.get(at, ())
        return seen

    kept = [
        (above, under)
        for above, under in pairs
        if not any(under in reached(other) for other in below[above] - {under})
    ]
    return "\n".join(["```mermaid", "flowchart TD", *(f"    {a} --> {b}" for a, b in kept), "```"])


def page() -> str:
    """All of docs/modules.md."""
    known = modules()
    out = [_HEAD]
    for package, title in (("", "The whole"), ("fs", "Inside fs/"), ("redact", "Inside redact/")):
        out += [f"## {title}", "", picture(arrows(known, package)), ""]
    rooms = sorted(name for name in known if name and known[name].name == "__init__.py")
    out += ["## Rooms", "", "| room | |", "|---|---|"]
    out += [f"| `{name.replace('.', '/')}/` | {summary(known[name])} |" for name in rooms]
    return "\n".join([*out, ""])


def decisions(text: str) -> str:
    """docs/decisions/README.md, with its table of all decisions made anew."""
    rows = []
    for path in sorted(DECISIONS.parent.glob("0*.md")):
        title, _, status, *_ = path.read_text(encoding="utf-8").split("\n")
        ended = re.match(r"Status: (given up for \d{4}|merged into \d{4}),", status)
        number, what = title[2:].split(": ", 1)
        rows.append(f"| [{number}]({path.name}) | {what}{f' ({ended[1]})' if ended else ''} |\n")
    return re.sub(r"(?<=\|---\|---\|\n)(?:\|.*\n)*", lambda _: "".join(rows), text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DECISIONS.write_text(decisions(DECISIONS.read_text(encoding="utf-8")), encoding="utf-8")
