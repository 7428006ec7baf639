"""`policyfs audit export`, on plain and compressed segments."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.audit import export as audit_export
from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.errors import PolicyfsError
from policyfs.journal.files.compression import compress
from policyfs.trail.text.export import CSV_HEAD, csv_row
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, read_all, segments


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
    parser = build_parser("audit")
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


def test_a_row_of_the_index_is_that_of_the_line(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(trail, "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    events = [record.event for record in read_all(trail / MOUNT_ID) if record.event is not None]
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        assert row == dict(zip(CSV_HEAD, csv_row(event, row["id"]), strict=True))


def test_a_file_is_its_owners_alone(trail: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    (tmp_path / "out").chmod(0o666)
    run(trail, "export", "--format", "jsonl", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "out").read_text().splitlines()) == 11
    with pytest.raises(PolicyfsError, match="cannot write"):
        run(trail, "export", "-o", str(tmp_path / "missing" / "out"))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_error_names_the_file_that_failed(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with pytest.raises(PolicyfsError, match=r"^cannot write .*/missing/out: No such file"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "missing/out"))
    (tmp_path / "out").write_text("old")

    def broken(*_: object) -> Iterator[object]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a segment")
        yield

    monkeypatch.setattr("policyfs.journal.index.indexed.IndexedTrail.portions", broken)
    with pytest.raises(PolicyfsError, match=r"^cannot read the trail at .*/trail: Input/output error$"):
        run(trail, "export", "--format", form, "-o", str(tmp_path / "out"))
    monkeypatch.setattr("policyfs.cli.audit.export.opened", lambda _: next(broken()))
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


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_full_disk_is_an_error_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail") as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number, size_before=number), Audit.REQUIRED)
    (tmp_path / "out").write_text("old")
    with limited_disk() as fill, pytest.raises(PolicyfsError) as caught:
        fill()
        run(tmp_path / "trail", "export", "--format", form, "-o", str(tmp_path / "out"))
    assert re.fullmatch(rf"cannot write {tmp_path}/out: .+", str(caught.value))
    assert capsys.readouterr().out == "", "no success is told"
    assert (tmp_path / "out").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cache", "out", "trail"]


def test_what_is_no_file_is_not_replaced(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(audit_export, "_lines", None)  # the target is looked at before the work
    with pytest.raises(PolicyfsError, match=rf"^cannot write {tmp_path}/out: it is not a regular file$"):
        run(trail, "export", "-o", str(tmp_path / "out"))
    assert capsys.readouterr().out == ""
