"""Processor time that each test takes, with all that it starts: `pytest --spent FILE`.

    python -m tests.support.machine.spent FILE          # seconds of each file of tests, the dearest first
    python -m tests.support.machine.spent FILE PREFIX   # of each test function whose node id begins so

Daemons, their launchers and workers are children of nobody who waits for them, so each process that runs
tests is in a control group of its own, and a test has what the group's processes used from its begin to the
begin of the next. A line of FILE: nanoseconds of processor time, nanoseconds of the clock, node id.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_GROUPS: Final = Path("/sys/fs/cgroup")


class Spent:
    """The plugin of one process that runs tests."""

    def __init__(self, file: Path) -> None:
        """Move this process into a control group of its own. file: gets a line for each test."""
        above = _GROUPS / "cpuacct"
        self._above = above if above.is_dir() else _GROUPS
        for left in self._above.glob(
            "policyfs-tests-*"
        ):  # of an earlier run: templates end after their tests
            with contextlib.suppress(OSError):
                left.rmdir()
        self._group = self._above / f"policyfs-tests-{os.getpid()}"
        self._group.mkdir(exist_ok=True)
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        self._usage = (self._group / ("cpuacct.usage" if above.is_dir() else "cpu.stat")).open("rb", 0)
        self._lines = file.open("a", buffering=1)

    def _used_ns(self) -> int:
        self._usage.seek(0)
        words = self._usage.read().split()
        return int(words[0]) if len(words) == 1 else int(words[1]) * 1000

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Add a line for a test."""
        used, began = self._used_ns(), time.monotonic_ns()
        try:
            return (yield)
        finally:
            print(self._used_ns() - used, time.monotonic_ns() - began, item.nodeid, file=self._lines)

    def close(self) -> None:
        """Leave the control group. It stays if a test has left a process in it."""
        (self._above / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            self._group.rmdir()


def main() -> None:
    """Print seconds of processor time, and of the clock, by file or by test function."""
    used: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    prefix = sys.argv[2] if len(sys.argv) > 2 else None
    for line in Path(sys.argv[1]).read_text("utf-8").splitlines():
        cpu, clock, node = line.split(" ", 2)
        if node.startswith(prefix or ""):
            name = node.split("::")[0] if prefix is None else node.split("[")[0]
            used[name] += int(cpu)
            passed[name] += int(clock)
    for name, spent_ns in used.most_common():
        print(f"{spent_ns / 1e9:8.2f} {passed[name] / 1e9:8.2f}  {name}")
    print(f"{used.total() / 1e9:8.2f} {passed.total() / 1e9:8.2f}")


if __name__ == "__main__":
    main()
