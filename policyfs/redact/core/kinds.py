"""Types for two tables of the documentation: the kinds of files, and the parts of files."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import KIND_EMPTY
from policyfs.redact.core.categories import Tells


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


@dataclass(frozen=True, slots=True)
class Part:
    """Row of the table in docs/redaction-parts.md: a part of a file, and its data.

    kinds: the formats that have the part ("PNG"). where: the part's name in its standard. holds: a
    description of its data. tells: the categories of its data; a word that hides one of these categories
    removes the part. becomes: a description of the bytes that replace the part.
    """

    kinds: str
    where: str
    holds: str
    tells: Tells
    becomes: str


NOTHING_IN: Final = KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide")
