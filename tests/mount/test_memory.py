"""What a mount that nobody uses takes of the machine's memory, its workers counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.holdings import anonymous_memory, family_of, minor_faults, own_memory
from tests.support.mount.stores import Mounts

MIB: Final = 1 << 20
GALLERY: Final = 10011
MOST_MIB: Final = 60
"""56 today, 4 for structlog and python-magic; 14 more where the daemon parses policies itself (`LARGE`)."""

POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {uid: 10011}
rules:
  - {id: read, allow: [see, read], who: {app: gallery}, paths: ["/***"]}
  - {id: no-location, require: {redact: location}, who: {app: gallery}, paths: ["/**/*.jpg"]}
"""

LARGE: Final = frozenset({
    "policyfs.redact.registry", "asyncio", "ssl", "idna", "http", "xml", "unittest", "pydoc",
    "concurrent.futures", "multiprocessing", "pydantic", "ruamel.yaml", "policyfs.policy.text.parse",
})  # fmt: skip
"""What brings more than the daemon's own code, and is of no use while it serves."""
MODULES: Final = """\
import sys
from policyfs.linux.interpreter import UNUSED, LateModule, load_late
load_late(*UNUSED)
import policyfs.cli.mounts.mount, policyfs.daemon.daemon
print(*(name for name, module in sys.modules.items() if type(module) is not LateModule))
"""
LIBRARIES: Final = ("/_ssl.", "/_asyncio.", "/_multiprocessing.", "/libssl.")
"""Parts of paths that are mapped once such a module is loaded."""


def test_an_idle_app_mount_takes_little_memory(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.prepare(POLICY, empty_store, "--app", "gallery")
    mount.executed = True  # with an interpreter of its own, which shares no page with this one
    mount.start()
    # Daemon, launcher, zygote, and one worker that waits.
    wait_for(lambda: len(family_of(mount.pid)) == 4, "all have started")
    taken = {pid: own_memory(pid) / MIB for pid in family_of(mount.pid)}
    assert sum(taken.values()) <= MOST_MIB, taken
    maps = Path(f"/proc/{mount.pid}/maps").read_text()
    assert not [name for name in LIBRARIES if name in maps]


def test_a_daemon_imports_nothing_that_only_parsers_need() -> None:
    done = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, check=True, timeout=60)
    assert not LARGE & set(done.stdout.decode().split())


def test_workers_import_nothing_that_only_the_daemon_needs() -> None:
    """Each mount has three such processes, and a library of 1.5 MiB counts three times."""
    modules = "policyfs.content.workers.zygote, policyfs.content.workers.worker"
    program = f"import sys, {modules}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert not {"trio", "pydantic", "structlog"} & set(done.stdout.decode().split())


WRITTEN: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {uid: 10011}
rules:
  - {id: all, allow: [all], who: {app: gallery}, paths: ["/***"]}
  - {id: kinds, require: {content: ["text/*"]}, paths: ["/**"]}
"""
PIECES: Final = 120
MOST_WRITTEN_MIB: Final = 16
"""280 where the daemon's tasks take turns: each has a buffer of 1 MiB."""


def test_long_writes_one_by_one_fill_few_buffers(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(WRITTEN, empty_store)

    def write(pieces: int) -> None:
        with (mount / "long.txt").open("ab", buffering=0) as file:
            for _ in range(pieces):
                assert file.write(b"words\\n" * 174_762) > 1_000_000

    (empty_store / "long.txt").write_text("words\\n")
    (empty_store / "long.txt").chmod(0o666)
    call_as(GALLERY, write, 2)
    before = anonymous_memory(mount.pid)
    call_as(GALLERY, write, PIECES)
    assert (empty_store / "long.txt").stat().st_size > PIECES * 1_000_000
    assert (anonymous_memory(mount.pid) - before) / MIB < MOST_WRITTEN_MIB


LONG_BYTES: Final = 96 * MIB
MOST_FAULTS: Final = 60
"""Of one read of 1 MiB. 480 where each buffer is of pages that the kernel has to clear first."""


def test_long_reads_take_the_memory_of_those_before(mounts: Mounts, empty_store: Path) -> None:
    """Reads of 1 MiB that the daemon answers: of a file that is too large to copy."""
    mount = mounts.start(WRITTEN, empty_store)
    with (empty_store / "long.txt").open("wb") as file:
        for _ in range(LONG_BYTES // MIB):
            file.write(b"sixteen letters\n" * (MIB // 16))
    (empty_store / "long.txt").chmod(0o644)

    def read() -> int:
        with (mount / "long.txt").open("rb", buffering=0) as file:
            return sum(len(piece) for piece in iter(lambda: file.read(MIB), b""))

    def measured() -> tuple[int, int, int]:
        return mount.fuse("READ"), minor_faults(mount.pid), anonymous_memory(mount.pid)

    assert call_as(GALLERY, read) == LONG_BYTES
    os.utime(empty_store / "long.txt")  # the kernel forgets the pages
    reads, faults, held = measured()
    assert call_as(GALLERY, read) == LONG_BYTES
    more_reads, more_faults, more_held = measured()
    assert more_reads - reads >= LONG_BYTES // MIB
    assert (more_faults - faults) / (more_reads - reads) < MOST_FAULTS
    assert (more_held - held) / MIB < MOST_WRITTEN_MIB
