"""Events in the forms of other programs."""

from __future__ import annotations

import pytest

from policyfs.trail.event import OPERATIONS
from policyfs.trail.export import CSV_HEAD, csv_row, ocsf
from tests.support.mount.trail import START_NS, a_denial, an_event

REQUIRED = {
    "category_uid", "class_uid", "activity_id", "type_uid", "time", "severity_id", "metadata", "actor",
    "device", "file", "action_id",
}  # fmt: skip
"""Fields that OCSF 1.3 requires of the class 1001 with the profile security_control."""


def test_a_csv_row_has_each_column() -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(redacted=((0, 5),)), "m:1"), strict=True))
    assert (row["id"], row["hidden_bytes"], row["new_path"]) == ("m:1", "5", "")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(app=text, note=text), "m:1"), strict=True))
    assert row["app"] == row["note"] == f"'{text}"


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
