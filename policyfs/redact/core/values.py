"""Types of a redaction plan, without the locators that make plans.

The daemon uses plans but locates nothing. So it imports this module and not plan.py, which imports all
locators.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import Patch
from policyfs.redact.core.frame_table import FrameTable

MAX_FINDINGS: Final = 500
"""Maximum number of findings in a plan. Only content/plans.py limits the number of patches."""


class Outcome(enum.Enum):
    """The result of redaction: apps read the file as it is, patched, or not at all (Plan)."""

    CLEAN = "clean"
    PATCH = "patch"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class RemovedPart:
    """One removed part: its offset and length in the file (bytes), its format and its name.

    what: the categories of data that the part may have held and that must be hidden (``location, time``).
    broken: True if the part was removed as a whole because it was not understood.
    """

    offset: int
    length: int
    container: str
    tag: str
    what: str
    broken: bool = False


class PlanSize(NamedTuple):
    """The bytes in all patches of a plan, and about the memory that they take."""

    replaced_bytes: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one file.

    CLEAN: apps read the file as it is. PATCH: apps read the file with the patches applied. Patches are
    sorted, do not overlap and lie within the file. REFUSE: apps cannot read the file; *reason* says why. A
    reason may contain names of parts of the file (tags, XML elements), but no values.

    plan_size: the size of the patches. content/plans.py computes it when it unpacks a plan; other plans do
    not have it. So the event loop need not read all patches, which can be very many.

    frames: the frames of a film that were not searched; None if there are none. The patches cover everything
    else. Such a plan has the outcome PATCH, even if it has no patches: apps may read a byte of such a frame
    only after plan.look_at() has searched the frame.
    """

    outcome: Outcome
    patches: tuple[Patch, ...] = ()
    findings: tuple[RemovedPart, ...] = ()
    reason: str = ""
    plan_size: PlanSize = field(default=PlanSize(), compare=False)
    frames: FrameTable | None = None
