"""Events for other programs: rows of CSV (pure)."""

from __future__ import annotations

import re
from typing import Final

from policyfs.errors import errno_name
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.query.terms import hidden_of

_FORMULA: Final = re.compile(r"""(^|;)(?=[\s"']*[=+\-@])|^(?=[\t\r])""")
"""The places before texts that a spreadsheet computes; some also split quoted texts at semicolons."""

CSV_HEAD: Final = (
    "id", "time", "mount", "app", "uid", "gid", "pid", "exe", "operation", "syscall", "path", "new_path",
    "decision", "errno", "rules", "kind", "io", "view", "hidden_bytes", "bytes_read", "bytes_written",
    "size_before", "size_after", "repeats", "folded", "since", "would_deny", "would_allow", "handle", "note",
    "generation", "policy",
)  # fmt: skip


def csv_row(event: Event, record_id: str) -> list[str]:
    """Return the cells of an event. A text that a spreadsheet would compute, such as ``=1+1``, begins with an
    apostrophe."""
    new = event.new_path
    values: tuple[object, ...] = (
        record_id, iso_time(event.time_ns), shown(event.mount), shown(event.app), _id(event.uid),
        _id(event.gid), event.pid, shown(event.exe), shown(event.operation), shown(event.syscall),
        shown_path(event.path),
        None if new is None else shown_path(new), shown(event.decision),
        errno_name(event.errno) if event.errno else None, shown(" ".join(event.rules)),
        None if event.kind is None else shown(event.kind), shown(event.io), shown(event.view),
        hidden_of(event), event.bytes_read, event.bytes_written, event.size_before, event.size_after,
        event.repeats or None, event.folded, None if event.since_ns is None else iso_time(event.since_ns),
        shown(" ".join(event.would_deny)), shown(" ".join(event.would_allow)), event.handle,
        shown(event.note), event.policy_generation, event.policy_digest,
    )  # fmt: skip
    return [_cell(value) for value in values]


def _id(number: int) -> int | None:
    return None if number < 0 else number


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return _FORMULA.sub(r"\1'", value)
