"""Rows of the table of kinds, and of the table of parts."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import KIND_EMPTY
from policyfs.redact.core.categories import Tells


class Treatment(enum.Enum):
    """Treatment of files of a kind by redaction."""

    NOTHING = "carries nothing"
    LOCATOR = "redacted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind, its treatment, and the reason."""

    kind: str
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Part:
    """One row of the table in docs/redaction-parts.md: a part of a file, and its data.

    kinds: the files it is about ("PNG"). where: the part, by the name in its standard. holds: the data
    in it, for people. tells: its categories, whose words remove it. becomes: the bytes that replace it.
    """

    kinds: str
    where: str
    holds: str
    tells: Tells
    becomes: str


NOTHING_IN: Final = KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide")
