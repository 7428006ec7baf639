"""Colours on a terminal; none with NO_COLOR (no-color.org), and none if a stream is not a terminal."""

from __future__ import annotations

import os
from typing import Final, TextIO

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
MAGENTA: Final = "35"
DIM: Final = "2"
BOLD: Final = "1"


def wanted(stream: TextIO) -> bool:
    """Return True if colours should be written to a stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str) -> str:
    """Return a text with the control codes of a colour. The codes take no room on the terminal."""
    return f"\x1b[{code}m{text}\x1b[0m"
