"""What the parts of each kind of file hold, and under which words they go: docs/redaction-parts.md."""

from __future__ import annotations

from typing import Final

from policyfs.redact.audio import amr, flac, mp3, ogg
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells, in_words
from policyfs.redact.core.kinds import Part
from policyfs.redact.documents import sidecars
from policyfs.redact.heif import heif
from policyfs.redact.images import bmp, gif, jxl, png, webp
from policyfs.redact.isobmff import mp4
from policyfs.redact.jpeg import jpeg
from policyfs.redact.jpeg2000 import jp2
from policyfs.redact.matroska import matroska
from policyfs.redact.pdf import pdf
from policyfs.redact.raw import cr3, raf, tiff
from policyfs.redact.riff import aiff, avi, wav

_TABLES: Final = (
    jpeg, tiff, raf, cr3, heif, jxl, jp2, png, webp, gif, bmp,
    mp4, matroska, avi, mp3, flac, ogg, wav, aiff, amr, pdf, sidecars,
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
