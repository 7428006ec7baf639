"""A file as an app under redaction reads it."""

from __future__ import annotations

from typing import Final

import trio

from policyfs.content.whole_plans import whole_plan
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, locate, look_at

FILMS: Final = frozenset(
    {"video/mp4", "video/quicktime", "video/x-matroska", "video/webm", "video/x-msvideo"}
)


def redacted(kind: str, data: bytes, *words: str) -> bytes:
    """Return the bytes of a reader. Redacting them again finds nothing, and looking at the frames of a film
    later changes nothing. words: ``location`` if none."""
    hide = frozenset(words or ("location",))
    plan = locate(kind, hide, MemorySource(data))
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    out = apply(data, plan.patches)
    assert locate(kind, hide, MemorySource(out)).outcome is Outcome.CLEAN
    assert looked_at_later(kind, hide, data) == out
    return out


def redacted_if_served(kind: str, data: bytes, word: str = "location") -> bytes:
    """Return the bytes of a reader, as many as the file has; nothing if it is refused (not by a bug)."""
    hide = frozenset({word})
    plan = locate(kind, hide, MemorySource(data))
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        return b""
    out = apply(data, plan.patches)
    assert len(out) == len(data)
    again = locate(kind, hide, MemorySource(out))
    assert again.outcome is Outcome.CLEAN, (again.reason, again.findings)
    return out


def looked_at_later(kind: str, hide: frozenset[str], data: bytes) -> bytes | None:
    """Return the bytes of a film whose index is planned first, and whose frames are looked at then. Return
    None if it is refused."""
    source = MemorySource(data)
    index = locate(kind, hide, source, frames_later=True)
    if index.frames is not None:
        assert FrameTable.unpack(index.frames.pack()) == index.frames

    async def look(frames: FrameTable) -> Plan:
        return look_at(frames, hide, source)

    plan = index if index.frames is None else trio.run(whole_plan, index, look)
    return None if plan.outcome is Outcome.REFUSE else apply(data, plan.patches)
