"""A template gives the text that the whole event would give, or none."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from policyfs.trail.lines.event import Event
from policyfs.trail.query.index_lines import common_of
from policyfs.trail.query.terms import hidden_of
from policyfs.trail.text.export import csv_row, ocsf
from policyfs.trail.text.templates import Templates, Values
from tests.support.mount.trail import a_denial, an_event


def in_csv(event: Event, name: str) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(csv_row(event, name))
    return line.getvalue()


def in_ocsf(event: Event, name: str) -> str:
    return json.dumps(ocsf(event, name, "1.0 100%", hostname="nas"))


EVENTS: dict[str, Event] = {
    "plain": an_event(),
    "denial": a_denial(note='100% of %s, "quoted"'),
    "all": an_event(
        b"/a b/c", new_path=b"/d/e", kind="image/jpeg", handle=7, bytes_read=0, bytes_written=1,
        size_before=2, size_after=3, redacted=((1, 5), (9, 2)), time_ns=1_772_352_000_000_000_001,
    ),
    "root": an_event(b"/", operation="list"),
    "letters": an_event("/Фото/日本.jpg".encode()),
    "formula": an_event(b"/=1+1"),
}  # fmt: skip
WITHOUT: dict[str, Event] = {
    "bytes": an_event(b"/\xff"),
    "quote": an_event(b'/a"b'),
    "comma": an_event(b"/a,b"),
    "semicolon": an_event(b"/a;=1"),
    "backslash": an_event(rb"/a\b"),
    "escape": an_event(b"/\x1b[2J"),
    "new path": an_event(b"/a", new_path=b"/\n"),
    "mark": an_event(exe="/918273645003"),
}


def text(form: Any, event: Event, templates: Templates | None = None) -> str | None:
    values = Values(
        event.time_ns, event.path, event.new_path, event.pid, event.handle, event.bytes_read,
        event.bytes_written, event.size_before, event.size_after, hidden_of(event),
    )  # fmt: skip
    templates = templates or Templates(form, in_json=form is in_ocsf)
    return templates.text(1, 0, common_of(event), values, "0123:9")


@pytest.mark.parametrize("form", [in_csv, in_ocsf])
@pytest.mark.parametrize("name", EVENTS)
def test_a_template_gives_the_same_text(form: Any, name: str) -> None:
    event = EVENTS[name]
    assert text(form, event) == form(event, "0123:9")
    templates = Templates(form, in_json=form is in_ocsf)
    for pid in range(3):
        event = event._replace(pid=pid, time_ns=event.time_ns + pid * 10**9, path=event.path + b"x")
        assert text(form, event, templates) == form(event, "0123:9")


@pytest.mark.parametrize("form", [in_csv, in_ocsf])
@pytest.mark.parametrize("name", WITHOUT)
def test_other_events_have_none(form: Any, name: str) -> None:
    assert text(form, WITHOUT[name]) is None
