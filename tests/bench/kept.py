"""Deletes, changes and new files under `keep`, beside the same in the same mount without it.

`python -m tests.bench.kept [ROUNDS]` prints medians per file on ext4 and xfs, in microseconds: the time, and
the processor time of app and daemon together. A round of each comes in turns. `cp` is a plain copy of
the same files on the same disk, which is what ext4 needs to keep bytes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.machine.images import file_system
from tests.support.machine.namespace import enter_private_namespace
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts

UID: Final = 10050
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{sync: {{uid: {UID}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: sync}}, paths: "/***"}}
  - {{id: safe, require: {{keep: 30d}}, who: {{app: sync}}, paths: "/kept/***"}}
"""
FILES: Final = 500
SIZE: Final = 16 << 10
_TICK_US: Final = 1_000_000 / os.sysconf("SC_CLK_TCK")


def new(directory: Path) -> None:
    """Make the files, as tar does."""
    data = os.urandom(SIZE)
    for number in range(FILES):
        (directory / str(number)).write_bytes(data)


def change(directory: Path) -> None:
    """Open each for writing, and write a byte."""
    for number in range(FILES):
        fd = os.open(directory / str(number), os.O_WRONLY)
        os.pwrite(fd, b"x", number)
        os.close(fd)


def remove(directory: Path) -> None:
    """Remove each."""
    for number in range(FILES):
        os.unlink(directory / str(number))


def copy(directory: Path) -> None:
    """Copy each beside it, and remove nothing."""
    for number in range(FILES):
        shutil.copyfile(directory / str(number), directory / f"{number}.copy")


def spent(work: Callable[[Path], None], directory: Path) -> tuple[float, float]:
    """Do the work. Return its seconds, and those of this process's processor time."""
    begin, used = time.monotonic(), time.process_time()
    work(directory)
    return time.monotonic() - begin, time.process_time() - used


def of_daemon_us(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def measure(kind: str, arena: Path, rounds: int) -> None:
    """Print the rows of a file system."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with file_system(kind, arena) as disk:
        (store := disk / "store").mkdir(mode=0o700)
        (plain := disk / "plain").mkdir()
        mounts = Mounts(arena)
        try:
            mount = mounts.start(POLICY, store, "--app", "sync")
            for number in range(rounds):
                places = {name: f"{name}/{number}" for name in ("free", "kept")}
                for path in places.values():
                    (store / path).mkdir(parents=True)
                    os.chown(store / path, UID, UID)
                for work in (new, change, remove):
                    for name, path in places.items():
                        before = of_daemon_us(mount.pid)
                        wall, used = call_as(UID, spent, work, mount / path, deadline_s=120)
                        used_us = used * 1e6 + of_daemon_us(mount.pid) - before
                        found.setdefault((work.__name__, name), []).append((wall * 1e6, used_us))
                (here := plain / str(number)).mkdir()
                new(here)
                wall, used = spent(copy, here)
                found.setdefault(("change", "cp"), []).append((wall * 1e6, used * 1e6))
        finally:
            mounts.stop_all()
    for what in ("new", "change", "remove"):
        medians = {
            name: [statistics.median(one) / FILES for one in zip(*found[what, name], strict=True)]
            for name in ("free", "kept", "cp")
            if (what, name) in found
        }
        told = [f"{name} {wall:.0f} us ({used:.0f})" for name, (wall, used) in medians.items()]
        ratio = medians["kept"][1] / medians["free"][1]
        print(f"{kind}, {what}: {', '.join(told)}; kept/free {ratio:.2f} of processor time", flush=True)


def main() -> None:
    """Command line."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    enter_private_namespace()
    for kind in ("ext4", "xfs"):
        with tempfile.TemporaryDirectory(prefix="policyfs-bench-") as name:
            Path(name).chmod(0o755)
            measure(kind, Path(name), rounds)


if __name__ == "__main__":
    main()
