"""The part of an event that the developers or users of one app may see (pure).

An app sees only its own requests, without facts that the policy hides from it, and without `seq`, `chain` and
`handle`, which reveal how many requests others make. INVARIANT: an app sees a denied request only if it may
see its paths for every kind and owner of a file there: otherwise the record would reveal that a hidden file
exists.
"""

from __future__ import annotations

from typing import Final, Protocol

from policyfs.trail.lines.event import ALLOW, DENY, Event

WITHHELD: Final = b"/"
"""The path in an event for an app that may not see the real path."""

_BY_NUMBER: Final = frozenset({"release", "read", "write"})
"""Operations on an open file. Perhaps the file was moved meanwhile to a path that the app may not see."""
_DIRECTORIES: Final = frozenset({"mkdir", "rmdir", "list"})
_OPENED: Final = frozenset({"open", "create", "read", "release"})


class Sight(Protocol):
    """The rights that an app had at the time of an event. What is no argument counts as unknown."""

    def sees(self, event: Event, path: bytes, *, directory: bool) -> bool:
        """Return True if the app may see this path, for every kind and owner of a file there."""

    def reads(self, event: Event, path: bytes, kind: str | None) -> bool:
        """Return True if the app may read a file of this kind at this path, for every owner of the file."""


def part_of(event: Event, app: str, sight: Sight) -> Event | None:
    """Return a copy of an event with only the facts that *app* may see, or None if it may see nothing."""
    if event.app != app:
        return None
    told = all(
        sight.sees(event, path, directory=event.operation in _DIRECTORIES)
        for path in (event.path, event.new_path)
        if path is not None
    )
    if not told and (event.decision == DENY or event.errno):
        return None
    if event.folded and event.decision == DENY:
        return None  # the counted events may include hidden names
    by_name = event.operation not in _BY_NUMBER
    knows = told or (by_name and not event.folded)
    opened = event.decision != DENY and event.operation in _OPENED
    content = opened and sight.reads(event, event.path, event.kind)
    return event._replace(
        decision=DENY if event.decision == DENY else ALLOW,
        path=event.path if knows else WITHHELD,
        new_path=event.new_path if knows else None,
        path_cut=event.path_cut if knows else None,
        new_path_cut=event.new_path_cut if knows else None,
        kind=event.kind if content and knows else None,
        note="",
        redacted=(), redacted_ranges=0, redacted_bytes=0,
        handle=None,
        size_before=event.size_before if knows else None,
        size_after=event.size_after if knows else None,
        mtime_before_ns=event.mtime_before_ns if knows else None,
        mtime_after_ns=event.mtime_after_ns if knows else None,
        would_deny=(), would_allow=(),
        policy_digest="", policy_generation=0,
    )  # fmt: skip
