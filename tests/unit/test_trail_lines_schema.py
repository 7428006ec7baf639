"""The schema of a trail's lines accepts what is written, and nothing with another field or form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from policyfs.trail.lines.bounds import PATH_BYTES, bounded
from policyfs.trail.lines.event import BY_DIRECTORY
from policyfs.trail.lines.schema import RECORDS, VERSION, line_schema
from tests.support.machine.documents import CHECKOUT
from tests.support.models.json_schema import faults
from tests.support.mount.trail import a_denial, an_event, line_of, read_all, write_trail

SCHEMA: dict[str, Any] = line_schema()
SHIPPED = CHECKOUT / "policies/policyfs-trail.schema.json"


def lines_of(*events: Any) -> list[dict[str, Any]]:
    return [json.loads(line_of(bounded(event))) for event in events]


FULL = an_event(
    b"/" + b"\xff" * PATH_BYTES, new_path=b"/" + b"\xff" * PATH_BYTES, errno=5, folded=BY_DIRECTORY,
    repeats=3, since_ns=5, rules=tuple(f"rule-{number}" for number in range(1000)), would_deny=("a",),
    would_allow=("b",),
    redacted=((0, 1),) * 257, bytes_read=0, bytes_written=1, size_before=1, size_after=2, mtime_before_ns=-1,
    mtime_after_ns=1, note="n", handle=1, kind="image/jpeg", uid=-1,
)  # fmt: skip


@pytest.mark.parametrize("line", lines_of(an_event(), a_denial(), FULL), ids=["plain", "denial", "full"])
def test_events_are_accepted(line: dict[str, Any]) -> None:
    assert faults(SCHEMA, line) == []


def test_each_field_of_an_event_is_known() -> None:
    (full,) = lines_of(FULL)
    known = set(SCHEMA["$defs"]["event"]["properties"])
    assert set(full) <= known
    assert known - set(full) <= {"io"}


def test_a_trail_is_accepted(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event(), a_denial()], segment_bytes=500, keep=2)
    for record in read_all(directory):
        assert faults(SCHEMA, record.fields) == [], record.kind


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"uid": "0"},
        {"decision": "maybe"},
        {"time": "now"},
        {"chain": "0"},
        {"type": "other"},
        {"seq": 0},
    ],
    ids=str,
)
def test_another_form_is_refused(change: dict[str, object]) -> None:
    (line,) = lines_of(an_event())
    assert faults(SCHEMA, line | change)


def test_each_type_of_record_in_the_page_is_in_the_schema() -> None:
    page = (CHECKOUT / "docs/audit.md").read_text(encoding="utf-8")
    section = page.split("## The journal's own records\n", 1)[1].split("\n## ", 1)[0]
    kinds = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert kinds == set(RECORDS)


def test_the_shipped_schema_is_the_generated_one() -> None:
    """If not: make docs."""
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == SCHEMA
    assert VERSION in SCHEMA["$id"]
