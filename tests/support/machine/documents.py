"""What README.md and docs/ tell people to type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[3]
_TOP: Final = ("README.md", "CONTRIBUTING.md")
PAGES: Final = (*(CHECKOUT / name for name in _TOP), *sorted((CHECKOUT / "docs").rglob("*.md")))


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. language: what stands behind the opening fence, empty for commands."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[1], match[2]))
    return found


def commands(page: Path) -> list[str]:
    """The commands of a page's blocks without a language, in order.

    A command goes on over lines that end with a backslash or within quotes. A block that begins
    with the path of something that is no program is a listing, not commands.
    """
    found: list[str] = []
    for block in blocks(page):
        first = block.text.split(maxsplit=1)[0] if block.text.strip() else ""
        if block.language in {"", "sh"} and not (first.startswith("/") and "/bin/" not in first):
            found += _joined(block.text)
    return found


def _joined(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for line in text.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            shlex.split(pending, comments=True)
        except ValueError:
            continue  # it goes on
        if pending.strip() and not pending.startswith("#"):
            lines.append(pending)
        pending = ""
    return lines
