"""The matrix of a policy (rows of paths, columns of callers), as text for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.cli.common.colour import DIM, GREEN, MAGENTA, YELLOW, paint
from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OPS, Answer, Cell, Cells, Matrix, Row
from policyfs.trail.lines.table import fit, pad, shown

LETTERS: Final = {
    Op.SEE: "s", Op.READ: "r", Op.WRITE: "w", Op.CREATE: "c", Op.DELETE: "d", Op.ATTR: "a",
}  # fmt: skip
SIGNS: Final = {
    Answer.NEVER: "-",
    Answer.OWN: "o",
    Answer.KIND: "k",
    Answer.PART: "p",
    Answer.FACTS: "f",
}
LEGEND: Final = (
    "s see, r read, w write, c create, d delete, a change attributes; - not allowed",
    "R some data is removed while the app reads, W the content of written files is checked",
    "a row is about the regular files that its glob matches, except files that a more exact row matches",
    "only for: o own files, k some kinds, f some owners (or kinds and owners), p some paths of the row",
)
OTHER: Final = "any other path"
_GAP: Final = "  "
_LEAST: Final = 16
_NO_ROOM: Final = 4


def sign(op: Op, cell: Cell) -> str:
    """Return the character that stands for one operation in a cell of the matrix.

    LEGEND explains the characters.
    """
    if cell.answer is not Answer.ALWAYS:
        return SIGNS[cell.answer]
    special = (op is Op.READ and cell.words) or (op is Op.WRITE and cell.checked)
    return LETTERS[op].upper() if special else LETTERS[op]


def signs(cells: Cells | None) -> str:
    """Return the characters for all operations.

    cells: the cells of one caller in a row. None: the row's paths are only for other callers; return spaces.
    """
    return " " * len(OPS) if cells is None else "".join(sign(op, cells[op]) for op in OPS)


def colour_of(cell: Cell) -> str:
    """Return the colour of a cell of the matrix."""
    if cell.answer is Answer.NEVER:
        return DIM
    if cell.answer is not Answer.ALWAYS:
        return YELLOW
    return MAGENTA if cell.words or cell.checked else GREEN


def label(row: Row) -> str:
    """Return the text at the beginning of a row: its globs."""
    return " and ".join(map(shown, row.globs)) or OTHER


def text_of(found: Matrix, columns: int | None, *, colours: bool) -> str:
    """Return a policy's matrix as tables, with the legend and the redactions below.

    columns: the width of the terminal. A matrix that is wider becomes several tables. None: one table of any
    width.
    """
    lines: list[str] = []
    widest = max([len(OTHER), *(len(label(row)) for row in found.rows)])
    for part in _parts(found.columns, widest, columns):
        used = sum(max(len(name), len(OPS)) + len(_GAP) for name in part)
        room = widest if columns is None else max(min(widest, columns - used), _LEAST)
        head = [pad(shown(name), max(len(name), len(OPS))) for name in part]
        lines.append(_GAP.join([pad("", room), *head]).rstrip())
        for row in found.rows:
            cells = [
                _painted(row.cells.get(name), max(len(name), len(OPS)), colours=colours) for name in part
            ]
            lines.append(_GAP.join([pad(fit(label(row), room), room), *cells]).rstrip())
        lines.append("")
    lines += LEGEND
    lines += _removed(found)
    return "\n".join(lines)


def _parts(names: Sequence[str], widest: int, columns: int | None) -> Iterator[list[str]]:
    """Divide the columns of a matrix into tables that fit on the terminal.

    Yield the column names of each table. widest: the width of the longest row name.
    """
    part: list[str] = []
    used = 0
    for name in names:
        room = max(len(name), len(OPS)) + len(_GAP)
        if part and columns is not None and used + room + min(widest, _LEAST + _NO_ROOM) > columns:
            yield part
            part, used = [], 0
        part.append(name)
        used += room
    yield part


def _painted(cells: Cells | None, room: int, *, colours: bool) -> str:
    plain = signs(cells)
    if cells is None or not colours:
        return pad(plain, room)
    painted = "".join(paint(sign(op, cells[op]), colour_of(cells[op])) for op in OPS)
    return painted + " " * (room - len(plain))


def _removed(found: Matrix) -> Iterator[str]:
    """Yield a line for each caller that reads redacted files.

    The line lists the words (such as ``location``) of the removed data.
    """
    for name in found.columns:
        words = {word for row in found.rows if name in row.cells for word in row.cells[name][Op.READ].words}
        if words:
            yield f"{shown(name)} reads some files without their {', '.join(sorted(words))}"


def as_json(found: Matrix) -> dict[str, object]:
    """Return a policy's matrix as one JSON object."""
    return {
        "callers": list(found.columns),
        "rows": [
            {
                "paths": list(row.globs),
                "callers": {
                    name: {
                        (op.name or "").lower(): {
                            "allowed": cells[op].answer.value,
                            "removed": list(cells[op].words),
                            "checked": cells[op].checked,
                        }
                        for op in OPS
                    }
                    for name, cells in row.cells.items()
                },
            }
            for row in found.rows
        ],
    }
