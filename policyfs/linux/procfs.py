"""The files of other processes in /proc (proc(5)).

Any process can keep the lock of a directory in /proc: one thread lists the directory into a buffer whose
memory page never comes, and another thread tries to make a name in the directory. Then each look-up in the
directory waits without end, and no signal interrupts it. So a daemon reads /proc by an instance of procfs
that no other process reaches (use()). A command reads in a child process (policyfs.cli.common.processes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_prefix, _directory, _root = "/proc/", -1, Path("/proc")


def use(directory: int) -> None:
    """Read by an instance of procfs from now on: its root's descriptor, to stay open (-1: /proc again)."""
    global _prefix, _directory, _root
    where = "/proc" if directory < 0 else f"/proc/self/fd/{directory}"
    _prefix, _directory, _root = "/proc/" if directory < 0 else "", directory, Path(where)


def root() -> Path:
    """Return a path of the instance of procfs in use."""
    return _root


def path(pid: int | str, name: str) -> str:
    """Return the path of a file of a process in the instance in use. pid: a number, or ``self``."""
    return f"{root()}/{pid}/{name}"


def pids() -> list[int]:
    """Return the ids of all visible processes, in ascending order."""
    return sorted(int(name) for name in os.listdir(root()) if name.isdigit())


def link(pid: int, name: str) -> bytes:
    """Return the target of a link of a process, for example ``exe``. Raises OSError."""
    return os.readlink(f"{_prefix}{pid}/{name}".encode(), dir_fd=None if _directory < 0 else _directory)


def links(pid: int, name: str) -> Iterator[tuple[str, str]]:
    """Yield names and targets of the links in a process's directory, such as ``fd``. Raises OSError."""
    at = None if _directory < 0 else _directory
    directory = os.open(f"{_prefix}{pid}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    try:
        for one in os.listdir(directory):
            try:
                target = os.readlink(one, dir_fd=directory)
            except OSError:  # it was closed
                continue
            yield one, target
    finally:
        os.close(directory)


def owner(pid: int) -> int:
    """Return the uid of a process. Raises OSError if the process has ended."""
    return os.stat(f"{_prefix}{pid}", dir_fd=None if _directory < 0 else _directory).st_uid


def text(pid: int | str, name: str) -> str:
    """Return a file of a process as text, with its line ends as they are. Raises OSError."""

    def open_there(path: str, flags: int) -> int:
        return os.open(path, flags, dir_fd=None if _directory < 0 else _directory)

    with open(
        f"{_prefix}{pid}/{name}", encoding="utf-8", errors="replace", newline="", opener=open_there
    ) as file:
        return file.read()
