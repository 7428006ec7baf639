"""An idle mount costs almost nothing, and what happens after a rest is on the trail as soon as ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import PATIENCE
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10051
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {APP}, gid: {APP}}}
defaults: {{audit: best_effort}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}}}
"""
SECONDS = 5.0
WAKES_MAX = 4.0
"""The wake-ups in a second of all threads of an idle daemon: 0.9, and three for each mount elsewhere."""
_BUSY = """\
import itertools, os, time
for number in itertools.count():
    with open(f"{number}", "w") as file:
        file.write("text")
    os.chmod(f"{number}", 0o600)
    os.rename(f"{number}", "last")  # a change of a link count, too
    time.sleep(0.003)
"""
SOON_S = 0.3 * PATIENCE
"""Less than the rest of an idle daemon, and more than the time from an open to its flush."""


@pytest.fixture
def mount(arena: Path, mounts: Mounts) -> Iterator[Mount]:
    """A mount of a directory of a file system, which has another directory `elsewhere`."""
    with file_system("ext4", arena) as root:
        (store := root / "store").mkdir()
        (root / "elsewhere").mkdir()
        store.chmod(0o777)
        (store / "file").write_bytes(b"text")
        (store / "file").chmod(0o666)
        mount = mounts.prepare(POLICY, store)
        mount.program = ("tests.support.mount.readers_on",)
        yield mount.start()
        mount.stop()


def wakes(pid: int) -> int:
    """How often the threads of a process have slept so far."""
    statuses = [task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for status in statuses)


def test_an_idle_daemon_hardly_wakes(mount: Mount) -> None:
    call_as(APP, _read, str(mount / "file"), 20)
    assert_rests(mount)


def test_what_another_process_writes_elsewhere_on_the_file_system_wakes_no_daemon(mount: Mount) -> None:
    call_as(APP, _read, str(mount / "file"), 20)
    busy = subprocess.Popen([sys.executable, "-c", _BUSY], cwd=mount.store.parent / "elsewhere")
    try:
        assert_rests(mount)
        assert busy.poll() is None
    finally:
        busy.kill()
        busy.wait()


def assert_rests(mount: Mount) -> None:
    """Assert that the daemon's threads hardly wake."""
    rates = []
    while len(rates) < 6 and min(rates, default=WAKES_MAX + 1) > WAKES_MAX:  # other tests may mount meanwhile
        before = wakes(mount.pid)
        time.sleep(SECONDS)
        rates.append((wakes(mount.pid) - before) / SECONDS)
    assert min(rates) <= WAKES_MAX, rates


def test_an_open_that_the_bridge_answers_during_a_rest_is_on_the_trail_at_once(mount: Mount) -> None:
    call_as(APP, _read, str(mount / "file"), 50)
    late_s = []
    answered = mount.status()["vectors"]["opens"]
    for number in range(6):
        time.sleep(2.5 + number / 6)  # the daemon rests
        count = len(mount.events(operation="open"))
        call_as(APP, _read, str(mount / "file"), 1)
        begin = time.monotonic()
        while len(mount.events(operation="open")) == count:
            assert time.monotonic() - begin < 10, "the open is not on the trail"
            time.sleep(0.005)
        late_s.append(time.monotonic() - begin)
    assert mount.status()["vectors"]["opens"] == answered + 6, "Python answered an open"
    assert sorted(late_s)[-2] <= SOON_S, late_s


def _read(path: str, times: int) -> None:
    for _ in range(times):
        os.close(os.open(path, os.O_RDONLY))
