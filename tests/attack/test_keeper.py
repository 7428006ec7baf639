"""The keeper shares memory and descriptors with the daemon. If an attacker in a daemon reached the keeper
through these, it could make no call that reads, opens, executes or starts anything (decision 70)."""

from __future__ import annotations

import fcntl
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from policyfs.fs.saved.state_memory import HEADER_BYTES, _used, name_of
from tests.mount.test_takeover import kill_daemon
from tests.mount.test_takeover_shared import MAPS, VIEWER, filled, shared  # noqa: F401 - a fixture
from tests.mount.test_takeover_shared import POLICY as SHARED
from tests.mount.test_takeover_views import asked, drop_pages, photo, reader
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10110
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: "/**"}}
"""
OPTIONS = ("--app", "viewer", "--read-only")
GUARD = "keeper-unfiltered"


def filters(mount: Mount) -> tuple[str, str]:
    """Whether the keeper's system calls are filtered, and whether a program could give it rights."""
    assert mount.process is not None
    assert mount.status()["pid"] != mount.process.pid
    lines = Path(f"/proc/{mount.process.pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines)
    return found["Seccomp"], found["NoNewPrivs"]


@pytest.mark.parametrize("guard", [None, GUARD])
def test_the_keeper_can_only_wait(
    mounts: Mounts, without: Callable[..., Mount], empty_store: Path, guard: str | None
) -> None:
    (empty_store / "file").write_text("text")
    parts = POLICY, empty_store, *OPTIONS
    mount = mounts.start(*parts) if guard is None else without(guard, *parts)
    assert filters(mount) == ("2" if guard is None else "0", "1")
    assert call_as(APP, (mount.mountpoint / "file").read_text) == "text"


@pytest.mark.parametrize("guard", [None, "callers-forgotten"])
def test_no_app_reads_on_as_another(
    mounts: Mounts, without: Callable[..., Mount], empty_store: Path, guard: str | None
) -> None:
    """Two apps read one photo of a shared mount under a lease, each in its own view; the daemon dies."""
    (empty_store / "DCIM").mkdir()
    (empty_store / "DCIM/a.jpg").write_bytes(photo())
    parts = SHARED, empty_store, "--read-only", "--copy-max", "4K"
    mount = mounts.start(*parts) if guard is None else without(guard, *parts)
    children = [start_as(uid, reader(mount.mountpoint / "DCIM/a.jpg")) for uid in (MAPS, VIEWER)]
    before = [child.receive() for child in children]
    kill_daemon(mount)
    (whole, _, told), (other, _, leaked) = [asked(child) for child in children]
    assert (whole == before[0], bool(told)) == (True, True)
    assert (other == before[1], bool(leaked)) == (guard is None, guard is not None)
    for child in children:
        child.send("end")
        child.result()


def flip(mount: Mount, dice: random.Random, bits: int) -> None:
    """Change bits of the used memory that the keeper has, while no daemon lives."""
    fds, name = Path(f"/proc/{mount.pid}/fd"), f"/memfd:{name_of(mount.pid)} (deleted)"
    memory = os.open(next(entry for entry in fds.iterdir() if os.readlink(entry) == name), os.O_RDWR)
    used = [
        at for start, end in ((0, HEADER_BYTES), *_used(memory))
        for at, byte in enumerate(os.pread(memory, end - start, start), start) if byte
    ]  # fmt: skip
    for at in dice.sample(used, min(bits, len(used))):
        (byte,) = os.pread(memory, 1, at)
        os.pwrite(memory, bytes([byte ^ 1 << dice.randrange(8)]), at)
    os.close(memory)


def looking(channel: Any, top: Path) -> None:
    """Tell after each word which files have other bytes than at first, and how many calls have failed."""
    paths = [top / "DCIM/maps/plan.txt", *(top / f"DCIM/{number}.jpg" for number in range(6))]

    def seen(read: Callable[[], bytes]) -> bytes:
        with suppress(OSError):
            return read()
        return b""

    held = [path.open("rb", buffering=0) for path in paths[1:4]]
    fcntl.flock(held[0], fcntl.LOCK_SH)
    calls = [path.read_bytes for path in paths]
    calls += [partial(os.pread, one.fileno(), 1 << 20, 0) for one in held]
    first = [seen(call) for call in calls * 2]  # the bridge answers the second
    for _ in iter(channel.recv, "end"):
        for one in held:
            drop_pages(one.fileno())
        now = [seen(call) for call in calls * 2]
        wrong = [at for at, new in enumerate(now) if new not in {b"", first[at]}]
        channel.send((wrong, len([new for new in now if not new])))


def settled(mount: Mount) -> str:
    """Whether a mount has ended or goes on. Empty if none can tell yet."""
    if mount.process is None or mount.process.poll() is not None:
        return "ended"
    with suppress(AssertionError):
        return "on" if mount.status()["bugs"] == 0 else "on, with bugs"
    return ""


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_changed_bits_give_no_right(mounts, filled: Path, options: tuple[str, ...]) -> None:  # noqa: F811
    """Bits of the memory change between two daemons. What does not pass its checks is refused, or the mount
    ends. No byte is another one, or of a hidden file."""
    dice, went_on, whole = random.Random(str(options)), 0, 0
    rounds = count(2, 60)
    for number in range(rounds):
        mount = shared(mounts, filled, *options)
        children = [start_as(uid, looking, mount.mountpoint) for uid in (MAPS, VIEWER)]
        assert [asked(child) for child in children] == [([], 0), ([], 2)]
        os.kill(mount.pid, signal.SIGSTOP)
        os.kill(mount.status()["pid"], signal.SIGKILL)
        flip(mount, dice, (1, 10, 300)[number % 3])
        os.kill(mount.pid, signal.SIGCONT)
        told = [asked(child) for child in children]
        assert [wrong for wrong, _ in told] == [[], []], number
        whole += [failed for _, failed in told] == [0, 2]
        for child in children:
            child.send("end")
            child.result()
        mount.expected_log.append("")
        after = wait_for(partial(settled, mount), "it goes on, or ends")
        assert after in {"on", "ended"}, number
        went_on += after == "on"
        if after == "ended":
            mount.force_away()
            mount.process = None
        assert mount.stop() == []
    print(f"{rounds} rounds: {went_on} went on; no call failed in {whole}")
    assert went_on or not SOAK
