"""Runs of pytest that a test looks at."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import pytest


def run_pytest(directory: Path, *options: str) -> tuple[int, str]:
    """Run the tests of a directory in a fork of this process, which has imported all that pytest needs.

    Returns the exit code and what was printed.
    """
    told = directory / "told"
    pid = os.fork()
    if pid == 0:
        _become_pytest(told, [
            "-q", "--rootdir", str(directory), "-c", os.devnull, "-p", "no:xdist",
            "-o", f"cache_dir={directory}/cache", str(directory), *options,
        ])  # fmt: skip
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code >= 0, f"ended by signal {-code}: {told.read_text()}"
    return code, told.read_text()


def _become_pytest(told: Path, arguments: list[str]) -> NoReturn:
    """End this process with the exit code of a run of pytest, which prints into a file."""
    code = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        for descriptor in (1, 2):
            os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
        warnings.resetwarnings()
        os.chdir(told.parent)
        told.write_text("")
        code = int(pytest.main(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
