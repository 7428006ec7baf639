"""The daemon's log: one line for each event, which programs and people can read."""

from __future__ import annotations

import io
import json

from policyfs.daemon.log import configure


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
