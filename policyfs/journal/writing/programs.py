"""Paths of programs, as they are on the trail."""

from __future__ import annotations

from policyfs.linux import procfs
from policyfs.trail.lines.bounds import cut_text


def path_text(path: bytes) -> str:
    """Return the path of an executable as text, cut if it is long."""
    return cut_text(path.decode("utf-8", "backslashreplace"))


def executable(pid: int) -> str:
    """Return the path of a process's executable, cut if it is long. Return the empty string if the process
    has ended, or is in a namespace that the daemon cannot see."""
    if pid <= 0:
        return ""
    try:
        return path_text(procfs.link(pid, "exe"))
    except OSError:
        return ""
