"""Events in the forms of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from policyfs.trail.lines.event import DECISIONS, OPERATIONS, Event
from policyfs.trail.text.export import CSV_HEAD, csv_row, ocsf
from tests.support.mount.trail import START_NS, a_denial, an_event

REQUIRED = {
    "category_uid", "class_uid", "activity_id", "type_uid", "time", "severity_id", "metadata", "actor",
    "device", "file", "action_id",
}  # fmt: skip
"""Fields that OCSF 1.3 requires of the class 1001 with the profile security_control."""


def test_a_csv_row_has_each_column() -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(redacted=((0, 5),)), "m:1"), strict=True))
    assert (row["id"], row["hidden_bytes"], row["new_path"]) == ("m:1", "5", "")


def test_a_csv_row_tells_what_it_stands_for() -> None:
    event = an_event(
        folded="app", repeats=40, since_ns=START_NS, would_deny=("strict",), would_allow=("a", "b"), handle=7
    )
    row = dict(zip(CSV_HEAD, csv_row(event, "m:1"), strict=True))
    assert [row[name] for name in ("folded", "repeats", "since", "would_deny", "would_allow", "handle")] == [
        "app", "40", "2026-03-01T08:00:00.000000000Z", "strict", "a b", "7",
    ]  # fmt: skip
    shown = {"time", "mount", "path", "decision", "errno", "redacted", "handle", *CSV_HEAD}
    left = {"path_cut", "new_path_cut", "redacted_ranges", "redacted_bytes", "rules_left_out"}
    left |= {"mtime_before_ns", "mtime_after_ns", "redacted"}
    names = {"time_ns": "time", "since_ns": "since"}
    names |= {"policy_generation": "generation", "policy_digest": "policy"}
    assert {names.get(name, name) for name in Event._fields} - left <= shown


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(app=text, note=text), "m:1"), strict=True))
    assert row["app"] == row["note"] == f"'{text}"


@pytest.mark.parametrize("formula", ["=1", " =1", '"=1"', "'-1", "@a", "+1"])
def test_nor_behind_a_semicolon(formula: str) -> None:
    """There a German spreadsheet splits a text into cells, also within quotes."""
    row = dict(zip(CSV_HEAD, csv_row(an_event(note=f"a;{formula};b;c=1"), "m:1"), strict=True))
    assert row["note"] == f"a;'{formula};b;c=1"


@pytest.mark.parametrize("operation", [*OPERATIONS, "release", "unknown"])
def test_ocsf_has_what_its_class_requires(operation: str) -> None:
    fields = ocsf(an_event(operation=operation, new_path=b"/b"), "m:1", "1.0")
    assert fields.keys() >= REQUIRED
    activity = fields["activity_id"]
    assert isinstance(activity, int)
    assert activity in {*range(15), 99}
    assert fields["type_uid"] == 100100 + activity
    assert fields["time"] == START_NS // 10**6
    assert fields["metadata"]["product"]["vendor_name"]
    assert fields["metadata"]["version"] == "1.3.0"
    assert fields["file"].keys() >= {"name", "type_id"}
    assert fields["file_result"]["path"] == "/b"


def test_a_denial_is_a_failure_with_its_reason() -> None:
    fields = ocsf(a_denial(b"/\xff"), "m:1", "1.0")
    assert (fields["status_id"], fields["action_id"], fields["disposition_id"]) == (2, 2, 2)
    assert (fields["status_code"], fields["status_detail"]) == ("EACCES", "no-private")
    assert fields["file"]["path"] == "/\\xff"


LISTED = {
    "": "activity_id category_uid class_uid metadata severity_id time type_uid actor device file",
    "metadata": "version product", "metadata.product": "vendor_name", "device": "type_id",
    "file": "name type_id", "file_result": "name type_id", "actor.process.file": "name type_id",
}  # fmt: skip
"""What the class and its objects require in OCSF 1.3, and one of these of an actor, a user and a process."""
ONE_OF = {
    "actor": "process user app_name invoked_by session", "actor.user": "account name uid",
    "actor.process": "pid uid cpid", "policy": "name uid", "metadata.product": "name uid",
}  # fmt: skip
TOP = """
action action_id activity_id activity_name actor authorizations category_name category_uid class_name
class_uid count device disposition disposition_id file file_result metadata severity severity_id status
status_code status_detail status_id time type_name type_uid unmapped
"""
"""The fields of the class and of its profile that policyfs uses. OCSF 1.3 has no `policy` there."""
NUMBERS = {
    "activity_id": [*range(15), 99], "action_id": [0, 1, 2], "disposition_id": [*range(28), 99],
    "severity_id": [*range(7), 99], "status_id": [0, 1, 2, 99], "type_id": [*range(8), 99],
}  # fmt: skip


def objects_of(fields: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, fields
    for name, value in fields.items():
        if isinstance(value, dict) and name != "unmapped":
            yield from objects_of(value, f"{at}.{name}".lstrip("."))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("decision", DECISIONS)
def test_ocsf_meets_the_lists_of_its_class(operation: str, decision: str) -> None:
    errno = 13 * (decision == "deny")
    event = an_event(operation=operation, decision=decision, errno=errno, new_path=b"/\xff")
    found = ocsf(event._replace(kind="image/jpeg", exe="/usr/bin/x"), "m:1", "1.0", hostname="nas")
    assert set(found) <= set(TOP.split())
    assert found["device"]["hostname"] == "nas"
    for at, fields in objects_of(found):
        assert set(LISTED.get(at, "").split()) <= set(fields), at
        assert at not in ONE_OF or set(ONE_OF[at].split()) & set(fields), at
        for name, numbers in NUMBERS.items():
            assert fields.get(name, numbers[0]) in numbers, name
        assert not [name for name, value in fields.items() if value in (None, "", [], {})], at
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    assert found["class_uid"] // 1000 == found["category_uid"]
    assert isinstance(found["time"], int)
    assert found["action_id"] == found["disposition_id"] == (2 if decision == "deny" else 1)
