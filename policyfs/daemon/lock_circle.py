"""A thread that finds and ends a circle of locks. In this circle, the event loop waits for an app's write,
and the write waits for the loop.

While an app writes in passthrough, the kernel holds the lock of the store's file. It keeps the lock while it
copies from the memory that the app gave to write(2) (fs/fuse/passthrough.c, mm/filemap.c). If this memory is
a mapping of a mediated file, only the event loop can read its pages. At this moment, the loop may be waiting
for that lock: an app with another view of the file has asked to remove the file, or to change its attributes.
Then the write and the loop wait for ever, and all other apps wait, too. The loop cannot be interrupted. A
program that uses the store directly may also remove the file. This program waits for the file's lock, and
holds the lock of the directory meanwhile. Then the loop, or a reader of the bridge, waits when it looks up a
name in that directory.

The same happens if the pages are on another file system that does not answer, for example a file system that
the app serves itself. On xfs, reads can make such a circle, too.

So a thread looks at the state of the loop and the readers, and at the stacks of reads and writes. If it finds
a circle, it kills the process that reads or writes: then the kernel releases the lock, and the loop goes on.
If the kill is not possible, or does not help, the thread ends the connection: all callers get an error, and
the daemon ends.

While the store's disk does not answer, the loop may be waiting for this disk. Then the thread kills no
process.

An app can make each read of its processes' files in /proc wait (policyfs.linux.bounded_reads). The thread
leaves out such processes. But if they are so many that the thread cannot look at the others in time, the
thread ends the connection.

INVARIANT: the loop gives up the interpreter lock while it waits for the store (kernel/device/_device.c,
kernel/answers/_avc.c). Otherwise this thread could not run.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.linux import bounded_reads

LOOK_S: Final = 5.0
LOOKS: Final = 7
"""The number of looks in a row that must find the circle before the process is killed: 30 s in all."""
MOST_S: Final = 30.0
"""The longest time of a look, in seconds."""
UNKNOWN: Final = 0
"""Stands for the process id of a writer if not all processes were looked at. No process has this id."""
_BLOCKED: Final = "D"
"""The state of a task that waits for a lock or a disk and that no signal interrupts (proc_pid_stat(5))."""
_READER: Final = "policyfs-reader"
"""The name of the bridge's reader threads (_readers.c)."""
_LOCKS: Final = ("vfs_clone_file_range", "xfs_ilock")
"""Kernel functions in which any other thread of the daemon waits for the lock of a file that an app reads or
writes: a copy for an app with another view (policyfs.fs.redacted.copies)."""
_WRITE: Final = "fuse_passthrough_"
_PAGE: Final = ("_mm_fault", "_page_fault", "fault_in_", "_user_pages", "lock_mm_and_find_vma")
"""Kernel functions in which a write waits for its pages, or for the lock of their mapping."""


class Disk:
    """The counts of a block device, from its directory in /sys/dev/block (Documentation/block/stat.rst)."""

    def __init__(self, device: Path) -> None:
        self._device: Final = device
        self._completed: list[str] = []

    def hangs(self) -> bool:
        """Return True if reads are under way, and no read has ended since the previous call.

        Return True, too, if the same is true of writes. Return False if these counts are unknown: network
        stores and btrfs have no block device of their own.
        """
        under_way, counts = _text(self._device / "inflight").split(), _text(self._device / "stat").split()
        before, self._completed = self._completed, counts[0:5:4]
        ways = zip(under_way, before, self._completed, strict=False)
        return any(number != "0" and earlier == now for number, earlier, now in ways)


def disk_of(path: Path) -> Disk:
    """Return the disk of the file system that contains a path. An unknown disk has no counts."""
    try:
        device = path.stat().st_dev
    except OSError:
        device = 0
    return Disk(Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))


class _Wait(NamedTuple):
    """The wait of a thread for a page. looks: the number of looks in a row that saw the thread wait. since_s:
    the time of the first of these looks."""

    looks: int
    since_s: float


