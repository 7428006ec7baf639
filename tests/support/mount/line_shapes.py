"""The lines that tests leave on trails, held against the schema: each shape once for a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policyfs.trail.lines.schema import line_schema
from tests.support.models.json_schema import faults

_MOST = 1 << 20
_SCHEMA: dict[str, Any] = line_schema()
_seen: set[tuple[str, ...]] = set()


def unknown_lines(directory: Path) -> list[str]:
    """What the schema does not accept in a mount's newest lines; lines that tests broke are left out."""
    wrong = []
    for segment in sorted(directory.glob("*.jsonl"))[-1:]:
        with segment.open("rb") as file:
            for raw in file.readlines(_MOST):
                wrong += _faults(raw)
    return wrong


def _faults(raw: bytes) -> list[str]:
    try:
        line = json.loads(raw)
        shape = (line["type"], line.get("operation", ""), *sorted(line))
    except (ValueError, KeyError, TypeError):
        return []
    if shape in _seen:
        return []
    _seen.add(shape)
    kind = _SCHEMA["$defs"].get(line["type"])
    if kind is None:
        return [f"a line of unknown type {line['type']}"]
    return [f"a line of the trail ({' '.join(shape[:2])}): {fault}" for fault in faults(kind, line, _SCHEMA)]
