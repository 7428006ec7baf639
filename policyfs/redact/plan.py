"""The only entry point for redaction plans: locate() returns the patches that hide parts of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.domain import DENY_UNKNOWN, REDACTIONS, TO_TELL, UNNAMED
from policyfs.redact.core.categories import Tells, hidden_by, in_words
from policyfs.redact.core.cleaners import Found, NotThisKindError, TooMuchError
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.patches import ByteSource, in_order
from policyfs.redact.core.values import MAX_FINDINGS, Outcome, Plan, RemovedPart
from policyfs.redact.registry import KindRow, Treatment, kind_rows, kind_table, locate_in, look_in
from policyfs.redact.verdict import judged

__all__ = [
    "FrameTable",
    "KindRow",
    "Outcome",
    "Plan",
    "RemovedPart",
    "Treatment",
    "kind_rows",
    "kind_table",
    "locate",
    "look_at",
]

_SPECIAL: Final = frozenset({DENY_UNKNOWN, TO_TELL, UNNAMED})


def locate(kind: str | None, what: frozenset[str], source: ByteSource, *, frames_later: bool = False) -> Plan:
    """Return the plan that hides data in a file.

    kind: the file's kind; None if it is unknown. what: the words (categories.WORDS) whose data the plan
    hides, and perhaps special members. DENY_UNKNOWN: the outcome is REFUSE if a part of the file is not
    understood. TO_TELL: the plan has no patches; its outcome is CLEAN if no data of the words was found
    (redact/verdict.py), else REFUSE. UNNAMED: the plan has no findings. frames_later: True if the caller
    searches the frames of a film later, with look_at(): then no byte of a frame is read, and the plan may
    have frames that were not searched (Plan.frames). Only movies (MP4, MOV) leave frames, and only without
    TO_TELL. Never raises: after any error the outcome is REFUSE.
    """
    words = what - _SPECIAL
    if TO_TELL in what:
        return _judge(kind, words, source, strict=DENY_UNKNOWN in what)
    return _locate(kind, words, source, asked=what, frames_later=frames_later)


def look_at(table: FrameTable, what: frozenset[str], source: ByteSource) -> Plan:
    """Return the plan that hides data in the frames of a table (Plan.frames, or a part of it).

    what: as for locate(). source: the file, or a window of it with the offsets of the table
    (FrameTable.shifted). It must have all bytes of these frames. Never raises: after any error the outcome is
    REFUSE.
    """
    words = what - _SPECIAL
    if not words or not words <= REDACTIONS:
        return _refuse("cannot hide " + listed(words - REDACTIONS))

    def look() -> Plan:
        hide = hidden_by(words)
        return _plan(look_in(table, source, hide), source, hide, what)

    return _guarded(look)


def _judge(kind: str | None, words: frozenset[str], source: ByteSource, *, strict: bool) -> Plan:
    found: list[Found] = []
    plan = _locate(kind, words, source, asked=frozenset((UNNAMED,)), found=found)
    if plan.outcome is Outcome.REFUSE:
        return _refuse(f"not understood: {plan.reason}")
    try:
        why = judged(found[0], source, hidden_by(words), strict=strict) if found else ""
    except Exception as exc:  # noqa: BLE001  # hostile bytes must cause no more than a refusal
        why = f"not understood: internal error: {type(exc).__name__}"
    return _refuse(why) if why else Plan(Outcome.CLEAN, reason=f"no data about {listed(words)} was found")


def listed(words: frozenset[str]) -> str:
    """Return the words in alphabetical order, separated by commas, for messages."""
    return ", ".join(sorted(words))


def _locate(
    kind: str | None, words: frozenset[str], source: ByteSource, *, asked: frozenset[str],
    found: list[Found] | None = None, frames_later: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan of the locator for this kind. asked: the words and the special members. found: receives
    the locator's result, if one ran."""
    if not words:
        return Plan(Outcome.CLEAN, reason="nothing is to be hidden")
    if not words <= REDACTIONS:
        return _refuse("cannot hide " + ", ".join(sorted(words - REDACTIONS)))
    if kind is None:
        return _refuse("the kind of the file is unknown")
    row = kind_table().get(kind)
    if row is None:
        return _refuse(f"policyfs does not know how to redact files of the kind {kind}")
    if row.treatment is Treatment.REFUSED:
        return _refuse(f"{kind}: {row.why}")
    if row.treatment is Treatment.NOTHING:
        return _nothing(row, source)

    def look() -> Plan:
        hide = hidden_by(words)
        located = locate_in(kind, source, hide, frames_later=frames_later)
        if found is not None:
            found.append(located)
        return _plan(located, source, hide, asked)

    return _guarded(look, f"its kind is {kind}, but ")


def _guarded(look: Callable[[], Plan], start: str = "") -> Plan:
    """Return the plan of a search, or a refusal after an error. start: of the reason for other bytes."""
    try:
        return look()
    except NotThisKindError as exc:
        return _refuse(f"{start}{exc}")
    except TooMuchError as exc:
        return _refuse(str(exc))
    except Exception as exc:  # noqa: BLE001  # hostile bytes must cause no more than a refusal
        return _refuse(f"internal error: {type(exc).__name__}")


def _refuse(reason: str) -> Plan:
    return Plan(Outcome.REFUSE, reason=reason)


def _nothing(row: KindRow, source: ByteSource) -> Plan:
    if source.size:
        return _refuse(f"its kind is {row.kind}, but it is not empty")
    return Plan(Outcome.CLEAN, reason=row.why)


def _plan(found: Found, source: ByteSource, hide: Tells, asked: frozenset[str]) -> Plan:
    patches = in_order(found.patches, source.size)
    if not patches and found.frames is None:
        return Plan(Outcome.CLEAN, reason=f"no part of it holds data about {in_words(hide)}")
    notes = sorted(found.notes, key=lambda note: note.offset)
    if DENY_UNKNOWN in asked and (odd := next((note for note in notes if note.broken), None)) is not None:
        where = f"{odd.container} at byte {odd.offset}"
        return _refuse(f"{where} is not understood; the rule denies such files (on_unknown: deny)")
    findings = tuple(
        RemovedPart(n.offset, n.length, n.container, n.tag, in_words(n.tells & hide), n.broken)
        for n in ([] if UNNAMED in asked else notes[:MAX_FINDINGS])
    )
    return Plan(Outcome.PATCH, patches, findings, f"{len(patches)} ranges changed", frames=found.frames)
