"""Draws a text of the demo: `make demo-picture` writes docs/demo.svg, the picture of README.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

PICTURE: Final = Path(__file__).resolve().parents[2] / "docs/demo.svg"
_TIME: Final = re.compile(r"\d\d-\d\d \d\d:\d\d:\d\d  [0-9a-f]{8}:\d+ *")
_WIDTH, _LINE = 700, 17
_COLOURS: Final = {"-- ": "#8fd694", "root": "#f0c674", "    ": "#c5c8c6"}
"""Of a line that begins so: headings, commands of root, output. All others are commands of apps."""


def drawn(text: str) -> str:
    """Return the picture (SVG) of the demo's text. Times and ids of a run are left out of it."""
    lines = _TIME.sub(lambda found: "01-31 12:00:00  5e0c1d2a:23".ljust(len(found[0])), text).splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        colour = _COLOURS.get(line[:4], _COLOURS.get(line[:3], "#81a2be" if "$ " in line else "#c5c8c6"))
        rows.append(f'<text x="14" y="{number * _LINE + 8}" fill="{colour}">{escape(line)}</text>')
    height = len(lines) * _LINE + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#1d1f21"/>\n'
        '<g font-family="monospace" font-size="13" style="white-space:pre">\n'
        + "\n".join(rows)
        + "\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    command = [sys.executable, Path(__file__).with_name("demo.py")]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    PICTURE.write_text(drawn(shown), "utf-8")
