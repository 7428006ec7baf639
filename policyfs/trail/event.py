"""One event of the trail as a frozen value, and the words its fields may hold (pure).

docs/audit.md describes every field for the people who review a trail; `line` turns an
event into its JSON line, `query` turns the line back into an event.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ALLOW: Final = "allow"
DENY: Final = "deny"
WOULD_DENY: Final = "would_deny"
"""Allowed, but a rule or a mount in monitor mode would have denied it."""

DECISIONS: Final = (ALLOW, DENY, WOULD_DENY)


class Event(NamedTuple):
    """One decision, or the end of a handle, as it goes on record.

    time_ns: nanoseconds since 1970 UTC. mount: the mountpoint, as people know it.
    policy_generation: counts reloads of one mount, from 1. policy_digest: sha256 hex.
    app: the app's name or ``stranger``. exe: the caller's executable, empty if unknown.
    operation: ``open``, ``create``, ``mkdir``, ``release`` and so on; syscall: what the
    caller most likely called (``open(O_WRONLY|O_TRUNC)``). path, new_path: bytes from the
    mount's root, e.g. ``b"/DCIM/a.jpg"``; new_path where the request has two (rename, link).
    decision: one of DECISIONS. errno: what the caller got, 0 for success; an allowed request
    with an errno failed in the store. rules: ids of the rules that made the decision.
    would_deny, would_allow: ids of monitored rules that would have decided otherwise.
    io: ``passthrough``, ``mediated``, ... ; view: the label of the view. redacted: (offset,
    length) in bytes of what reads as neutral. handle: links an open to its release.
    bytes_read, bytes_written: what went through the daemon, None where the kernel did the
    work. size_*: bytes, mtime_*: nanoseconds, at open and at release. repeats: 0 for an event
    of its own; n > 0 says that this stands for n more of the denial recorded at since_ns.

    A named tuple rather than a dataclass, as one is made for every request: 1 µs against 5.
    """

    time_ns: int
    mount: str
    policy_generation: int
    policy_digest: str
    app: str
    uid: int
    gid: int
    pid: int
    exe: str
    operation: str
    syscall: str
    path: bytes
    decision: str
    errno: int = 0
    rules: tuple[str, ...] = ()
    new_path: bytes | None = None
    kind: str | None = None
    io: str = ""
    view: str = ""
    redacted: tuple[tuple[int, int], ...] = ()
    handle: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    size_before: int | None = None
    size_after: int | None = None
    mtime_before_ns: int | None = None
    mtime_after_ns: int | None = None
    would_deny: tuple[str, ...] = ()
    would_allow: tuple[str, ...] = ()
    note: str = ""
    repeats: int = 0
    since_ns: int | None = None

    @property
    def weight(self) -> int:
        """How many requests this event stands for (1, or the number of folded repeats)."""
        return self.repeats or 1
