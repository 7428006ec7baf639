"""The writer of a tree of entries as YAML text in canonical form (the standard layout)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policyfs.policy.cases.document import CaseDoc, ExpectDoc
from policyfs.policy.layout.quoting import WIDTH, block, scalar
from policyfs.policy.layout.tree import Alias, Collection, Comment, Entry, Node, Scalar
from policyfs.policy.text.document import FileDoc, Strict
from policyfs.policy.text.shape import CHILDREN

_MODELS: Final = CHILDREN | {(FileDoc, "tests"): CaseDoc, (CaseDoc, "expect"): ExpectDoc}
_NAMED: Final = ("apps", "sets", "path_sets")
ITEMS: Final = frozenset(("rules", "invariants", "tests", "exceptions", "accepted"))
"""Keys of lists. Between the items of such a list there is a blank line, and no item is on one line."""
SECTIONS: Final = frozenset(("apps", "sets", "path_sets", "defaults")) | ITEMS
"""Keys of the top level that have a blank line above them."""
OPEN: Final = frozenset(("metadata", *SECTIONS)) - {"defaults"}
"""Keys of the top level whose values are never written on one line."""
GLOBS: Final = frozenset(("paths", "path"))
"""Keys whose values are globs. In files of tests the values are plain paths."""
_STEP: Final = 2


class Writer:
    """A writer of one file. sort: True to put keys in order. globs: True to put globs in quotes."""

    def __init__(self, *, sort: bool, globs: bool) -> None:
        self._sort = sort
        self._globs = globs
        self._lines: list[str] = []

    def text(self, top: Collection, header: Sequence[Comment]) -> str:
        """Return the whole text of a file. header: the comments at its beginning."""
        self._comments(header, 0)
        if header and top.entries:
            entry = top.entries[0]
            if entry.gap:
                self._blank()
        self._collection(top, 0, ())
        return "\n".join(self._lines) + "\n"

    def _blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def _comments(self, comments: Sequence[Comment], indent: int) -> None:
        for comment in comments:
            if comment.gap:
                self._blank()
            self._lines.append(" " * indent + comment.text)

    def _collection(self, node: Collection, indent: int, path: tuple[str, ...]) -> None:
        first_line = len(self._lines)
        for number, entry in enumerate(self._sorted(node, path)):
            if number or len(self._lines) > first_line:
                self._separate(entry, path)
            leading = entry.leading
            if not number and leading:
                leading = [leading[0]._replace(gap=False), *leading[1:]]
            self._comments(leading, indent)
            if leading and entry.gap and path in {(), ("rules",), ("apps",), ("invariants",), ("tests",)}:
                self._blank()
            self._entry(entry, indent, path)
        self._comments(node.footer, indent)

    def _separate(self, entry: Entry, path: tuple[str, ...]) -> None:
        name = entry.key.text if entry.key is not None else ""
        if (
            (not path and name in SECTIONS)
            or (len(path) == 1 and path[0] in ITEMS)
            or (len(path) == 1 and entry.gap and not entry.leading)
        ):
            self._blank()

    def _sorted(self, node: Collection, path: tuple[str, ...]) -> list[Entry]:
        if not node.keyed or not self._sort:
            return node.entries
        order = {name: number for number, name in enumerate(order_of(path))}
        return sorted(
            node.entries, key=lambda entry: order.get(entry.key.text if entry.key else "", len(order))
        )

    def _entry(self, entry: Entry, indent: int, path: tuple[str, ...]) -> None:
        name = "*" if entry.key is None else entry.key.text
        inner = (*path, name if len(path) != 1 or path[0] not in {"apps", "sets", "path_sets"} else "*")
        start = " " * indent + ("-" if entry.key is None else f"{scalar(entry.key, glob=False, flow=False)}:")
        value = entry.value
        room = (
            WIDTH
            - len(start)
            - 1
            - sum(2 + len(comment.text) for comment in (*entry.header, *entry.trailing))
        )
        line = None if self._is_open(entry, path) else self._flow(value, inner, room)
        if line is not None:
            self._inline(f"{start} {line}".rstrip(), entry, indent)
            return
        if isinstance(value, Scalar):
            self._scalar(value, start, entry, indent, inner)
        elif isinstance(value, Collection):
            self._nested(value, start, entry, indent, inner)

    def _inline(self, line: str, entry: Entry, indent: int) -> None:
        notes = [*entry.header, *entry.trailing]
        self._comments(notes[:-1], indent)
        self._lines.append(f"{line}  {notes[-1].text}" if notes else line)

    def _scalar(self, value: Scalar, start: str, entry: Entry, indent: int, path: tuple[str, ...]) -> None:
        lines = block(value, " " * (indent + _STEP), 0)
        if lines is None or value.anchor is not None:
            anchor = f"&{value.anchor} " if value.anchor else ""
            self._inline(
                f"{start} {anchor}{scalar(value, glob=self._is_glob(path), flow=False)}", entry, indent
            )
            return
        self._inline(f"{start} {lines[0]}", entry, indent)
        self._lines += lines[1:]

    def _nested(
        self,
        value: Collection,
        start: str,
        entry: Entry,
        indent: int,
        path: tuple[str, ...],
    ) -> None:
        anchor = f" &{value.anchor}" if value.anchor else ""
        notes = [*entry.header, *entry.trailing]
        if entry.key is None and value.entries and not anchor:
            first = self._sorted(value, path)[0]
            self._comments([note._replace(gap=False) for note in (*notes, *first.leading)], indent)
            first.leading = []
            at = len(self._lines)
            self._collection(value, indent + _STEP, path)
            self._lines[at] = start + self._lines[at][indent + 1 :]
            return
        self._comments(notes[:-1], indent)
        self._lines.append(f"{start}{anchor}" + (f"  {notes[-1].text}" if notes else ""))
        self._collection(value, indent + _STEP, path)

    def _is_open(self, entry: Entry, path: tuple[str, ...]) -> bool:
        """Return True if an entry must never be written on one line."""
        if isinstance(entry.value, Collection) and not entry.value.entries and not entry.value.footer:
            return False
        name = entry.key.text if entry.key is not None else ""
        if not path:
            return name in OPEN and isinstance(entry.value, Collection)
        return len(path) == 1 and path[0] in ITEMS

    def _is_glob(self, path: tuple[str, ...]) -> bool:
        names = [name for name in path if name != "*"]
        return self._globs and bool(names) and (names[-1] in GLOBS or names[0] == "path_sets")

    def _flow(self, node: Node, path: tuple[str, ...], room: int) -> str | None:
        """Return a value on one line; None if it has comments or exceeds *room*. Aliases and [] fit."""
        found = self._line(node, path)
        if found is None:
            return None
        short = isinstance(node, Alias) or (isinstance(node, Collection) and not node.entries)
        return found if short or len(found) <= room else None

    def _line(self, node: Node, path: tuple[str, ...], *, inside: bool = False) -> str | None:
        if isinstance(node, Alias):
            return f"*{node.name}" + (" " if inside else "")
        anchor = f"&{node.anchor} " if node.anchor else ""
        if isinstance(node, Scalar):
            if "\n" in node.text.strip("\n") and not inside and block(node, "  ", 0) is not None:
                return None
            return anchor + scalar(node, glob=self._is_glob(path), flow=inside)
        if node.footer or any(entry.leading or entry.header or entry.trailing for entry in node.entries):
            return None
        nested = [entry for entry in node.entries if isinstance(entry.value, Collection)]
        if not node.keyed and len(nested) > 1:
            return None
        parts = []
        for entry in self._sorted(node, path):
            name = "*" if entry.key is None else entry.key.text
            part = self._line(entry.value, (*path, name), inside=True)
            if part is None or (name == "description" and node.keyed):
                return None
            key = "" if entry.key is None else f"{scalar(entry.key, glob=False, flow=True)}: "
            parts.append((key + part).rstrip() if entry.key is None else key + part)
        signs = "{}" if node.keyed else "[]"
        return f"{anchor}{signs[0]}{', '.join(parts)}{signs[1]}"


def order_of(path: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of a mapping in order; () if they must stay. path: the keys to it, ``*`` for items."""
    if not path:
        return (*_keys(FileDoc), "tests", "accepted")
    model: type[Strict] | None = None if path[0] == "*" or path[-1] in _NAMED else FileDoc
    for key in path:
        if model is not None and key != "*":
            model = _MODELS.get((model, key))
    if model is None:
        return ()
    names = _keys(model)
    if path[-1] == "*" and path[-2] in ITEMS:  # the description of a rule comes before its effect
        names.remove("description")
        names.insert(1, "description")
    return tuple(names)


def _keys(model: type[Strict]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
