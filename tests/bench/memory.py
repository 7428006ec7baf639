"""The memory of mounts and the processor time of their start: `python -m tests.bench.memory [--apps N ...]`.

For each N, `policyfs up` makes N app mounts of one site, each app lists and opens its files, and then the
shares of all memory (PSS, /proc/PID/smaps_rollup) of all their processes are added up. Run it as root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.machine.namespace import detach, enter_private_namespace, mounts_below
from tests.support.machine.processes import call_as

OWN: Final = "/proc/self/ns/mnt"
FIRST_UID: Final = 10100
FILES: Final = 300
FIELDS: Final = ("Pss", "Pss_Anon", "Private_Dirty")
IDLE_AFTER_S: Final = 10.0
IDLE_S: Final = 20.0
SETTLED_S: Final = 3.0
"""The time until workers have started, and the collector has run."""


def policy(apps: int) -> str:
    """Return a policy with so many apps that see all, and redacted photos."""
    names = "\n".join(f"  app{number}: {{uid: {FIRST_UID + number}}}" for number in range(apps))
    return (
        f"apiVersion: policyfs/v1\nkind: Policy\napps:\n{names}\nrules:\n"
        '  - {id: all, allow: [all], who: {app: any}, paths: ["/***"]}\n'
        '  - {id: place, require: {redact: location}, who: {app: any}, paths: ["/**/*.jpg"]}\n'
    )


def share(pid: int, field: str) -> float:
    """Return a field of a process's smaps_rollup in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def processor_time(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, in s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def touch(directory: Path) -> None:
    """Look at each file of a directory, and open it."""
    for path in sorted(directory.iterdir()):
        path.stat()
        path.read_bytes()


def measure(root: Path, apps: int) -> None:
    """Print the memory of a site with so many app mounts, and the time of its start."""
    store = root / "store"
    store.mkdir()
    for number in range(FILES):
        (store / f"{number}.txt").write_bytes(b"text")
    (root / "policy.yaml").write_text(policy(apps))
    mounts = "\n".join(f"  - {{app: app{number}, at: {root}/at{number}}}" for number in range(apps))
    (root / "site.yaml").write_text(
        f"apiVersion: policyfs/v1\nkind: Site\nname: memory\nstore: {store}\npolicy: {root}/policy.yaml\n"
        f"trail: {root}/trail\nmounts:\n{mounts}\n"
    )
    program = [sys.executable, "-I", "-m", "policyfs.cli.main"]
    environment = os.environ | {
        "POLICYFS_RUNTIME_DIR": f"{root}/run", "POLICYFS_STATE_DIR": f"{root}/state",
        "POLICYFS_KEY_DIR": f"{root}/keys",
    }  # fmt: skip
    since, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*program, "up", str(root / "site.yaml")], env=environment, check=True, timeout=300)
    wall, after = time.monotonic() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    left = sum(map(processor_time, processes()))
    try:
        for number in range(apps):
            call_as(FIRST_UID + number, touch, root / f"at{number}")
        time.sleep(SETTLED_S)
        print(f"{apps} app mounts: up after {wall:.2f} s, {waited + left:.2f} s of processor time")
        report()
        print(f"  idle: {idle_switches():.1f} context switches a second")
    finally:
        subprocess.run([*program, "down", str(root / "site.yaml")], env=environment, check=True, timeout=300)
        for entry in mounts_below(root):
            detach(entry.mountpoint)  # a placeholder


def processes() -> list[int]:
    """Return the processes of policyfs that live in the mount namespace of this process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text()
            if name.startswith("policyfs") and os.readlink(process / "ns/mnt") == os.readlink(OWN):
                found.append(int(process.name))
    return sorted(found)


def idle_switches() -> float:
    """Return the context switches a second of all processes, while nobody uses the mounts."""
    time.sleep(IDLE_AFTER_S)
    before = switches()
    time.sleep(IDLE_S)
    return (switches() - before) / IDLE_S


def switches() -> int:
    """Return the number of times that threads of all processes have waited so far."""
    found = 0
    for pid in processes():
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            found += int(status.read_text().rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def report() -> None:
    """Print a table: a row for each sort of process, and the sum."""
    pids = processes()
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    print(f"  {'process':16} {'number':>6} {'PSS':>7} {'anon.':>7} {'own':>7}   MiB")
    for name in [*sorted(set(names.values())), "sum"]:
        some = [pid for pid in pids if name in (names[pid], "sum")]
        shares = [sum(share(pid, field) for pid in some) for field in FIELDS]
        print(f"  {name:16} {len(some):6}" + "".join(f" {one:7.1f}" for one in shares))


def main(words: Sequence[str] | None = None) -> None:
    """Measure sites with each number of apps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, nargs="+", default=[1, 8], metavar="N")
    options = parser.parse_args(words)
    enter_private_namespace()
    for apps in options.apps:
        with tempfile.TemporaryDirectory(prefix="policyfs-memory-") as directory:
            os.chmod(directory, 0o755)
            measure(Path(directory), apps)


if __name__ == "__main__":
    main()
