"""The end of a circle of locks between the event loop and an app's write in passthrough.

While an app writes in passthrough, the kernel holds the lock of the store's file, and keeps it while it
reads the pages that the app writes (fs/fuse/passthrough.c, mm/filemap.c). If these are mapped from a
mediated file, only the event loop can read them. If the loop waits for that lock at this moment, since an
app with another view of the file removes it or changes its attributes, both wait for ever, and all other
apps with them. Neither can be interrupted. So a thread looks at the state of the loop and the stack of the
write, and ends the connection: the write gets an error, the loop goes on, and the daemon ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

WAITS_S: Final = 30.0
"""The shortest time for which the loop has waited for a lock when the connection is ended."""
LOOK_S: Final = 5.0
_BLOCKED: Final = "D"
"""The state of a task that waits for a lock or a disk, and takes no signal (proc_pid_stat(5))."""
_WRITE: Final = "fuse_passthrough_"
_PAGE: Final = "handle_mm_fault"


class LockCircle:
    """The thread that looks for the circle. It starts at the first beat().

    end: called on the thread with the writer's process id, once two looks in a row have found the circle.
    """

    def __init__(self, end: Callable[[int], None], proc: Path = Path("/proc")) -> None:
        self._end = end
        self._proc = proc
        self._beat = 0.0
        self._loop: Path | None = None  # its task, below *proc*
        self._over = threading.Event()

    def beat(self) -> None:
        """Note that the event loop goes on. Called on its thread several times a second."""
        self._beat = time.monotonic()
        if self._loop is None:
            self._loop = self._proc / f"self/task/{threading.get_native_id()}"
            with contextlib.suppress(RuntimeError):  # no thread can be started: nobody looks
                threading.Thread(target=self._run, name="policyfs-circle", daemon=True).start()

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        self._over.set()

    def writer(self) -> int | None:
        """Return the process id of the writer if the loop and a write wait for each other; else None.

        The loop has then been blocked in one call for WAITS_S, and the write waits for a page. (The kernel
        does not show for what the loop waits. A disk that hangs for so long may look the same.) None, too, if
        the kernel does not show its stacks (CONFIG_STACKTRACE, CAP_SYS_PTRACE).
        """
        if self._loop is None or time.monotonic() - self._beat < WAITS_S:
            return None
        if _text(self._loop / "stat").rpartition(")")[2].split()[:1] != [_BLOCKED]:
            return None
        for pid, stack in self._stacks():
            if _WRITE in stack and _PAGE in stack:
                return pid
        return None

    def _run(self) -> None:
        before: int | None = None
        while not self._over.wait(LOOK_S):
            found = self.writer()
            if found is not None and found == before:
                self._end(found)
                return
            before = found

    def _stacks(self) -> Iterator[tuple[int, str]]:
        for name in filter(str.isdecimal, _names(self._proc)):
            tasks = self._proc / name / "task"
            for task in _names(tasks):
                yield int(name), _text(tasks / task / "stack")


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # the process has ended
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # it has ended, or may not be read
        return ""
