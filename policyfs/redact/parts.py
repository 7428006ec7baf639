"""What the parts of each kind of file hold, and under which words they go: docs/redaction-parts.md."""

from __future__ import annotations

from typing import Final

from policyfs.redact import (
    aiff,
    amr,
    avi,
    bmp,
    cr3,
    flac,
    gif,
    heif,
    isomedia,
    jp2,
    jpeg,
    jxl,
    matroska,
    mp3,
    ogg,
    pdf,
    png,
    raf,
    textfiles,
    tifffile,
    wav,
    webp,
)
from policyfs.redact.table import Part
from policyfs.redact.tells import NOTHING, UNKNOWN, Tells, in_words

_TABLES: Final = (
    jpeg, tifffile, raf, cr3, heif, jxl, jp2, png, webp, gif, bmp,
    isomedia, matroska, avi, mp3, flac, ogg, wav, aiff, amr, pdf, textfiles,
)  # fmt: skip


def parts() -> tuple[Part, ...]:
    """Every part of every kind, photos first."""
    return tuple(part for module in _TABLES for part in module.PARTS)


def as_markdown() -> str:
    """The table of the documentation, in the order of parts()."""
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
