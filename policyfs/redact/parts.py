"""Tables for the documentation: kinds and their treatment; parts of files and the words that remove them."""

from __future__ import annotations

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells, in_words
from policyfs.redact.registry import kind_rows, parts


def kinds_as_markdown() -> str:
    """Return the table of kinds in docs/redaction.md as Markdown, in the order of kind_rows()."""
    lines = ["", "| kind | under `redact: [location]` | why |", "|---|---|---|"]
    lines += [f"| `{row.kind}` | {row.treatment.value} | {row.why} |" for row in kind_rows()]
    return "\n".join(lines) + "\n"


def as_markdown() -> str:
    """Return the table of parts in docs/redaction-parts.md as Markdown, in the order of parts()."""
    lines = ["", "| files | part | contains | removed under | an app reads |", "|---|---|---|---|---|"]
    for part in parts():
        cells = (part.kinds, part.where, part.holds, _words(part.tells), part.becomes)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _words(tells: Tells) -> str:
    if tells == NOTHING:
        return "no word"
    if tells == UNKNOWN:
        return "by content"
    return in_words(tells).replace("other", "all-metadata only") if tells != Tells.OTHER else "all-metadata"