class LockCircle:
    """A watchdog that finds and ends the circle, on a thread of its own. The thread starts at the first
    beat().

    kill: called on that thread with the writer's process id, and the seconds for which the writer was seen to
    wait; returns False if the process cannot be killed, or is UNKNOWN. end: called on that thread with the
    same process id if kill returned False, or if the next look still finds the circle. is_user: returns True
    for a process that uses this mount. If several processes could be the writer, the one that uses this mount
    is killed. disk: the store's disk.
    """

    def __init__(
        self, kill: Callable[[int, float], bool], end: Callable[[int], None], is_user: Callable[[int], bool],
        disk: Disk, proc: Path = Path("/proc"),
    ) -> None:  # fmt: skip
        self._kill = kill
        self._end = end
        self._is_user = is_user
        self._disk = disk
        self._proc = proc
        self.also: Callable[[], None] = _nothing
        """A further function that is called at each look, on the same thread. It may raise OSError."""
        self._killed: set[int] = set()
        self._loop: Path | None = None  # the directory of the loop's task, below *proc*
        self._over = threading.Event()
        self._blocked: set[str] = set()
        self._waiting: dict[tuple[int, str], _Wait] = {}

    def beat(self) -> None:
        """Start the thread that looks for the circle, if it does not run yet. Called on the event loop's
        thread, several times a second."""
        if self._loop is not None:
            return
        self._loop = self._proc / f"self/task/{threading.get_native_id()}"
        try:
            threading.Thread(target=self._run, name="policyfs-circle", daemon=True).start()
        except RuntimeError:  # no thread can be started: the next beat tries again
            self._loop = None

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        self._over.set()

    def writer(self) -> int | None:
        """Look once for the circle (the loop and an app's write wait for each other). Return the writer's
        process id if the last LOOKS looks have found it.

        A look finds it if a thread (_look) is blocked in the same call at all these looks, and a thread of
        the writer waits for a page at all of them. The kernel does not show the lock, and a wait for a disk
        looks alike: so not while the disk hangs, but a network store that hangs for so long counts. None also
        if the kernel shows no stacks (CONFIG_STACKTRACE, CAP_SYS_ADMIN, CAP_SYS_PTRACE), or the process is
        outside the daemon's pid namespace."""
        blocked = set() if self._disk.hangs() else set(self._look())
        still = blocked & self._blocked
        if not still:
            self._blocked, self._waiting = blocked, {}
            if not blocked:
                return None
        else:
            self._blocked = still
        found = set(self._writers())
        now_s = time.monotonic()
        seen = {task: self._waiting.get(task, _Wait(0, now_s)) for task in found}
        self._waiting = {task: _Wait(wait.looks + 1, wait.since_s) for task, wait in seen.items()}
        late = dict.fromkeys(pid for (pid, _), wait in self._waiting.items() if wait.looks >= LOOKS)
        return next((pid for pid in late if self._is_user(pid)), max(late, default=None))

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            with contextlib.suppress(OSError):  # the log failed; the next look does what is left
                self.also()
                self._resolve(self.writer())

    def _resolve(self, pid: int | None) -> None:
        """End the circle. pid: the writer to kill; None: there is no circle."""
        if pid is None:
            self._killed.clear()
        elif pid not in self._killed and self._kill(pid, self._waited_s(pid)):
            self._killed.add(pid)
        else:
            self._end(pid)

    def _waited_s(self, pid: int) -> float:
        """Return the seconds since this thread first saw a thread of the process wait for a page."""
        since_s = [wait.since_s for (of, _), wait in self._waiting.items() if of == pid]
        return time.monotonic() - min(since_s)

    def _look(self) -> Iterator[str]:
        """Yield the threads that answer requests and are blocked, each with its number of context switches,
        which stays while it is blocked in one call. Readers count, since the loop may wait for one; others if
        their stack shows a wait for the lock of a file (_LOCKS)."""
        if self._loop is None:
            return
        for name in _names(self._loop.parent):
            task = self._loop.parent / name
            if _text(task / "stat").rpartition(")")[2].split()[:1] != [_BLOCKED]:
                continue
            if task != self._loop and _text(task / "comm").strip() != _READER and not _waits_for_lock(task):
                continue
            lines = _text(task / "status").splitlines()
            switches = "".join(line for line in lines if "ctxt_switches" in line)
            if switches:
                yield f"{name} {switches}"

    def _writers(self) -> Iterator[tuple[int, str]]:
        """Yield the threads that wait for a page: process id, thread id. UNKNOWN as the process id: some are
        not looked at, since too many of them make the look wait."""
        until_s = time.monotonic() + MOST_S
        for pid in map(int, filter(str.isdecimal, _names(self._proc))):
            if bounded_reads.is_full() or time.monotonic() > until_s:
                yield UNKNOWN, ""
                return
            for task, stack in bounded_reads.each(pid, partial(self._stacks, pid)):
                if _waits_for_page(stack):
                    yield pid, task

    def _stacks(self, pid: int) -> Iterator[tuple[str, str]]:
        tasks = self._proc / str(pid) / "task"
        for task in _names(tasks):
            yield task, _text(tasks / task / "stack")


def _nothing() -> None:
    pass


def _waits_for_lock(task: Path) -> bool:
    stack = _text(task / "stack")
    return any(function in stack for function in _LOCKS)


def _waits_for_page(stack: str) -> bool:
    return _WRITE in stack and any(function in stack for function in _PAGE)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # the process has ended
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # the process has ended, or its file cannot be read
        return ""
