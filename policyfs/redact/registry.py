"""All formats in one list; the locators, the table of kinds, the parts and the cleaners come from it.

The table fails closed: a kind that is not in it is refused. docs/redaction.md shows it, and a test
compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.audio import amr, flac, mp3, ogg
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import (
    MAX_NESTING,
    Budget,
    Cleaned,
    Found,
    Locator,
    NotThisKindError,
    budget_for,
)
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.kinds import NOTHING_IN, Format, KindRow, Part, Treatment, refused_rows
from policyfs.redact.core.patches import ByteSource, MemorySource, apply
from policyfs.redact.documents import sidecars
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.heif import heif
from policyfs.redact.images import bmp, gif, jxl, png, webp
from policyfs.redact.isobmff import mp4
from policyfs.redact.jpeg import jpeg
from policyfs.redact.jpeg2000 import jp2
from policyfs.redact.matroska import matroska
from policyfs.redact.pdf import pdf
from policyfs.redact.raw import cr3, raf, tiff
from policyfs.redact.riff import aiff, avi, wav
from policyfs.redact.tags.iptc import clean_iim, clean_irb
from policyfs.redact.xmp.packet import clean_xmp

_MODULES: Final = (
    jpeg, tiff, raf, cr3, heif, jxl, jp2, png, webp, gif, bmp,
    mp4, matroska, avi, mp3, flac, ogg, wav, aiff, amr, pdf, sidecars,
)  # fmt: skip
FORMATS: Final[tuple[Format, ...]] = tuple(one for module in _MODULES for one in module.FORMATS)
"""Every format that is redacted, photos first. All lists of formats and kinds are made from this one."""
LOCATORS: Final[Mapping[str, Locator]] = MappingProxyType(
    {kind: one.locate for one in FORMATS for kind in one.kinds}
)
"""Content kind -> its locator; exactly the kinds with the treatment "redacted" in the table."""
_PICTURES: Final = tuple(start for one in FORMATS for start in one.pictures)


def parts() -> tuple[Part, ...]:
    """Return every part of every format, photos first."""
    return tuple(part for one in FORMATS for part in one.parts)


def kind_rows() -> tuple[KindRow, ...]:
    """Return the table of kinds, row by row, as the documentation shows it.

    A kind may be read raw under redaction, redacted, or refused. All other kinds are refused.
    """
    located = (KindRow(kind, Treatment.LOCATOR, why) for one in FORMATS for kind, why in one.kinds.items())
    return (NOTHING_IN, *located, *refused_rows())


@functools.cache
def kind_table() -> Mapping[str, KindRow]:
    """Return the table by kind. A kind that is not in it is refused."""
    return MappingProxyType({row.kind: row for row in kind_rows()})


def locate_in(kind: str, source: ByteSource, hide: Tells) -> Found:
    """Locate the parts to hide in a file of a kind that has a locator.

    Raises NotThisKindError, TooMuchError; KeyError for a kind without a locator.
    """
    return LOCATORS[kind](source, _Cleaners(hide, budget_for(source), MAX_NESTING))


class _Cleaners:
    """cleaners.Inner for a file that may embed others, to a limited depth."""

    __slots__ = ("_depth", "budget", "hide")

    def __init__(self, hide: Tells, budget: Budget, depth: int) -> None:
        self.hide = hide
        self.budget = budget
        self._depth = depth

    def jpeg(self, data: bytes) -> Cleaned | None:
        return self._whole("image/jpeg", data)

    def tiff(self, data: bytes) -> Cleaned | None:
        return clean_tiff(data, self)

    def xmp(self, data: bytes) -> Cleaned:
        return clean_xmp(data, self)

    def iim(self, data: bytes) -> Cleaned:
        return clean_iim(data, self)

    def irb(self, data: bytes) -> Cleaned | None:
        return clean_irb(data, self)

    def image(self, data: bytes) -> Cleaned | None:
        for kind, offset, start in _PICTURES:
            if data.startswith(start, offset):
                return self._whole(kind, data)
        return None

    def file(self, kind: str, source: ByteSource) -> Found | None:
        locator = LOCATORS.get(kind)
        if locator is None or self._depth <= 0:
            return None
        try:
            return locator(source, _Cleaners(self.hide, self.budget, self._depth - 1))
        except NotThisKindError:
            return None

    def text(self, data: bytes) -> bool:
        return bool(self.hide & Tells.PEOPLE) or bool(told_in(data, self.hide))

    def _whole(self, kind: str, data: bytes) -> Cleaned | None:
        found = self.file(kind, MemorySource(data))
        return None if found is None else Cleaned(apply(data, found.patches), tuple(found.notes))
