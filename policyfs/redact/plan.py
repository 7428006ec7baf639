"""The one way in: what of a file must not be read, and what is read instead."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.jpeg import Found, NotJpegError, locate_jpeg
from policyfs.redact.markers import TooMuchError
from policyfs.redact.ranges import ByteSource
from policyfs.redact.table import (
    LOCATION,
    REDACTABLE,
    KindRow,
    Treatment,
    kind_rows,
    kind_table,
)

__all__ = [
    "DETECTOR_VERSION",
    "Finding",
    "KindRow",
    "Outcome",
    "Plan",
    "Treatment",
    "kind_rows",
    "kind_table",
    "locate",
]

DETECTOR_VERSION: Final = 1
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

    what: which of the things asked for it may tell (``location``).
    """

    offset: int
    length: int
    container: str
    tag: str
    what: str


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


def locate(kind: str | None, what: frozenset[str], source: ByteSource) -> Plan:
    """Plan how a file of this kind (None: unknown) is read with `what` hidden. Never raises.

    Fails closed: whatever goes wrong, the answer is REFUSE.
    """
    if not what:
        return Plan(Outcome.CLEAN, reason="nothing is to be hidden")
    if not what <= REDACTABLE:
        return _refuse("cannot hide " + ", ".join(sorted(what - REDACTABLE)))
    if kind is None:
        return _refuse("the kind of the file is unknown")
    row = kind_table().get(kind)
    if row is None:
        return _refuse(f"{kind} is not known to policyfs")
    if row.treatment is Treatment.REFUSED:
        return _refuse(f"{kind}: {row.why}")
    try:
        if row.treatment is Treatment.NOTHING:
            return _nothing(row, source)
        return _plan(locate_jpeg(source))
    except NotJpegError as exc:
        return _refuse(f"called {kind}, but {exc}")
    except TooMuchError as exc:
        return _refuse(str(exc))
    except Exception as exc:  # noqa: BLE001  # hostile bytes must never be more than a refusal
        return _refuse(f"internal error: {type(exc).__name__}")


def _refuse(reason: str) -> Plan:
    return Plan(Outcome.REFUSE, reason=reason)


def _nothing(row: KindRow, source: ByteSource) -> Plan:
    if source.size:
        return _refuse(f"called {row.kind}, but it is not empty")
    return Plan(Outcome.CLEAN, reason=row.why)


def _plan(found: Found) -> Plan:
    if not found.patches:
        return Plan(Outcome.CLEAN, reason="nothing in it may tell a place")
    findings = tuple(
        Finding(note.offset, note.length, note.container, note.tag, LOCATION)
        for note in found.notes[:MAX_FINDINGS]
    )
    return Plan(Outcome.PATCH, found.patches, findings, f"{len(found.patches)} ranges changed")
