"""System calls of the daemon for one operation that the bridge answers: none that no promise needs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from tests.mount.test_raw_changes import warm
from tests.mount.test_raw_tree import ONE, WIDE, refusal, store
from tests.support.machine.processes import start_as
from tests.support.mount.stores import Mounts

__all__ = ["store"]
TIMES = 60
IN_TURN = (
    r"read|write|writev|poll|ppoll|futex|epoll_\w+|getpid|madvise|mmap|munmap|brk|restart_syscall"
    r"|readlinkat|newfstatat|fstat"
)
"""What the turn of a request needs, and what is asked once in a time (the executable of a process, the locks'
file): how often depends on the machine."""


def make(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def names(number: int) -> tuple[str, str]:
    return f"n{number}", f"m{number}"


OPERATIONS: dict[str, tuple[Callable[[int], object], dict[str, int]]] = {
    "absent": (lambda number: refusal(lambda: os.stat(f"absent{number}")), {"statx": 1}),
    "make": (
        lambda number: make(names(number)[0]),
        {
            # the absent name; the new file, without a name; what its name leads to, twice; its end, for the
            # trail and for the watch
            "statx": 6, "openat": 3, "close": 3, "setfsgid": 2, "setfsuid": 4, "fsetxattr": 1, "linkat": 1,
            "ioctl": 2,
        },
    ),
    "open": (
        lambda number: os.close(os.open(names(number)[0], os.O_RDONLY)),
        {"statx": 1, "openat": 1, "close": 1, "setfsuid": 2, "ioctl": 1},
    ),
    "write": (
        lambda number: os.close(os.open(names(number)[0], os.O_RDWR)),
        {"statx": 3, "openat": 1, "close": 1, "fgetxattr": 2},
    ),
    "date": (
        lambda number: os.utime(names(number)[0], ns=(1, number)),
        {"statx": 2, "openat": 1, "close": 1, "utimensat": 1},
    ),
    "rename": (lambda number: os.rename(*names(number)), {"statx": 2, "fcntl": 4, "renameat2": 1}),
    "remove": (
        lambda number: os.unlink(names(number)[1]),
        {"statx": 1, "fcntl": 2, "unlinkat": 1, "ioctl": 1},
    ),
}  # fmt: skip
"""Operations, each on what the one before has left, and the calls that each needs at most."""


def work(channel: Connection, directory: str) -> None:
    warm(directory)
    os.chdir(directory)
    for do, _ in OPERATIONS.values():
        channel.send(None)
        channel.recv()
        for number in range(TIMES):
            do(number)
        channel.send(None)
        channel.recv()


def counted(pid: int, run: Callable[[], object]) -> dict[str, int]:
    """Return how often a process calls what, for one of TIMES."""
    line = ("strace", "-qq", "-f", "-c", "-U", "calls,name", "-p", str(pid))
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as strace:
        time.sleep(1)
        run()
        strace.send_signal(2)
        _, table = strace.communicate(timeout=60)
    lines = re.findall(r"^ *(\d+) (\w+)$", table, re.MULTILINE)
    each = {name: round(int(number) / TIMES) for number, name in lines if not re.fullmatch(IN_TURN, name)}
    return {name: number for name, number in each.items() if number and name != "total"}


def test_each_operation_makes_the_calls_that_it_needs(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(WIDE, store, "--app", "one").start()
    child = start_as(ONE, work, str(mount / "d"))
    found = {}
    for name in OPERATIONS:
        child.receive()

        def run() -> None:
            child.send(None)
            child.receive()

        found[name] = counted(mount.pid, run)
        child.send(None)
    child.result()
    for name, (_, expected) in OPERATIONS.items():
        more = {call: number for call, number in found[name].items() if number > expected.get(call, 0)}
        assert not more, (name, more, found)
