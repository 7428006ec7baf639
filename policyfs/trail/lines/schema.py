"""The JSON Schema of the lines of a trail, generated from Event and RECORDS (pure). A new field or type
raises the second number of VERSION, any other change the first."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Final

from policyfs.trail.lines.event import (
    BY_APP,
    BY_DIRECTORY,
    BY_OPERATION,
    BY_RULE,
    DECISIONS,
    OPERATIONS,
    Cut,
    Event,
)

VERSION: Final = "2.0"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_LOWEST: Final = -(1 << 63)

Schema = dict[str, object]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": _LOWEST}
_ID: Final[Schema] = {"anyOf": [_NUMBER, {"const": None}]}
_TRUTH: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$"}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_RANGES: Final[Schema] = {"type": "array", "items": {"type": "array", "items": _COUNT, "minItems": 2}}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_BASE64: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9+/]+=*$"}
_ANY: Final[Schema] = {"type": "object"}
_COUNTS: Final[Schema] = {"type": "object", "additionalProperties": _COUNT}

_RENAMED: Final = {
    "time_ns": "time", "since_ns": "since", "policy_generation": "generation", "policy_digest": "policy",
}  # fmt: skip
"""Dictionary from the name of a field in Event to its name in a line, if these two names differ."""
_BY_NAME: Final[Mapping[str, Schema]] = {
    "time": _TIME, "since": _TIME, "policy": _TEXT, "uid": _ID, "gid": _ID, "pid": _NUMBER,
    "errno": {"type": "string", "pattern": "^([A-Z0-9]+|errno [0-9]+)$"},
    "operation": {"enum": [*OPERATIONS, ""]}, "decision": {"enum": list(DECISIONS)},
    "folded": {"enum": [BY_DIRECTORY, BY_OPERATION, BY_RULE, BY_APP]},
    "redacted": {"type": "array", "items": {"type": "array", "items": _COUNT, "minItems": 2}},
    "mtime_before_ns": _NUMBER, "mtime_after_ns": _NUMBER,
}  # fmt: skip
"""Dictionary from the name of a field to its schema, for fields whose type in Event is not exact enough."""

_AUTHOR: Final[Mapping[str, Schema]] = {
    "cause": {"enum": ["signal", "command", "outside", "error", "watch", "exception"]}, "how": _TEXT,
    "pid": _NUMBER, "uid": _NUMBER, "exe": _TEXT, "login": _NUMBER,
}  # fmt: skip
_ORIGIN: Final[Mapping[str, Schema]] = {
    "mount_id": _TEXT, "boot_id": _TEXT, "version": _TEXT, "pid": _COUNT,
}  # fmt: skip
_MOUNT: Final[Mapping[str, Schema]] = {
    "options": _ANY, "policy": _DIGEST, "name": _TEXT, "exceptions": _ANY, **_AUTHOR,
}  # fmt: skip
_SEAL: Final[Mapping[str, Schema]] = {
    "segment": _TEXT, "last_seq": _COUNT, "root": _DIGEST, "key": _TEXT, "seal": _DIGEST,
}  # fmt: skip

RECORDS: Final[Mapping[str, tuple[tuple[str, ...], Mapping[str, Schema]]]] = {
    "header": (
        ("format", "segment", "previous", *_ORIGIN),
        {"format": {"const": 1}, "segment": _COUNT, "previous": _DIGEST, "removed": _RANGES, **_ORIGIN},
    ),
    "resume": ((*_ORIGIN,), {**_ORIGIN, "upgrades": _TRUTH}),
    "mount": (("policy",), {**_MOUNT, "takeovers": _COUNT, "eio": _COUNT, "upgraded_from": _TEXT}),
    "failed": (("reason",), {"reason": _TEXT, **_MOUNT}),
    "policy": (
        ("result", "policy"),
        {
            "result": {"enum": ["in force", "refused"]}, "policy": _DIGEST, "previous": _DIGEST,
            "name": _TEXT, "generation": _COUNT, "refused": _DIGEST, "reason": _TEXT,
            "exceptions": _ANY, **_AUTHOR,
        },
    ),
    "quarantine": (
        ("done", "id"),
        {
            "done": {"enum": ["release", "drop"]}, "id": _TEXT, "app": _TEXT, "path": _TEXT,
            "path_b64": _BASE64, "mount": _TEXT, "store": _TEXT, "kind": _TEXT, "size": _COUNT,
            "sha256": _TEXT, "to": _TEXT, **_AUTHOR,
        },
    ),
    "brake": (
        ("done", "app", "rule"),
        {
            "done": {"enum": ["on", "release"]}, "app": _TEXT, "rule": _TEXT, "path": _TEXT,
            "changes": _COUNT, "within_s": _COUNT, **_AUTHOR,
        },
    ),
    "undo": (
        ("done", "store"),
        {
            "done": {"enum": ["undo", "restore", "drop"]}, "store": _TEXT, "app": _TEXT, "since": _TEXT,
            "until": _TEXT, "path": _TEXT, "steps": _COUNTS, "left": _COUNT, **_AUTHOR,
        },
    ),
    "owners": (
        ("done", "store"),
        {"done": {"enum": ["set", "import"]}, "store": _TEXT, **_AUTHOR},
    ),
    "proof": (
        ("result",),
        {
            "result": {"enum": ["held", "failed"]}, "reason": _TEXT, "canaries": _ANY,
            "callers": {"type": "array"}, "callers_left_out": _COUNT,
            "took_ms": {"type": "number"}, **_AUTHOR,
        },
    ),
    "stale_handles": (
        ("policy", "count", "apps", "files"),
        {
            "policy": _DIGEST, "generation": _COUNT, "count": _COUNT, "apps": _COUNTS,
            "files": {"type": "array"},
        },
    ),
    "detached": ((), _AUTHOR),
    "close": ((), _AUTHOR),
    "others": (("chains",), {"chains": _ANY, "part": _COUNT, "parts": _COUNT}),
    "gap": (
        ("dropped", "refused", "reason"),
        {
            "dropped": _COUNT, "refused": _COUNT, "reason": _TEXT, "first": _TIME, "last": _TIME,
            "unsure_after": _COUNT, "requests": {"type": "array"},
        },
    ),
    "recovered": (
        ("segment", "offset", "bytes", "sha256"),
        {"segment": _TEXT, "offset": _COUNT, "bytes": _COUNT, "sha256": _DIGEST},
    ),
    "damage": (("segment", "found"), {"segment": _TEXT, "found": _TEXT}),
    "pruned": (("segments",), {"segments": _TEXTS, "reason": _TEXT, "removed": _RANGES}),
    "sealed": ((*_SEAL,), _SEAL),
    "hold": (
        ("name", "done"),
        {
            "name": _TEXT, "done": {"enum": ["add", "remove"]}, "since": _TEXT, "until": _TEXT, "why": _TEXT,
            **_AUTHOR,
        },
    ),
    "clock": (("before", "seconds"), {"before": _TIME, "seconds": {"type": "number"}}),
    "killed": (
        ("pid", "uid", "exe", "reason", "blocked_s"),
        {
            "pid": _COUNT, "uid": _COUNT, "exe": _TEXT, "reason": _TEXT,
            "blocked_s": {"type": "number", "minimum": 0},
        },
    ),
    "worker": (("lost", "reason"), {"lost": _COUNTS, "reason": _TEXT}),
}  # fmt: skip
"""The journal's own records, by type: the names of the required fields, and the schemas of all fields."""

