"""Reading lines: anything may stand in a file, nothing may crash a reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.lines.record import BadLine, Place, Record, parse_id, parse_line, parse_time
from tests.support.mount.trail import BASE, line_of

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 9)
FIELDS = json.loads(line_of(BASE))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    parse_line(raw, PLACE)


@given(st.sampled_from([*FIELDS, "redacted", "handle", "since", "path_b64", "errno", "new_path"]), values)
def test_any_value_in_any_field(name: str, value: object) -> None:
    parse_line(json.dumps(FIELDS | {name: value}).encode(), PLACE)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "not a JSON object"),
        (b' {"type":"gap"}', "not a JSON object"),
        (b'\xef\xbb\xbf{"type":"gap"}', "BOM"),
        ('{"type":"gap"}'.encode("utf-16-le"), "line 1"),
        (b'{"type":"\xed\xa0\x80"}', "utf-8"),
        (b"[" * 100_000, "recursion"),
        (b'{"type":"event","seq":' + b"9" * 5000 + b"}", "limit"),
        (b'{"seq":1}', "'type'"),
        (b'{"type":"gap","seq":true,"time":""}', "'seq'"),
        (b'{"type":"gap","seq":1,"time":"yesterday"}', "yesterday"),
        (b'{"type":"gap","seq":1,"time":"2026-13-01T00:00:00.000000000Z"}', "no such date"),
        (json.dumps(FIELDS | {"path_b64": "!"}).encode(), "base64"),
        (json.dumps(FIELDS | {"errno": "ENOTHING"}).encode(), "ENOTHING"),
        (json.dumps(FIELDS | {"redacted": [[1]]}).encode(), "redacted"),
        (json.dumps(FIELDS | {"rules": ["a", 1]}).encode(), "rules"),
    ],
)
def test_a_bad_line_says_why(raw: bytes, why: str) -> None:
    found = parse_line(raw, PLACE)
    assert isinstance(found, BadLine)
    assert why in found.why
    assert found.place == PLACE


def test_fields_unknown_to_this_version_do_no_harm() -> None:
    found = parse_line(json.dumps(FIELDS | {"later": 1}).encode(), PLACE)
    assert isinstance(found, Record)
    assert found.event == BASE


def test_ids() -> None:
    found = parse_line(line_of(BASE, 42), PLACE)
    assert isinstance(found, Record)
    assert found.id == "01234567:42"
    assert parse_id(found.id) == ("01234567", 42)
    for text in ("42", "a:b", ":1", "a:", "a:1:2", "a b:1"):
        with pytest.raises(ValueError, match="not an event id"):
            parse_id(text)


def test_times_come_back_exactly() -> None:
    assert parse_time("2026-03-01T08:00:00.123456789Z") == 1_772_352_000_123_456_789
    with pytest.raises(ValueError, match="form"):
        parse_time("2026-03-01 08:00:00")
