"""What the launcher is executed with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import policyfs
from policyfs.content.workers import execution
from policyfs.content.workers.execution import SnifferError, execute_launcher, worker_limits
from policyfs.domain import WORKER_UIDS


def test_modules_are_found_where_the_daemon_found_them_and_nowhere_relative(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", ".", "relative", "/absolute"])
    own = str(Path(policyfs.__file__).parent.parent)
    assert execution._module_path() == [own, "/absolute"]


def test_workers_have_no_uid_that_the_policy_names():
    limits = worker_limits([(WORKER_UIDS.start, WORKER_UIDS.stop)])
    assert limits.uid == limits.gid
    assert limits.uid not in WORKER_UIDS
    assert worker_limits().uid in WORKER_UIDS


def test_workers_of_a_user_keep_the_uid(monkeypatch):
    monkeypatch.setattr(execution.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(execution.os, "getegid", lambda: 1001)
    limits = worker_limits()
    assert (limits.uid, limits.gid, limits.users) == (1000, 1001, True)
    assert limits.uids > 16


def test_what_cannot_be_executed_is_told(monkeypatch):
    def failing(*_: object, **__: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(execution.subprocess, "Popen", failing)
    with pytest.raises(SnifferError, match="cannot start the sniffing workers: no memory"):
        execute_launcher(())


def test_the_module_imports_no_event_loop():
    """Otherwise the daemon's imports would not go on beside those of the launcher, but come before them."""
    program = "import sys, policyfs.content.workers.execution; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert not {"trio", "policyfs.fs"} & set(done.stdout.decode().split())


FORKED = """
import os, signal
from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.execution import ForkedLauncher, worker_limits
from policyfs.content.workers.zygote import prepared

os.set_inheritable(os.pipe()[1], True)
first, other = [ForkedLauncher(prepared()) for _ in range(2)]
aborts, abort = os.pipe()
tells, told = os.pipe()
daemon = os.fork()
if daemon == 0:
    other.leave()
    first.limit(worker_limits())
    sniffer = Sniffer.start(first)
    sniffer.guard(abort)
    os.write(told, sniffer.stats().confinement.encode())
    signal.pause()
first.leave()
os.close(told)
print("confinement", os.read(tells, 1000).decode())
print("descriptors", max(map(int, os.listdir(f"/proc/{first.pid}/fd"))) <= 5)
print("network", os.readlink(f"/proc/{first.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
print("other", os.waitpid(other.pid, os.WNOHANG)[0])
os.kill(daemon, signal.SIGKILL)
print("abort", os.read(aborts, 10).decode())
print("ends", *(os.waitpid(pid, 0)[1] for pid in (daemon, first.pid)))
other.leave()
print("unused", os.waitpid(other.pid, 0)[1])
"""


def test_a_forked_launcher_is_as_confined_as_an_executed_one_and_learns_of_a_killed_daemon():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=100
    )
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert said.pop("confinement").startswith("chroot, uid "), done.stderr
    assert said == {
        "descriptors": "True", "network": "True", "other": "0", "abort": "1", "ends": "9 0",
        "unused": "0",
    }, done.stderr  # fmt: skip