_HEAD: Final[Mapping[str, Schema]] = {"seq": {"type": "integer", "minimum": 1}, "time": _TIME}


def line_schema() -> Schema:
    """Return the JSON Schema of one line of the trail."""
    definitions = {"event": _event(), "cut": _cut()}
    for kind, (required, fields) in RECORDS.items():
        definitions[kind] = _object(kind, {**fields}, required)
    return {
        "$schema": DIALECT,
        "$id": f"urn:policyfs:trail:{VERSION}",
        "title": f"policyfs trail line {VERSION}",
        "anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in ("event", *RECORDS)],
        "$defs": definitions,
    }


def _object(kind: str, fields: Mapping[str, Schema], required: tuple[str, ...]) -> Schema:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **_HEAD, **fields, "chain": _DIGEST},
        "required": ["type", *_HEAD, *required, "chain"],
        "additionalProperties": False,
    }


def _event() -> Schema:
    fields: dict[str, Schema] = {}
    required = []
    hints = typing.get_type_hints(Event)
    for name, hint in hints.items():
        shown = _RENAMED.get(name, name)
        fields[shown] = _BY_NAME.get(shown) or _of_hint(hint)
        if name in {"path", "new_path"}:
            fields[f"{name}_b64"] = _BASE64
        if name not in Event._field_defaults or name == "rules":
            required.append(shown)
    return _object("event", fields, tuple(name for name in required if name != "time"))


def _cut() -> Schema:
    fields = {
        "bytes" if name == "size" else name: _of_hint(hint)
        for name, hint in typing.get_type_hints(Cut).items()
    }
    return {
        "type": "object", "properties": fields, "required": list(fields), "additionalProperties": False,
    }  # fmt: skip


def _of_hint(hint: object) -> Schema:
    if isinstance(hint, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not types.NoneType)
    if hint is Cut:
        return {"$ref": "#/$defs/cut"}
    plain: dict[object, Schema] = {
        str: _TEXT,
        bytes: _TEXT,
        int: _COUNT,
        bool: _TRUTH,
        tuple[str, ...]: _TEXTS,
    }
    return plain[hint]
