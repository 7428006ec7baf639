"""What README.md and docs/ tell people to type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md")))


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
    """The lines of a page's blocks of commands (those without a language), in order."""
    return [
        line
        for block in blocks(page)
        if block.language in {"", "sh"}
        for line in block.text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
