"""F0: a process of an ordinary uid stops, kills, slows or limits the workers of a mount."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.domain import WORKER_UIDS
from tests.attack.parsers_nobody import NOBODY
from tests.attack.test_workers_killed import GALLERY, POLICY
from tests.support.machine.processes import call_as
from tests.support.samples import jpegs

ATTEMPTS: Final[dict[str, Callable[[int], object]]] = {
    "limit": lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)),
    "slow": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "stop": lambda pid: os.kill(pid, signal.SIGSTOP),
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
}


def _attempt(pids: list[int]) -> set[tuple[str, str]]:
    """What came of each attempt on each process."""
    found = set()
    for what, act in ATTEMPTS.items():
        for pid in pids:
            try:
                act(pid)
                found.add((what, "done"))
            except OSError as error:
                found.add((what, errno.errorcode[error.errno or 0]))
    return found


@pytest.mark.parametrize(
    ("guard", "done"),
    [pytest.param("", False, id="guarded"), pytest.param("workers-are-nobody", True, id="weakened")],
)
def test_nobody_signals_workers(guard: str, done: bool, mounts_on, without, empty_store: Path) -> None:
    """Attack F0.1: Stop, kill, slow or limit the sniffing workers from outside
    Guard: policyfs/content/workers/uids.py::free_block,
    policyfs/content/workers/zygote.py::Zygote._free_number
    Also:
    tests/attack/test_workers_killed.py::test_opens_end_in_time_and_show_nothing_whatever_becomes_of_workers
    """
    for number in range(3):
        (empty_store / f"{number}.jpg").write_bytes(jpegs.photo_with(jpegs.exif()) + bytes(number))
    mount = without(guard, POLICY, empty_store) if guard else mounts_on.start(POLICY, empty_store)
    pids = mount.status()["sniffer"]["worker_pids"]
    said = call_as(NOBODY, _attempt, pids)
    if done:
        assert ("stop", "done") in said
        assert ("kill", "done") in said
        return
    assert {answer for _, answer in said} <= {"EPERM", "EACCES"}, said
    own = {int(line.split()[1]) for pid in pids for line in _status(pid) if line.startswith("Uid:")}
    assert len(own) == len(pids)
    assert all(uid in WORKER_UIDS for uid in own)
    for number in range(3):
        shown = call_as(GALLERY, (mount / f"{number}.jpg").read_bytes)
        assert jpegs.leaks(shown) == []
    assert mount.status()["sniffer"]["repeated"] == 0


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
