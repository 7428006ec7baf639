"""The pause of take-overs by size of the mount: `python -m tests.bench.takeover [--kills K | --upgrades K]`.

An app mount with so many nodes that the kernel knows, and open files, is killed or upgraded K times;
each pause is from the daemon's death until the next one serves (`takeover.pause_ms` in `status`). Run it as
root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.mount.test_takeover import let_live
from tests.mount.test_upgrade import follow
from tests.support.machine.namespace import enter_private_namespace
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.daemons import Mount

UID: Final = 10100
SIZES: Final = ((10, 10), (10_000, 10), (10_000, 1_000), (100_000, 10), (100_000, 1_000))
PER_DIRECTORY: Final = 1_000
LONG_S: Final = 120.0
POLICY: Final = (
    f"apiVersion: policyfs/v1\nkind: Policy\napps: {{viewer: {{uid: {UID}}}}}\nrules:\n"
    '  - {id: all, allow: [see, read], who: {app: viewer}, paths: "/**"}\n'
)


def fill(store: Path, nodes: int) -> None:
    """Make so many files."""
    for number in range(nodes):
        directory = store / str(number // PER_DIRECTORY)
        if number % PER_DIRECTORY == 0:
            directory.mkdir()
        (directory / f"photo-{number}.jpg").touch()


def look(top: Path, nodes: int, handles: int, channel: Any) -> None:
    """Look at so many files, and hold so many open. Runs as the app."""
    with contextlib.ExitStack() as stack:
        for number in range(nodes):
            path = top / str(number // PER_DIRECTORY) / f"photo-{number}.jpg"
            path.stat()
            if number < handles:
                stack.enter_context(path.open("rb"))
        channel.send("ready")
        channel.recv()


def pauses(root: Path, nodes: int, handles: int, count: int, end: Callable[[Mount], int]) -> list[int]:
    """Return the pauses in ms. end: ends the daemon, and returns the pause."""
    store, mountpoint, policy = root / "store", root / "at", root / "policy.yaml"
    for directory in (store, mountpoint):
        directory.mkdir()
    fill(store, nodes)
    policy.write_text(POLICY)
    root.chmod(0o755)
    mount = Mount(store, mountpoint, policy, options=("--app", "viewer", "--read-only"), work=root)
    mount.wrapper = ("setsid",)  # as a service: its session has a weight
    mount.start()
    try:
        child = start_as(UID, lambda channel: look(mountpoint, nodes, handles, channel))
        child.receive(LONG_S)
        found = [end(mount) for _ in range(count)]
        child.send("end")
        child.result()
    finally:
        mount.stop()
    return found


def pause(mount: Mount) -> int:
    """Kill the daemon. Return the pause in ms."""
    before = mount.status()
    let_live()
    os.kill(before["pid"], signal.SIGKILL)

    def follows() -> bool:
        with contextlib.suppress(AssertionError):
            return bool(mount.status()["takeover"]["count"] > before["takeover"]["count"])
        return False

    wait_for(follows, "another daemon", LONG_S)
    return int(mount.status()["takeover"]["pause_ms"])


def _upgrade(mount: Mount) -> int:
    follow(mount)
    return int(mount.status()["takeover"]["pause_ms"])


def main() -> int:
    """Measure, and print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--upgrades", type=int, default=0)
    given = parser.parse_args()
    count, what, end = given.kills, "kills", pause
    if given.upgrades:
        count, what, end = given.upgrades, "upgrades", _upgrade
    enter_private_namespace()
    for nodes, handles in SIZES:
        with tempfile.TemporaryDirectory() as root:
            found = sorted(pauses(Path(root), nodes, handles, count, end))
        p99 = found[-1 - len(found) // 100]
        print(
            f"{nodes:7,} nodes, {handles:5,} handles, {count} {what}, load {os.getloadavg()[0]:.0f}:"
            f" median {statistics.median(found):.0f}, p99 {p99}, worst {found[-1]} ms", flush=True,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
