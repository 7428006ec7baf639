"""The width of the terminal, colours and errors on it.

There are no colours with NO_COLOR (no-color.org) or TERM=dumb, or if the output is not a terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final, TextIO

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
MAGENTA: Final = "35"
DIM: Final = "2"


def wanted(stream: TextIO) -> bool:
    """Return True if a text for this stream should have colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str) -> str:
    """Return a text with the control codes of a colour around it. code: the number of the colour."""
    return f"\x1b[{code}m{text}\x1b[0m"


def print_error(error: Exception, where: str = "") -> None:
    """Print an error, which may have names that others choose. where: the beginning of its text."""
    from policyfs.policy.errors import harmless

    lines = f"policyfs: {where}{error}".split("\n")
    print("\n".join(map(harmless, lines)), file=sys.stderr)


def columns() -> int | None:
    """Return the width of the terminal; None if standard output is no terminal: only there texts are cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
