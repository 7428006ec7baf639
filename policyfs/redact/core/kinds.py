"""Rows of the table of kinds, and of the table of parts."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import KIND_EMPTY
from policyfs.redact.core.categories import Tells


class Treatment(enum.Enum):
    """Treatment of a kind of file by redaction."""

    NOTHING = "carries nothing"
    LOCATOR = "redacted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KindRow:
    """Row of the table of kinds: a kind, its treatment, and the reason."""

    kind: str
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Part:
    """Row of the table in docs/redaction-parts.md: a part of a file, and its data.

    kinds: the formats that have the part ("PNG"). where: the part's name in its standard. holds: its data,
    for people. tells: the categories of its data; a word that hides one of them removes the part. becomes:
    the bytes that replace the part, for people.
    """

    kinds: str
    where: str
    holds: str
    tells: Tells
    becomes: str


NOTHING_IN: Final = KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide")
