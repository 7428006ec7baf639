"""Locators and the table of kinds, from the rows of formats.py; cleaners of embedded files.

The table fails closed: a kind that is not in the table is refused. docs/redaction.md shows the table, and a
test compares the two.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final

from policyfs.domain import KIND_EMPTY
from policyfs.formats import FORMATS, WITHOUT_LOCATOR, Format, Use, starts_for
from policyfs.redact.bitstreams.frame_table import FrameTable, look
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
from policyfs.redact.core.patches import ByteSource, MemorySource, apply
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.tags.iptc import clean_iim, clean_irb
from policyfs.redact.xmp.packet import clean_xmp


class Treatment(enum.Enum):
    """The treatment of a kind of file by redaction: files pass unchanged, are redacted, or are refused."""

    NOTHING = "carries nothing"
    LOCATOR = "redacted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KindRow:
    """A row of the table of kinds: a kind of file, its treatment by redaction, and the reason."""

    kind: str
    treatment: Treatment
    why: str


NOTHING_IN: Final = KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide")


def _locator(one: Format) -> Locator:
    module, _, function = one.locator.partition(":")
    locator: Locator = getattr(import_module(f"policyfs.redact.{module}"), function)
    return locator


LOCATORS: Final[Mapping[str, Locator]] = MappingProxyType(
    {kind: locator for one in FORMATS for locator in [_locator(one)] for kind in one.kinds}
)
"""Content kind with the treatment "redacted" -> its locator."""
_PICTURES: Final = starts_for(Use.PICTURE)


def kind_rows() -> tuple[KindRow, ...]:
    """Return the rows of the table of kinds, in the order of the documentation.

    A row says that files of a kind carry nothing (empty files), are redacted, or are refused. Kinds without a
    row are refused.
    """
    located = (KindRow(kind, Treatment.LOCATOR, why) for one in FORMATS for kind, why in one.kinds.items())
    refused = (KindRow(kind, Treatment.REFUSED, why) for kind, why in WITHOUT_LOCATOR.items())
    return (NOTHING_IN, *located, *refused)


@functools.cache
def kind_table() -> Mapping[str, KindRow]:
    """Return a dictionary from a kind to its row in the table of kinds. A kind without a row is refused."""
    return MappingProxyType({row.kind: row for row in kind_rows()})


def locate_in(kind: str, source: ByteSource, hide: Tells, *, frames_later: bool = False) -> Found:
    """Locate the parts to hide in a file of a kind that has a locator.

    frames_later: True if the search of a film's frames may be left to the caller (Found.frames). Raises
    NotThisKindError, TooMuchError; KeyError for a kind without a locator.
    """
    cleaners = _Cleaners(hide, budget_for(source), MAX_NESTING, frames_later=frames_later)
    return LOCATORS[kind](source, cleaners)


def look_in(table: FrameTable, source: ByteSource, hide: Tells) -> Found:
    """Locate the parts to hide in frames of a film. Raises NotThisKindError, TooMuchError."""
    return look(table, source, _Cleaners(hide, budget_for(source), MAX_NESTING))


class _Cleaners:
    __slots__ = ("_depth", "budget", "frames_later", "hide")

    def __init__(self, hide: Tells, budget: Budget, depth: int, *, frames_later: bool = False) -> None:
        self.hide = hide
        self.frames_later = frames_later
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
        if self.hide & Tells.PEOPLE or not self.budget.look(len(data)):
            return True
        return bool(told_in(data, self.hide))

    def _whole(self, kind: str, data: bytes) -> Cleaned | None:
        found = self.file(kind, MemorySource(data))
        return None if found is None else Cleaned(apply(data, found.patches), tuple(found.notes))
