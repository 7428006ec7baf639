"""Tables of docs/threat-model.md and docs/faults.md, from the docstrings of the tests; `make docs` runs it.

The docstring of a test that makes an attack, or plants a fault, ends with a paragraph like these:

    Attack B2.4: Replace a file by a symlink during an open
    Guard: policyfs/store/tree.py::Tree.open_file
    Also: ::test_by_a_second_mount
    Without: ::test_the_open_follows_it

    Fault store.7: The disk is slow
    App: waits
    Store: accepted bytes
    Trail: as usual

`Guard` names what stops the attack, `Also` other tests of it, and `Without` tests in which it succeeds, since
the guard is taken out; without this line the test itself shows that. `::name` is in the same file. The
numbers give the order of the rows.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (CHECKOUT / "docs/threat-model.md", CHECKOUT / "docs/faults.md")
LABELS: Final = {
    "Attack": ("Guard", "Also", "Without"),
    "Fault": ("App", "Store", "Trail", "Also"),
}
_HEADS: Final = {
    "Attack": "| | attempt | held by | test | without it |\n|---|---|---|---|---|",
    "Fault": "| fault | the app sees | the store holds | the trail says | test |\n|---|---|---|---|---|",
}
_BEGINS: Final = re.compile(r"(Attack|Fault) ([A-Za-z]\w*)\.(\d+): ")
_NAMED: Final = re.compile(r"(?<![\w`/])((?:[\w-]+/)+[\w-]+\.(?:py|c))?((?:::\w+(?:\.\w+)*)?)")
_TABLE: Final = re.compile(r"(<!-- made by `make docs`: (Attack|Fault) (\w+) -->\n\n)((?:\|.*\n)*)")


class Row(NamedTuple):
    """What the docstring of one test says of one attack or fault. number: its place in the table. texts: what
    follows each label, without those that are absent. test: path::name of the test."""

    what: str
    part: str
    number: int
    summary: str
    texts: dict[str, str]
    test: str


def rows(tests: Path = CHECKOUT / "tests") -> list[Row]:
    """Return all rows in the order of their numbers. Raises ValueError if two have the same number, or a line
    has no known label."""
    found = [row for path in sorted(tests.rglob("*.py")) for row in _rows_of(path)]
    found.sort(key=lambda row: (row.what, _order(row.part), row.number))
    for one, other in itertools.pairwise(found):
        if one[:3] == other[:3]:
            raise ValueError(f"{one.what} {one.part}.{one.number} twice: {one.test}, {other.test}")
    return found


def _order(part: str) -> tuple[str, int]:
    letters = part.rstrip("0123456789")
    return letters, int(part[len(letters) :] or 0)


def _rows_of(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8")
    if _BEGINS.search(text):  # to parse all files takes two seconds
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                test = f"{path.relative_to(CHECKOUT)}::{node.name}"
                yield from rows_in(ast.get_docstring(node) or "", test)


def rows_in(docstring: str, test: str) -> Iterator[Row]:
    """Yield the rows in the docstring of one test. Raises ValueError."""
    for paragraph in docstring.split("\n\n"):
        if match := _BEGINS.match(paragraph):
            labels = LABELS[match[1]]
            parts = re.split(rf"^({'|'.join(labels)}):\s", paragraph[match.end() :], flags=re.MULTILINE)
            summary, *rest = (" ".join(part.split()) for part in parts)
            texts = dict(zip(rest[::2], rest[1::2], strict=True))
            if list(texts) != [label for label in labels if label in texts]:
                raise ValueError(f"{test}: the lines are not {', '.join(labels)}")
            yield Row(match[1], match[2], int(match[3]), summary, texts, test)


def cells(row: Row) -> list[str]:
    """Return the cells of a row as Markdown."""
    named = {label: _with_code(text, row.test) for label, text in row.texts.items()}
    tests = ", ".join(filter(None, (f"`{row.test}`", named.get("Also"))))
    if row.what == "Attack":
        without = named.get("Without", f"`{row.test}`")
        return [f"{row.part}.{row.number}", row.summary, named.get("Guard", ""), tests, without]
    return [row.summary, *(row.texts.get(label, "") for label in ("App", "Store", "Trail")), tests]


def _with_code(text: str, test: str) -> str:
    def shown(match: re.Match[str]) -> str:
        return f"`{match[1] or test.partition('::')[0]}{match[2]}`" if match[0] else ""

    return _NAMED.sub(shown, text)


def page(text: str, found: list[Row]) -> str:
    """Return the text of a page with its tables made anew: `Attack A` has all rows of A1, A2 and so on."""

    def table(match: re.Match[str]) -> str:
        mine = [row for row in found if row.what == match[2] and match[3] in {row.part, _order(row.part)[0]}]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells(row))} |" for row in mine]
        return "\n".join([match[1] + _HEADS[match[2]], *lines, ""])

    return _TABLE.sub(table, text)


if __name__ == "__main__":
    all_rows = rows()
    for one_page in PAGES:
        one_page.write_text(page(one_page.read_text("utf-8"), all_rows), "utf-8")
