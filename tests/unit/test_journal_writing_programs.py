"""Paths of programs: of running ones, of others, and of odd ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from policyfs.journal.writing.programs import executable


def test_executables_of_processes(tmp_path: Path) -> None:
    assert executable(os.getpid()) == os.readlink("/proc/self/exe")
    for pid in (0, -1, 2**22 + 1):
        assert executable(pid) == ""
    odd = tmp_path / os.fsdecode(b"\xff\n" + b"n" * 200)
    shutil.copy(shutil.which("sleep") or "", odd)
    process = subprocess.Popen([odd, "60"])
    try:
        assert "\\xff" in executable(process.pid)
    finally:
        process.kill()
        process.wait(10)
