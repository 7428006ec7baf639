"""The report on what redaction takes without need counts what is there to be counted."""

from __future__ import annotations

import subprocess
import sys

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
