"""Values of a redaction plan, without the locators that make them.

The daemon handles plans and locates nothing, so it imports this and not plan.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import Patch

MAX_FINDINGS: Final = 500
"""Most findings listed in a plan. Patches have no such limit."""


class Outcome(enum.Enum):
    """Result of redaction for a reader."""

    CLEAN = "clean"
    PATCH = "patch"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Finding:
    """One removed thing: its place (bytes in the file), its container and its name.

    what: the categories to hide that it may have held (``location, time``). broken: removed whole
    because it could not be understood.
    """

    offset: int
    length: int
    container: str
    tag: str
    what: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one file.

    CLEAN: the file is read as it is. PATCH: it is read with the patches, which are sorted, do not
    overlap and lie within the file. REFUSE: it is not read; reason says why (never with text from the
    file).
    """

    outcome: Outcome
    patches: tuple[Patch, ...] = ()
    findings: tuple[Finding, ...] = ()
    reason: str = ""
