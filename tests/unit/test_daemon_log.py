"""The daemon's log: one line for each event, which programs and people can read."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

from policyfs.daemon.log import Bugs, Conditions, Fields, Notice, configure

DOCS = Path(__file__).parents[2] / "docs/operations.md"


def test_json_lines_hold_every_field_and_stay_one_line() -> None:
    out = io.StringIO()
    log = configure(out, as_json=True)
    log.warning("a\nmessage", path="/a\nb\udcff", store=b"x")
    log.info("done", count=3)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["level"], first["path"], first["store"]) == (
        "a\nmessage", "warning", "/a\nb\udcff", "b'x'",
    )  # fmt: skip
    assert (second["level"], second["count"]) == ("info", 3)
    assert first["timestamp"].endswith("Z")


def test_text_escapes_what_is_no_word_of_a_line() -> None:
    out = io.StringIO()
    log = configure(out, as_json=False)
    log.warning("seen", path="/a\nb \x1b[0m\udcff", count=1, odd=b"x")
    assert out.getvalue() == 'warning: seen path="/a\\nb \\u001b[0m\\udcff" count=1 odd="b\'x\'"\n'


def test_a_line_for_the_journal_begins_with_its_level() -> None:
    out = io.StringIO()
    log = configure(out, as_json=False, of_journal=True)
    log.warning("seen", count=1)
    log.info("done")
    log.error("bug")
    assert out.getvalue().splitlines() == ["<4>warning: seen count=1", "<6>info: done", "<3>error: bug"]


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
