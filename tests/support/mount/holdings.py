"""What a daemon holds: memory, descriptors, nodes, and whether it gives them back."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.machine.namespace import forget_unused
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount


def anonymous_memory(pid: int) -> int:
    """Bytes of a process's own memory: no files, and no frozen copies, which have a cap."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def minor_faults(pid: int) -> int:
    """The page faults of all threads of a process so far that needed no disk."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7])  # minflt, the 10th field of proc_pid_stat(5)


def family_of(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends now
                found += map(int, (task / "children").read_text().split())
    return found


def own_memory(pid: int) -> int:
    """Bytes of a process's own memory, of what it shares with forks of it its share. No pages of files: how
    many of these count as its own hangs on the other processes of the machine."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss_Anon")


def descriptors(mount: Mount) -> Counter[str]:
    """What the daemon has open, but for its caches: directories and frozen copies (unnamed files).

    Nor for what leads to sniffing workers: an app keeps one for its next file. Of each there is a socket, a
    pipe and a pidfd; these two of one which has served its time are closed when the next file is sniffed.
    """
    found = Counter({"socket:[N]": -len(mount.status()["sniffer"]["worker_pids"])})
    for number in os.listdir(f"/proc/{mount.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"/proc/{mount.pid}/fd/{number}")
            spare = link.startswith("/memfd:") or "/#" in link or "[pidfd]" in link
            spare = spare or link.startswith("pipe:")
            if not spare and not os.path.isdir(link.removesuffix(" (deleted)")):
                found[re.sub(r"\d+", "N", link)] += 1
    for segment in [link for link in found if link.endswith(".jsonl")]:
        found[segment] = 1  # the sealer has a descriptor of its own, from its first look at the segment on
    return found


def settled(mount: Mount, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the daemon holds once the kernel has given up its caches. Root's node always stays. Fails if that
    is not what it held before."""

    def holdings() -> dict[str, Any]:
        status = mount.status()
        return {
            "nodes": status["nodes"],
            "handles": status["handles"],
            # Copies that are kept for the next reader keep theirs.
            "backing_ids": max(0, status["backing_ids"] - status["copies"]["count"]),
            "leases": status["leases"]["held"],
            "descriptors": descriptors(mount),
            "pinned": status["copies"]["pinned"],
            "bugs": status["bugs"],
            "lost_replies": status["lost_replies"],
        }

    def nothing_held() -> dict[str, Any] | None:
        forget_unused(mount)
        held = holdings()
        idle = held["nodes"] == 1 and held["handles"]["open"] == held["backing_ids"] == held["leases"] == 0
        return held if idle and (before is None or held == before) else None

    try:
        return wait_for(nothing_held, "the daemon holds nothing that it did not hold before", 20.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {holdings()}, and before {before}") from None
