"""`policyfs audit sql`: what it reads, what it refuses, and its bounds. tests/attack has hostile indexes."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.audit import sql as audit_sql
from policyfs.cli.main import main
from policyfs.domain import Audit
from policyfs.journal.files.compression import compress
from policyfs.journal.files.reader import find_chains, records
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import Record
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    with a_journal(tmp_path / "trail", segment_bytes=3000) as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number, size_before=number), Audit.REQUIRED)
        journal.record(a_denial(b"/\xff\x1b", note="=1+1"), Audit.REQUIRED)
        journal.record(a_denial(b"/old", mount=os.fsdecode(b"/mnt/\xff\\")), Audit.REQUIRED)
        journal.record(an_event(b"/old", operation="rename", new_path=b"/new"), Audit.REQUIRED)
    place = os.open(tmp_path / "trail" / MOUNT_ID, os.O_RDONLY)
    assert compress(place, segments(tmp_path / "trail" / MOUNT_ID)[0].name, 0)
    os.close(place)
    return tmp_path / "trail"


def rows(
    trail: Path, statement: str, capsys: pytest.CaptureFixture[str], code: int = 0
) -> list[dict[str, Any]]:
    assert main(["audit", "sql", statement, "--json", "--trail", str(trail)]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refusal(trail: Path, statement: str, capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert main(["audit", "sql", statement, "--trail", str(trail)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_the_table_has_each_event_with_its_fields(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (chain,) = find_chains(trail)
    lines = [one for one in records(chain) if isinstance(one, Record) and one.event is not None]
    told = rows(trail, "SELECT * FROM events ORDER BY seq", capsys)
    assert len(lines) == len(told) == 13
    for line, row in zip(lines, told, strict=True):
        assert line.event is not None
        lists = {name: json.loads(row.pop(name)) for name in ("rules", "would_deny", "would_allow")}
        row.update({name: value for name, value in lists.items() if value})
        assert (row.pop("id"), row.pop("time_ns"), row.pop("weight")) == (line.id, line.time_ns, 1)
        assert row["time"] == iso_time(line.time_ns)
        plain = {name: value for name, value in row.items() if value is not None}
        same = {name: value for name, value in line.fields.items() if name in plain}
        assert {**plain, "mount": line.fields["mount"]} == {**same, "mount": line.fields["mount"]}
        unknown = line.fields.keys() - plain.keys()
        assert unknown <= {"type", "chain", "path_b64"}
    assert Counter(row["mount"] for row in told) == {"/srv/media": 12, "/mnt/\udcff\\": 1}


def test_a_table_is_printed(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statement = "SELECT path FROM events WHERE decision = 'deny' AND note IS NOT NULL"
    assert main(["audit", "sql", statement, "--trail", str(trail)]) == 0
    assert capsys.readouterr().out.split() == ["path", "/\\\\xff\\x1b"]
    assert rows(trail, "SELECT 1 WHERE 0", capsys, 1) == []
    ruled = "SELECT count(*) AS n FROM events, json_each(rules) WHERE value = 'no-private'"
    assert rows(trail, ruled, capsys) == [{"n": 2}]
    assert rows(trail, "SELECT x'00ff' AS blob", capsys) == [{"blob": "b'\\x00\\xff'"}]


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '/tmp/other' AS other", "PRAGMA hard_heap_limit = 0", "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/x.so')", "SELECT fts3_tokenizer('x', 'y')", "CREATE TABLE other (x)",
        "CREATE VIRTUAL TABLE temp.other USING fts5(x)", "INSERT INTO event VALUES (1)", "DELETE FROM event",
        "VACUUM INTO '/tmp/other'", "SELECT 1; SELECT 2", "SELECT nothing FROM events", "",
    ],
)  # fmt: skip
def test_nothing_but_a_query_is_run(trail: Path, capsys: pytest.CaptureFixture[str], statement: str) -> None:
    if statement:
        assert refusal(trail, statement, capsys, 2).startswith("policyfs: SQL: ")
    else:
        assert rows(trail, statement, capsys, 1) == []


def test_it_is_where_sql_is_not_confined(
    trail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_sql, "confine", lambda _: None)
    assert rows(trail, "ATTACH ':memory:' AS other", capsys, 1) == []
    assert rows(trail, "PRAGMA user_version", capsys) == [{"user_version": 0}]


def test_time_is_bounded(
    trail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_sql, "_SECONDS", 0.1)
    assert "takes more than 0.1 s" in refusal(trail, FOREVER, capsys, 1)


def test_memory_is_bounded(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit of SQLite holds for the whole process, and cannot be raised again: so it stays large here."""
    large = "SELECT count(DISTINCT i || zeroblob(15000000)) FROM (WITH RECURSIVE n(i) AS"
    large += " (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) SELECT i FROM n)"
    assert "needs more than 400 MiB" in refusal(trail, large, capsys, 1)
    assert "too big" in refusal(trail, "SELECT length(randomblob(100000000))", capsys, 2)


def test_the_answer_is_bounded(
    trail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_sql, "_ROWS", 5)
    assert main(["audit", "sql", "SELECT seq FROM events", "--json", "--trail", str(trail)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "only the first 5 rows are printed" in err
    monkeypatch.setattr(audit_sql, "_OUTPUT", 10)
    assert len(rows(trail, "SELECT '12345' FROM events", capsys)) == 2


def test_a_trail_without_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no mount has recorded anything" in refusal(tmp_path, "SELECT 1", capsys, 1)
