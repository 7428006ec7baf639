"""`policyfs audit export` and `sql`, on plain and compressed segments."""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.audit import command as audit
from policyfs.cli.audit import export as audit_export
from policyfs.domain import Audit
from policyfs.errors import PolicyfsError, UsageError
from policyfs.journal.files.compression import compress
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail", segment_bytes=3000) as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number, size_before=number), Audit.REQUIRED)
        journal.record(a_denial(b"/\xff\x1b", note="=1+1"), Audit.REQUIRED)
    place = os.open(tmp_path / "trail" / MOUNT_ID, os.O_RDONLY)
    assert compress(place, segments(tmp_path / "trail" / MOUNT_ID)[0].name, 0)
    os.close(place)
    return tmp_path / "trail"


def run(trail: Path, *words: str, code: int = 0) -> None:
    parser = argparse.ArgumentParser()
    audit.add_parser(parser.add_subparsers())
    args = parser.parse_args(["audit", *words, "--trail", str(trail)])
    assert args.run(args) == code


def test_json_lines_and_csv(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(trail, "export")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 11
    assert lines[0]["id"].startswith("01234567:")
    run(trail, "export", "--format", "csv", "decision:deny")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["path"], row["note"], row["errno"]) for row in rows] == [("/\\xff\\x1b", "'=1+1", "EACCES")]
    run(trail, "export", "uid:4711", code=1)


def test_a_file_is_its_owners_alone(trail: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    (tmp_path / "out").chmod(0o666)
    run(trail, "export", "--format", "ocsf", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "out").read_text().splitlines()) == 11
    with pytest.raises(PolicyfsError, match="cannot write"):
        run(trail, "export", "-o", str(tmp_path / "missing" / "out"))


def test_sql_and_parquet(trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(trail, "sql", "SELECT decision, sum(weight) AS n FROM events GROUP BY decision ORDER BY n", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["decision"], int(row["n"])) for row in rows] == [("deny", 1), ("allow", 10)]
    run(trail, "sql", "SELECT path FROM events WHERE size_before = 7")
    assert capsys.readouterr().out.split() == ["path", "/7"]
    with pytest.raises(UsageError, match="duckdb: "):
        run(trail, "sql", "SELECT nothing FROM events")
    target = tmp_path / "out.parquet"
    run(trail, "export", "--format", "parquet", "-o", str(target), "size:>=5")
    assert capsys.readouterr().out == f"{target}: 5 events\n"
    assert target.stat().st_mode & 0o777 == 0o600
    import duckdb

    found = duckdb.sql(f"SELECT count(*), min(time)::VARCHAR FROM '{target}'").fetchall()
    assert found == [(5, "2026-03-01 08:00:00")]
    with pytest.raises(UsageError, match="-o FILE"):
        run(trail, "export", "--format", "parquet")


@pytest.fixture
def old_trail(trail: Path) -> Path:
    """The trail with two more events, as older versions recorded them for a mountpoint that is not UTF-8."""
    with a_journal(trail) as journal:
        for path in (b"/lost", b"/lost too"):
            journal.record(a_denial(path, mount=os.fsdecode(b"/mnt/\xff\\")), Audit.REQUIRED)
    return trail


def test_parquet_has_the_events_of_a_mount_whose_path_is_not_utf8(old_trail: Path, tmp_path: Path) -> None:
    import duckdb

    target = tmp_path / "out.parquet"
    run(old_trail, "export", "--format", "parquet", "-o", str(target))
    assert duckdb.sql(f"SELECT count(*) FROM '{target}'").fetchall() == [(13,)]
    found = duckdb.sql(f"SELECT path, mount FROM '{target}' WHERE mount <> '/srv/media'").fetchall()
    assert found == [("/lost", "/mnt/\\xff\\"), ("/lost too", "/mnt/\\xff\\")]


def test_a_parquet_file_without_all_events_is_an_error(
    old_trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyfs.cli.audit.export._without_lone", lambda line: line.replace("\udcff", "\\q"))
    (tmp_path / "out").write_text("old")
    with pytest.raises(PolicyfsError, match="out: duckdb can read only 11 of 13 events"):
        run(old_trail, "export", "--format", "parquet", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "old"


def test_sql_tells_the_events_that_it_leaves_out(old_trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(old_trail, "sql", "SELECT count(*) AS n FROM events", "--json")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"n": 11}
    assert err == "policyfs: events left out, because duckdb cannot read them: 2\n"


def test_sql_does_not_warn_of_a_line_that_is_being_written(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(segments(trail / MOUNT_ID)[-1], "ab") as file:
        file.write(b'{"type":"event","seq":99,"ti')
    run(trail, "sql", "SELECT count(*) AS n FROM events", "--json")
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"n": 11}, "")


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf", "parquet"])
def test_an_error_names_the_file_that_failed(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with pytest.raises(PolicyfsError, match=r"^cannot write .*/missing/out: No such file"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "missing/out"))
    (tmp_path / "out").write_text("old")

    def broken(*_: object) -> Iterator[object]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a segment")
        yield

    monkeypatch.setattr("policyfs.cli.audit.export.read", broken)
    with pytest.raises(PolicyfsError, match=r"^cannot read the trail at .*/trail: Input/output error$"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "out"))
    monkeypatch.setattr("policyfs.cli.audit.export.chains_of", lambda _: next(broken()))
    with pytest.raises(PolicyfsError, match=r"^cannot read the trail"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "old"


@contextmanager
def limited_disk() -> Iterator[Callable[[], None]]:
    """Provide a function that fills the disk: then each write beyond 1,000 bytes of a file fails."""
    most, limits = resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(most, (1000, limits[1]))
    finally:
        resource.setrlimit(most, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf", "parquet", "duckdb"])
def test_a_full_disk_is_an_error_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """duckdb: the disk is full only when duckdb writes the Parquet file."""
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail") as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number, size_before=number), Audit.REQUIRED)
    (tmp_path / "out").write_text("old")
    real, name = audit_export._view, "parquet" if form == "duckdb" else form
    with limited_disk() as fill, pytest.raises(PolicyfsError) as caught:
        if form == "duckdb":
            monkeypatch.setattr(
                audit_export, "_view", lambda *args, **options: (real(*args, **options), fill())
            )
        else:
            fill()
        run(tmp_path / "trail", "export", "--format", name, "-o", str(tmp_path / "out"))
    assert re.fullmatch(rf"cannot write {tmp_path}/out: .+", str(caught.value))
    assert capsys.readouterr().out == "", "no success is told"
    assert (tmp_path / "out").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cache", "out", "trail"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_what_is_no_file_is_not_replaced(
    trail: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(audit_export, "_lines", None)  # the target is looked at before the work
    with pytest.raises(PolicyfsError, match=rf"^cannot write {tmp_path}/out: it is not a regular file$"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "out"))
    assert capsys.readouterr().out == ""


def test_without_duckdb_the_remedy_is_named(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(PolicyfsError, match=r"pip install 'policyfs\[review\]'"):
        run(trail, "sql", "SELECT 1")
    run(trail, "search")
