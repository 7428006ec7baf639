"""What a redaction plan is made of: values, without the locators that make them.

The daemon handles plans and locates nothing, so it imports this and not plan.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import Patch

DETECTOR_VERSION: Final = 15
"""Raised whenever a file could get another plan than before: cached plans are then void."""

MAX_FINDINGS: Final = 500
"""Findings that a plan names; patches are never cut short."""


class Outcome(enum.Enum):
    """What a reader under redaction may get."""

    CLEAN = "clean"
    PATCH = "patch"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing taken out: where it was (bytes in the file), in what, under what name.

    what: which of the things asked for it may tell (``location, time``). broken: it was taken out
    whole because it could not be understood.
    """

    offset: int
    length: int
    container: str
    tag: str
    what: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer for one file.

    CLEAN: it reads as it is. PATCH: with the patches, which are sorted, do not overlap and lie
    within the file. REFUSE: not at all; reason says why (never from the file's own words).
    """

    outcome: Outcome
    patches: tuple[Patch, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
