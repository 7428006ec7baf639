"""A memory limit for one process, by whichever version of control groups the machine has."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.machine.processes import wait_for

_ROOT: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limit:
    """A control group of our own."""

    path: Path
    unified: bool

    def admit(self, pid: int) -> None:
        """What a process takes from now on counts here."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How often the kernel killed something in it for want of memory."""
        name = "memory.events" if self.unified else "memory.oom_control"
        for line in (self.path / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        raise AssertionError(f"no oom_kill in {name}")

    def used(self) -> int:
        """Bytes that count now."""
        return int((self.path / ("memory.current" if self.unified else "memory.usage_in_bytes")).read_text())


@contextlib.contextmanager
def limited(most: int) -> Iterator[Limit]:
    """A control group whose processes may have so many bytes together; who is in it at the end is killed."""
    unified = not (_ROOT / "memory").is_dir()
    path = Path(tempfile.mkdtemp(prefix="policyfs-test-", dir=_ROOT if unified else _ROOT / "memory"))
    try:
        (path / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(most))
        yield Limit(path, unified)
    finally:
        for pid in map(int, (path / "cgroup.procs").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not (path / "cgroup.procs").read_text(), "the control group is empty")
        path.rmdir()
