"""Reports on redaction count what is there to be counted."""

from __future__ import annotations

import subprocess
import sys

from policyfs.redact.core import patches
from tests.redaction import precision_report
from tests.redaction.kind_matrix import matrix, table
from tests.support.machine.documents import CHECKOUT
from tests.support.samples import jpegs


def test_the_report_counts_files_and_names_causes(tmp_path):
    (tmp_path / "placed.jpg").write_bytes(jpegs.photo_with(jpegs.exif()))
    (tmp_path / "plain.jpg").write_bytes(jpegs.plain())
    (tmp_path / "odd.jpg").write_bytes(jpegs.with_segments(jpegs.plain(), jpegs.segment(0xE5, b"unknown")))
    (tmp_path / "notes.txt").write_text("no picture")
    command = [sys.executable, "-m", "tests.redaction.precision_report", str(tmp_path), "--causes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "files 3, with what location hides 1, leaks 0"
    assert lines[1] == "refused 0, damaged 0, changed though nothing is hidden 1"
    assert "changed: 1 JPEG APP5" in lines


def test_the_matrix_has_a_row_for_each_kind_and_names_what_is_wrong(tmp_path, monkeypatch):
    placed, out = tmp_path / "placed.jpg", tmp_path / "out"
    placed.write_bytes(jpegs.photo_with(jpegs.exif()))
    (tmp_path / "plain.jpg").write_bytes(jpegs.plain())
    out.mkdir()
    rows = matrix([placed, tmp_path / "plain.jpg"], out)
    assert [row.wrong for row in rows.values()] == [[]]
    counts = rows["image/jpeg"].counts
    assert (counts["files"], counts["place"], counts["decoded"]) == (2, 1, 1)
    (tmp_path / "broken").mkdir()
    monkeypatch.setattr(precision_report, "apply", lambda data, _: patches.apply(data, ())[:-900] + b"x")
    broken = list(table(matrix([placed], tmp_path / "broken")))
    assert broken[-1] == f"image/jpeg: left, damaged, size, again: {placed}"
