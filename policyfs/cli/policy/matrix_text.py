"""The matrix of a policy (rows of paths, columns of callers), as text for a terminal and as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from policyfs.cli.common.colour import DIM, GREEN, MAGENTA, YELLOW, paint
from policyfs.domain import OWNER_NONE, Op
from policyfs.policy.analysis.matrix import OPS, OTHER, SELF, Answers, Cell, Matrix, Rights, Row
from policyfs.trail.lines.table import pad, shown, width, wrap

T = TypeVar("T")

LETTERS: Final = {
    Op.SEE: "s", Op.READ: "r", Op.WRITE: "w", Op.CREATE: "c", Op.DELETE: "d", Op.ATTR: "a",
}  # fmt: skip
ANY_OTHER: Final = "any other path"
NOTHING: Final = "-"
_LEGEND: Final = (
    "s see, r read, w write, c create, d delete, a change attributes; all: srwcda; -: nothing",
    "A row is about regular files at its paths, except paths that another row names more exactly",
)
_GAP: Final = "  "
_LEAST: Final = 16
_MOST: Final = 40
"""Maximum width of the paths, if the terminal's width is known."""
_LONGEST_KINDS: Final = 12
"""Maximum width of kinds in a cell. Longer lists get a number, which the legend explains."""


class MatrixText:
    """The text of the cells of one matrix, and the legend that explains it. Two cells of a row have the same
    text only if the callers have the same rights on all files of the row."""

    def __init__(self, found: Matrix) -> None:
        self._kinds: Final = found.kinds
        cells = [cell for row in found.rows for cell in row.cells.values()]
        rights = [right for cell in cells for answers in cell for _, right in answers]
        self._redact: Final = _numbered("R", (right.redact for right in rights))
        self._content: Final = _numbered("W", (right.content for right in rights))
        self._lists: Final[dict[str, str]] = {}
        self._unsure: Final[dict[tuple[str, Cell], str]] = {}
        self._texts: Final = {
            (name, cell): tuple(map(shown, self._text_of(name, cell)))
            for row in found.rows
            for name, cell in row.cells.items()
        }

    def terms(self, row: Row, name: str) -> tuple[str, ...]:
        """Return the text of a cell: terms such as ``sR`` and ``own:all``. The last one that fits counts.
        name: the name of the column. A caller without a cell in the row has no terms."""
        return self._texts[name, row.cells[name]] if name in row.cells else ()

    def legend(self) -> list[str]:
        """Return the lines that explain the letters, words and numbers of all cells."""
        lines = [*_LEGEND]
        lines[1:1] = self._conditions()
        lines += [f"{sign}: reads without {', '.join(sorted(words))}" for words, sign in self._redact.items()]
        for content, sign in self._content.items():
            told = " and ".join(sorted(", ".join(sorted(kinds)) for kinds in content))
            lines.append(f"{sign}: writes only {told}")
        lines += [f"{name}: {kinds}" for kinds, name in self._lists.items()]
        for (name, cell), sign in self._unsure.items():
            either = " or ".join(" ".join(self._of_answers(answers)) for answers in cell)
            lines.append(f"{sign}: {name}: {either}, by the names or owners of directories above")
        return [shown(line) for line in lines]

    def _conditions(self) -> list[str]:
        """Return the line that explains the conditions in front of letters, if there are any."""
        unsure = [self._of_answers(answers) for _, cell in self._unsure for answers in cell]
        terms = {term for text in (*self._texts.values(), *unsure) for term in text}
        words = {word for term in terms for word in re.split(r"[ ,()]", term.rpartition(":")[0])}
        majors = sorted(words & {kind.split("/")[0] for kind in self._kinds if kind.endswith("\0kind")})
        told = ["own: files that the app owns"] if "own" in words else []
        told += [f"{major}: kinds {major}/*" for major in majors[:1]]
        return ["; ".join([*told, "for such files this counts, not what is before"])] if told else []

    def _text_of(self, name: str, cell: Cell) -> tuple[str, ...]:
        if len(cell) == 1:
            return self._of_answers(cell[0])
        return (self._unsure.setdefault((name, cell), f"*{len(self._unsure) + 1}"),)

    def _of_answers(self, answers: Answers) -> tuple[str, ...]:
        by_owner: dict[str, dict[str, Rights]] = {}
        for (kind, owner), rights in answers:
            by_owner.setdefault(owner, {})[kind] = rights
        others = by_owner.pop(OTHER)
        usual = others[self._kinds[0]]
        differ = {
            owner: {kind: right for kind, right in rights.items() if right != others[kind]}
            for owner, rights in by_owner.items()
        }
        whole = {owner for owner, rights in by_owner.items() if len({*rights.values()}) == 1}
        if SELF in whole and differ[SELF] and others[self._kinds[0]].ops & Op.CREATE:
            # a file that the caller creates is its own, so the term for own files says it
            others = {kind: right._replace(ops=right.ops & ~Op.CREATE) for kind, right in others.items()}
        usual = others[self._kinds[0]]
        terms = list(self._of_owner("", {kind: right for kind, right in others.items() if right != usual}))
        for owner in sorted(differ, key=lambda one: (one == SELF, one)):
            whose = {SELF: "own", OWNER_NONE: "none's"}.get(owner, f"{owner}'s")
            if differ[owner] and owner in whole:
                terms.append(f"{whose}:{self._letters(by_owner[owner][self._kinds[0]])}")
            else:
                terms += self._of_owner(f"{whose} ", differ[owner])
        return tuple(terms) if terms and not usual.ops else (self._letters(usual), *terms)

    def _of_owner(self, whose: str, rights: dict[str, Rights]) -> Iterator[str]:
        """Yield the terms for the kinds of one owner's files: one for each different right."""
        kinds: dict[Rights, set[str]] = {}
        for kind, right in rights.items():
            kinds.setdefault(right, set()).add(kind)
        for right, some in kinds.items():
            for words in self._words(some):
                yield f"{whose}{words}:{self._letters(right)}"

    def _words(self, kinds: set[str]) -> list[str]:
        negated = self._kinds[0] in kinds
        named = {*self._kinds} - kinds if negated else kinds
        majors = {kind.split("/")[0] for kind in named if kind.endswith("\0kind")}
        words = sorted(majors)
        words += sorted(kind for kind in named if "\0" not in kind and kind.split("/")[0] not in majors)
        left = sorted(kind for kind in {*self._kinds} - named if kind.split("/")[0] in majors)
        text = ",".join(words) + "".join(f",not {kind}" for kind in left)
        if not negated and not left and all(len(word) <= _LONGEST_KINDS for word in words) and len(words) < 4:
            return words
        text = f"not({text})" if negated else text
        return [text] if len(text) <= _LONGEST_KINDS else [
            self._lists.setdefault(text, f"kinds{len(self._lists) + 1}")
        ]  # fmt: skip

    def _letters(self, rights: Rights) -> str:
        signs = {Op.READ: self._redact.get(rights.redact), Op.WRITE: self._content.get(rights.content)}
        text = "".join(signs.get(op) or letter for op, letter in LETTERS.items() if rights.ops & op)
        return "all" if text == "".join(LETTERS.values()) else text or NOTHING


