"""Draws what the programs beside this one show: `make demo-picture` writes the pictures in docs/."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
PICTURES: Final = {"demo.svg": "demo.py", "init.svg": "init.py", "try.svg": "try.py"}
"""Each picture, and the program that shows its text."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_ASKS: Final = re.compile(r"\$ |\): ?\w*$")
_TIME: Final = re.compile(r"\d\d-\d\d \d\d:\d\d:\d\d  [0-9a-f]{8}:\d+ *")
_COLUMNS, _WIDTH, _LINE = 88, 700, 17
_PLAIN: Final = "#c5c8c6"
_GREEN, _YELLOW, _RED = "#8fd694", "#f0c674", "#cc6666"
_COLOURS: Final = {
    "-- ": _GREEN, "root": _YELLOW, "    +": _GREEN, "    -": _RED, "    ": _PLAIN,
    "+ ": _GREEN, "~ ": _YELLOW, "- ": _RED,
}  # fmt: skip
"""Of a line that begins so: headings, commands of root, output, changes. Questions, and commands of apps, are
blue."""


def drawn(text: str) -> str:
    """Return the picture (SVG) of a text. Times and ids of a run are left out of it."""
    text = _TIME.sub(lambda found: "01-31 12:00:00  5e0c1d2a:23".ljust(len(found[0])), text)
    text = _DATE.sub("2027-01-31", text)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, _COLUMNS) or [""]]
    rows = []
    for number, line in enumerate(lines, 1):
        other = "#81a2be" if _ASKS.search(line) else _PLAIN
        colour = next((_COLOURS[line[:size]] for size in (5, 4, 3, 2) if line[:size] in _COLOURS), other)
        rows.append(f'<text x="14" y="{number * _LINE + 8}" fill="{colour}">{escape(line)}</text>')
    height = len(lines) * _LINE + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#1d1f21"/>\n'
        '<g font-family="monospace" font-size="13" style="white-space:pre">\n'
        + "\n".join(rows)
        + "\n</g>\n</svg>\n"
    )


def shown(program: str) -> str:
    """Run one of the programs beside this one, in a mount namespace. Return what it prints."""
    command = ["unshare", "--mount", sys.executable, Path(__file__).with_name(program)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    for picture, program in PICTURES.items():
        (DOCS / picture).write_text(drawn(shown(program)), "utf-8")
