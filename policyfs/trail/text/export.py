"""Events for other programs: rows of CSV, and class 1001 (File System Activity) of OCSF, the Open
Cybersecurity Schema Framework (pure)."""

from __future__ import annotations

import re
from typing import Final

from policyfs.errors import errno_name
from policyfs.trail.lines.event import DENY, Event
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import Fields
from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.query.terms import hidden_of
from policyfs.trail.text.cause import Lookup, grounds, nothing_known

OCSF_VERSION: Final = "1.3.0"
_CLASS: Final = 1001
_OTHER: Final = 99

_ACTIVITIES: Final = {
    "create": (1, "Create"), "mkdir": (1, "Create"), "mknod": (1, "Create"), "symlink": (1, "Create"),
    "link": (1, "Create"), "read": (2, "Read"), "readlink": (2, "Read"), "list": (2, "Read"),
    "write": (3, "Update"), "truncate": (3, "Update"), "unlink": (4, "Delete"), "rmdir": (4, "Delete"),
    "rename": (5, "Rename"), "attr": (6, "Set Attributes"), "xattr": (6, "Set Attributes"),
    "stat": (8, "Get Attributes"), "getxattr": (8, "Get Attributes"), "lookup": (8, "Get Attributes"),
    "access": (8, "Get Attributes"), "open": (14, "Open"),
}  # fmt: skip
_DIRECTORIES: Final = frozenset({"mkdir", "rmdir", "list"})
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


def ocsf(
    event: Event, record_id: str, product_version: str, lookup: Lookup = nothing_known, hostname: str = ""
) -> Fields:
    """Return an event as JSON of OCSF, class File System Activity, profile ``security_control``. hostname: of
    the device; empty: unknown."""
    activity, name = _ACTIVITIES.get(event.operation, (_OTHER, "Other"))
    denied = event.decision == DENY
    failed = denied or bool(event.errno)
    why = " ".join(grounds(event, lookup) + ([event.note] if event.note else []))
    fields: Fields = {
        "category_uid": 1, "category_name": "System Activity",
        "class_uid": _CLASS, "class_name": "File System Activity",
        "activity_id": activity, "activity_name": event.operation if activity == _OTHER else name,
        "type_uid": _CLASS * 100 + activity, "type_name": f"File System Activity: {name}",
        "time": event.time_ns // 1_000_000,
        "severity_id": 2 if denied else 1, "severity": "Low" if denied else "Informational",
        "status_id": 2 if failed else 1, "status": "Failure" if failed else "Success",
        "action_id": 2 if denied else 1, "action": "Denied" if denied else "Allowed",
        "disposition_id": 2 if denied else 1, "disposition": "Blocked" if denied else "Allowed",
        "count": event.weight,
        "metadata": {
            "version": OCSF_VERSION, "profiles": ["security_control"], "uid": record_id,
            "original_time": iso_time(event.time_ns),
            "product": {"name": "policyfs", "vendor_name": "policyfs", "version": product_version},
        },
        "actor": {"app_name": event.app, "process": _process(event), "user": _user(event)},
        "device": {"type_id": 0, "type": "Unknown", **({"hostname": hostname} if hostname else {})},
        "file": _file(event, event.path),
        "unmapped": {"operation": event.operation, "syscall": event.syscall, "decision": event.decision,
                     "rules": list(event.rules), "view": event.view, "io": event.io, "mount": event.mount,
                     "policy": {"uid": event.policy_digest, "version": str(event.policy_generation)}},
    }  # fmt: skip
    if event.errno:
        fields["status_code"] = errno_name(event.errno)
    if why:
        fields["status_detail"] = shown(why)
    if event.new_path is not None:
        fields["file_result"] = _file(event, event.new_path)
    if event.rules:
        fields["authorizations"] = [
            {"decision": event.decision, "policy": {"uid": rule}} for rule in event.rules
        ]
    return fields


def _process(event: Event) -> Fields:
    process: Fields = {"pid": event.pid, "user": _user(event)}
    if event.exe:
        process["name"] = shown(event.exe.rpartition("/")[2])
        process["file"] = {
            "name": shown(event.exe.rpartition("/")[2]),
            "path": shown(event.exe),
            "type_id": 1,
        }
    return process


def _user(event: Event) -> Fields:
    return {"uid": str(event.uid), "name": event.app} if event.uid >= 0 else {"name": event.app}


def _file(event: Event, path: bytes) -> Fields:
    text = shown_path(path)
    kind = 2 if event.operation in _DIRECTORIES else 0 if event.kind is None else 1
    fields: Fields = {"path": text, "name": text.rpartition("/")[2] or "/", "type_id": kind}
    if event.kind is not None:
        fields["mime_type"] = shown(event.kind)
    size = event.size_before if event.size_after is None else event.size_after
    if size is not None:
        fields["size"] = size
    return fields
