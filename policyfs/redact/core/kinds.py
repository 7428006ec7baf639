"""Rows of the table of kinds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import KIND_EMPTY


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