def _numbered(letter: str, some: Iterable[frozenset[T]]) -> dict[frozenset[T], str]:
    """Return a sign for each set that is not empty: the letter, with a number if there are several."""
    different = [one for one in dict.fromkeys(some) if one]
    return {one: letter + (f"{at}" if len(different) > 1 else "") for at, one in enumerate(different, 1)}


def colour_of(term: str) -> str:
    """Return the colour of a term of a cell."""
    condition, _, letters = term.rpartition(":")
    if letters == NOTHING:
        return DIM
    if condition or letters.startswith("*"):
        return YELLOW
    return MAGENTA if letters != letters.lower() else GREEN


def labels(row: Row) -> list[str]:
    """Return the paths of a row, as lines of text."""
    return [ANY_OTHER if one in ((), ("/**",), ("/***",)) else shown(" and ".join(one)) for one in row.paths]


def text_of(found: Matrix, columns: int | None, *, colours: bool) -> str:
    """Return a policy's matrix as tables, with the legend below. columns: the width of the terminal. A matrix
    that is wider becomes several tables. None: one table of any width."""
    text = MatrixText(found)
    longest = max([_LEAST, *(width(label) for row in found.rows for label in labels(row))])
    most = longest if columns is None else min(longest, _MOST)
    rooms = {
        name: max(map(width, [shown(name), *(t for row in found.rows for t in text.terms(row, name))]))
        for name in found.columns
    }
    lines: list[str] = []
    for part in _parts(rooms, columns, most):
        used = sum(rooms[name] + len(_GAP) for name in part)
        room = most if columns is None else max(min(longest, columns - used), _LEAST)
        lines.append(_GAP.join([pad("", room), *(pad(shown(name), rooms[name]) for name in part)]).rstrip())
        for row in found.rows:
            left = labels(row)
            for long in [label for label in left if width(label) > room]:
                lines += wrap(long, max(columns or 0, room))
            left = [label for label in left if width(label) <= room]
            cells = [text.terms(row, name) for name in part]
            for at in range(max(len(left), *map(len, cells))):
                cut = [pad(left[at] if at < len(left) else "", room)]
                cut += [
                    _painted(cell[at] if at < len(cell) else "", rooms[name], colours=colours)
                    for name, cell in zip(part, cells, strict=True)
                ]
                lines.append(_GAP.join(cut).rstrip())
        lines.append("")
    for line in text.legend():
        lines += wrap(line, columns) if columns is not None else [line]
    return "\n".join(lines)


def _parts(rooms: dict[str, int], columns: int | None, longest: int) -> Iterator[list[str]]:
    """Divide the columns of a matrix into tables that fit on the terminal."""
    part: list[str] = []
    used = 0
    for name, room in rooms.items():
        if part and columns is not None and used + room + len(_GAP) + min(longest, _LEAST) > columns:
            yield part
            part, used = [], 0
        part.append(name)
        used += room + len(_GAP)
    yield part


def _painted(term: str, room: int, *, colours: bool) -> str:
    if not term or not colours:
        return pad(term, room)
    return paint(term, colour_of(term)) + " " * (room - width(term))


def as_json(found: Matrix) -> dict[str, object]:
    """Return a policy's matrix as one JSON object."""
    text = MatrixText(found)
    return {
        "callers": list(found.columns),
        "rows": [
            {
                "paths": [list(one) for one in row.paths],
                "callers": {
                    name: {"text": list(text.terms(row, name)), "files": [_files_json(one) for one in cell]}
                    for name, cell in row.cells.items()
                },
            }
            for row in found.rows
        ],
        "legend": text.legend(),
    }


def _files_json(answers: Answers) -> list[dict[str, object]]:
    return [
        {
            "kind": "other" if kind == "\0kind/" else kind.replace("\0kind", "*"),
            "owner": {SELF: "self", OTHER: "other"}.get(owner, owner),
            "operations": [(op.name or "").lower() for op in OPS if rights.ops & op],
            "removed": sorted(rights.redact),
            "checked": sorted(sorted(kinds) for kinds in rights.content),
        }
        for (kind, owner), rights in answers
    ]
