"""One event of the trail as a frozen value, and the possible values of its fields (pure). docs/audit.md
describes them. `line` makes the JSON line of an event, and `record` parses it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

ALLOW: Final = "allow"
DENY: Final = "deny"
WOULD_DENY: Final = "would_deny"
"""Event.decision of an allowed request that a rule would have denied if the rule were not in monitor mode."""

STRANGER: Final = "stranger"
"""Event.app of a request by a uid that belongs to no app."""

Holder = str | int
"""The principal of an event, who has a limit of trail bytes: an app's name, or a stranger's uid."""

DECISIONS: Final = (ALLOW, DENY, WOULD_DENY)


Operation = Literal[
    "access", "attr", "create", "getxattr", "link", "list", "listxattr", "lookup", "mkdir", "mknod", "open",
    "quarantine", "read", "readlink", "release", "rename", "rmdir", "stat", "symlink",
    "truncate", "unlink", "write", "xattr",
]  # fmt: skip
"""The name of a requested operation (Event.operation). mypy refuses other names in the file system."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

BY_DIRECTORY: Final = "directory"
BY_OPERATION: Final = "operation"
BY_RULE: Final = "rule"
BY_APP: Final = "app"
"""Values of Event.folded: the common property of the events that one line counts together."""


class Cut(NamedTuple):
    """A path that is too long to be recorded whole: the lengths in bytes of its recorded beginning and end,
    and of itself, and its SHA-256 (hex)."""

    head: int
    tail: int
    size: int
    sha256: str


class Event(NamedTuple):
    """One decision, or the last close of an open file, as it is recorded in the trail.

    mount: the mountpoint, with ``\\xff`` for a byte that is not UTF-8. policy_generation: the number of
    policy loads of the mount, from 1. policy_digest: sha256 hex. app: its name or ``stranger``. uid, gid: -1
    if not known, or if the events differ. exe: the caller's executable, empty if unknown. syscall: the most
    likely system call (``open(O_WRONLY|O_TRUNC)``). path, new_path: bytes from the mount's root, e.g.
    ``b"/DCIM/a.jpg"``; new_path for rename and link.
    decision: one of DECISIONS. errno: of a denial; 0 if allowed, also if the store refuses it. rules: ids
    of the rules that decided. would_deny, would_allow: of monitored rules that would have decided
    otherwise. io: ``passthrough``, ``mediated``, ... view: a label. redacted:
    (offset, length) in bytes of each range of neutral bytes. handle: links an open to its release. bytes_*:
    through the daemon; None if the kernel read and wrote. size_*: bytes, mtime_*: ns, at open and at release.

    repeats: 0 for a single event; n without folded: n repeats of the denial recorded at since_ns; n with
    folded: n events from since_ns on, counted together: in one ``directory`` (the path), of one
    ``operation``, by the same rules (``rule``), or of one ``app``. Fields in which they differ are empty.
    path_cut, new_path_cut: of a path that was too long (`bounds`). redacted_ranges, redacted_bytes: of all
    ranges, if redacted lists only the first. rules_left_out: the number of missing ids.

    A named tuple, not a dataclass, because each request makes an event: 1 µs instead of 5.
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
        """Return the number of requests that this event stands for: 1, or the number of repeats."""
        return self.repeats or 1


def holder_of(event: Event) -> Holder:
    """Return the principal of an event: the app's name, or the uid of a stranger."""
    return event.app if event.app != STRANGER else event.uid
