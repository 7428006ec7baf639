"""Messages for administrators: their ids are in the docs; states are told when they begin and end."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from policyfs.daemon.log import configure
from policyfs.daemon.notices import Bugs, Conditions, Fields, Notice

DOCS = Path(__file__).parents[2] / "docs/operations.md"


def test_the_documentation_lists_each_id_with_its_level() -> None:
    text = DOCS.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \| (error|warning|info) \| ", text, re.MULTILINE)
    assert listed == [(notice.id, notice.level) for notice in Notice]


def test_a_state_is_told_when_it_begins_and_when_it_ends() -> None:
    out = io.StringIO()
    now, held = [0.0], [False]

    def state() -> Fields | None:
        return {"reason": "disk full"} if held[0] else None

    conditions = Conditions(configure(out, as_json=True), {Notice.TRAIL_FAILING: state}, now_s=lambda: now[0])
    for now[0], held[0] in (
        (0, False),
        (1, True),
        (1.5, True),
        (2, True),
        (2.5, False),
        (3, False),
        (9, True),
    ):
        conditions.tend()
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(one["id"], one["level"], one.get("reason")) for one in told] == [
        ("trail-failing", "warning", "disk full"),
        ("trail-failing", "info", None),
        ("trail-failing", "warning", "disk full"),
    ]


def test_a_bug_is_counted_and_has_its_traceback() -> None:
    for as_json in (True, False):
        out = io.StringIO()
        bugs = Bugs(configure(out, as_json=as_json))
        try:
            raise ValueError("why")
        except ValueError as error:
            bugs.bug("OPEN", error)
        assert bugs.count == 1
        assert "Traceback" in out.getvalue()
        assert "error" in out.getvalue()
        assert '"bug"' in out.getvalue()
