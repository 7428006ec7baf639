"""One event of the trail as a frozen value, and the words its fields may hold (pure).

docs/audit.md describes every field for the people who review a trail; `line` turns an
event into its JSON line, `query` turns the line back into an event.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

ALLOW: Final = "allow"
DENY: Final = "deny"
WOULD_DENY: Final = "would_deny"
"""Allowed, but a rule or a mount in monitor mode would have denied it."""

STRANGER: Final = "stranger"
"""The `app` of a uid that belongs to no app."""

Holder = str | int
"""The principal to whose budget an event counts: an app's name, or the uid of a stranger."""

DECISIONS: Final = (ALLOW, DENY, WOULD_DENY)


Operation = Literal[
    "access", "attr", "create", "getxattr", "link", "list", "listxattr", "lookup", "mkdir", "mknod", "open",
    "quarantine", "read", "readlink", "release", "rename", "rmdir", "stat", "symlink",
    "truncate", "unlink", "write", "xattr",
]  # fmt: skip
"""Name of a requested operation (Event.operation). mypy refuses other names in the file system."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

BY_DIRECTORY: Final = "directory"
BY_OPERATION: Final = "operation"
BY_APP: Final = "app"
"""Common properties of events that were counted together, see Event.folded."""


class Cut(NamedTuple):
    """The record of a path that is too long to be recorded whole.

    head, tail: how many bytes at the beginning, and at the end, of the recorded path are bytes of the real
    path; between them is a mark. size: length of the real path in bytes. sha256: its digest, in
    lower-case hex.
    """

    head: int
    tail: int
    size: int
    sha256: str


class Event(NamedTuple):
    """One decision, or the end of a handle, as it goes on record.

    time_ns: nanoseconds since 1970 UTC. mount: the mountpoint, as people know it.
    policy_generation: counts reloads of one mount, from 1. policy_digest: sha256 hex.
    app: the app's name or ``stranger``. exe: the caller's executable, empty if unknown.
    operation: ``open``, ``create``, ``mkdir``, ``release`` and so on. syscall: the most likely
    system call of the caller (``open(O_WRONLY|O_TRUNC)``). path, new_path: bytes from the
    mount's root, e.g. ``b"/DCIM/a.jpg"``; new_path where the request has two (rename, link).
    decision: one of DECISIONS. errno: the caller's result, 0 for success; an allowed request
    with an errno failed in the store. rules: ids of the rules that made the decision.
    would_deny, would_allow: ids of monitored rules that would have decided otherwise.
    io: ``passthrough``, ``mediated``, ... ; view: the label of the view. redacted: (offset,
    length) in bytes of each range that reads as neutral. handle: links an open to its release.
    bytes_read, bytes_written: bytes that went through the daemon, None where the kernel did the
    work. size_*: bytes, mtime_*: nanoseconds, at open and at release.

    repeats: 0 for a single event. n > 0: this event stands for n repeats of the denial that was recorded at
    since_ns. If folded is not empty, it stands for n events since then that are not recorded one by one: all
    of one ``directory`` (the path), of one ``operation`` in any directory, or of one ``app``. Fields in which
    these events differ are empty. path_cut, new_path_cut: set if a path was too long (`bounds`).
    redacted_ranges, redacted_bytes: of all ranges, where redacted lists only the first. rules_left_out:
    number of ids missing in the lists.

    A named tuple, not a dataclass, because one is made for every request: 1 µs instead of 5.
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
    folded: str = ""
    path_cut: Cut | None = None
    new_path_cut: Cut | None = None
    redacted_ranges: int = 0
    redacted_bytes: int = 0
    rules_left_out: int = 0

    @property
    def weight(self) -> int:
        """Return the number of requests that this event stands for (1, or the number of folded repeats)."""
        return self.repeats or 1


def holder_of(event: Event) -> Holder:
    """Return the principal to whose budget an event counts."""
    return event.app if event.app != STRANGER else event.uid
