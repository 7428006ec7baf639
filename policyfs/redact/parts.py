"""The parts of each kind of file, and the words that remove them: docs/redaction-parts.md."""

from __future__ import annotations

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells, in_words
from policyfs.redact.registry import parts


def as_markdown() -> str:
    """Return the table of the documentation, in the order of parts()."""
    lines = ["", "| files | part | holds | goes under | becomes |", "|---|---|---|---|---|"]
    for part in parts():
        cells = (part.kinds, part.where, part.holds, _words(part.tells), part.becomes)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _words(tells: Tells) -> str:
    if tells == NOTHING:
        return "no word"
    if tells == UNKNOWN:
        return "every word, by what it tells"
    return in_words(tells).replace("other", "all-metadata only") if tells != Tells.OTHER else "all-metadata"
