"""The picture (SVG) of a policy's matrix: a table with rows of paths and a column for each caller."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Final

from policyfs.cli.policy.matrix_text import LEGEND, label, sign
from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OPS, Answer, Cell, Matrix
from policyfs.trail.lines.table import fit, shown, width

_BOX: Final = 22
_GAP: Final = 18
_LETTER: Final = 8.4
"""The width (px) of a letter in a monospaced font of 14 px."""
_LINE: Final = 30
_HEAD: Final = 86
_LONGEST: Final = 60
_MARGIN: Final = 24
_FILLS: Final = {
    "always": ("#1f6f3d", "#ffffff"),
    "special": ("#6a3fa0", "#ffffff"),
    "sometimes": ("#f2c14e", "#1b1f24"),
    "never": ("#eef1f4", "#8a939d"),
}


def svg(found: Matrix, title: str) -> str:
    """Return the picture of a policy's matrix (rows of paths, columns of callers) as SVG."""
    labels = [fit(label(row), _LONGEST) for row in found.rows]
    left = _MARGIN + max(width(text) for text in labels) * _LETTER + _GAP
    step = max(_BOX * len(OPS), *(width(shown(name)) * _LETTER for name in found.columns)) + _GAP
    legend = [*LEGEND]
    right = max(left + step * len(found.columns), max(map(len, legend)) * _LETTER * 0.86 + _MARGIN) + _MARGIN
    high = _HEAD + _LINE * len(labels) + 24 * len(legend) + 3 * _MARGIN
    size = f'viewBox="0 0 {right:.0f} {high:.0f}" width="{right:.0f}" height="{high:.0f}"'
    font = 'font-family="DejaVu Sans Mono, monospace" font-size="14"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{_text(title)}</title>",
        f'<rect width="{right:.0f}" height="{high:.0f}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="36" font-size="18" font-weight="bold" fill="#1b1f24">{_text(title)}</text>',
    ]
    for at, name in enumerate(found.columns):
        x = left + at * step
        place = f'x="{x:.1f}" y="{_HEAD - 14}"'
        parts.append(f'<text {place} font-weight="bold" fill="#1b1f24">{_text(name)}</text>')
    for line, (row, text) in enumerate(zip(found.rows, labels, strict=True)):
        y = _HEAD + line * _LINE
        if line % 2:
            parts.append(f'<rect y="{y - 4}" width="{right:.0f}" height="{_LINE}" fill="#f8fafb"/>')
        parts.append(f'<text x="{_MARGIN}" y="{y + 16}" fill="#1b1f24">{html.escape(text)}</text>')
        for at, name in enumerate(found.columns):
            if name in row.cells:
                parts += _boxes(left + at * step, y, row.cells[name], f"{name} at {label(row)}")
    top = _HEAD + _LINE * len(labels) + _MARGIN
    parts += [
        f'<text x="{_MARGIN}" y="{top + 24 * at + 14}" font-size="12" fill="#57606a">{_text(line)}</text>'
        for at, line in enumerate(legend)
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(x: float, y: float, cells: dict[Op, Cell], where: str) -> Iterator[str]:
    """Yield a box with a letter for each operation. x, y: the left upper corner.

    where: the text for the row and column.
    """
    for at, op in enumerate(OPS):
        cell = cells[op]
        fill, ink = _FILLS[_look(cell)]
        told = f"{where}: {(op.name or '').lower()} {cell.answer.value}"
        told += f", without {', '.join(cell.words)}" if cell.words else ""
        told += ", checked" if cell.checked else ""
        left = x + at * _BOX
        yield (
            f'<g><title>{_text(told)}</title><rect x="{left:.1f}" y="{y}" width="{_BOX - 2}"'
            f' height="{_BOX}" rx="3" fill="{fill}"/><text x="{left + (_BOX - 2) / 2:.1f}" y="{y + 16}"'
            f' text-anchor="middle" fill="{ink}">{sign(op, cell)}</text></g>'
        )


def _look(cell: Cell) -> str:
    if cell.answer is Answer.NEVER:
        return "never"
    if cell.answer is not Answer.ALWAYS:
        return "sometimes"
    return "special" if cell.words or cell.checked else "always"


def _text(text: str) -> str:
    return html.escape(shown(text))
