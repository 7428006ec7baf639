"""Mounts on a kernel that seems to be an older one: the table in docs/operations.md; in soak test files."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mount.test_idmapped import OPTIONS, POLICY
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import call_as, start_as
from tests.support.mount.daemons import Mount, MountFailed
from tests.support.mount.older_kernel import KERNELS
from tests.support.mount.stores import KERNEL, Mounts

OLDER: Final = "tests.support.mount.older_kernel"
NEWEST: Final = "6.18"
PAGE: Final = CHECKOUT / "docs/operations.md"
SOAK_S: Final = 1200
SOAKED: Final = (
    "ops_files", "ops_names", "ops_attrs", "app_mount", "moved_elsewhere",
)  # fmt: skip
_LISTING: Final = ("ops_listing",)
FROM: Final = {"6.1": (), "6.6": _LISTING, "6.8": _LISTING, "6.12": (*_LISTING, "views", "reload")}
"""views, reload: about passthrough. ops_listing: on 6.1 a working directory that changed has no path."""
APP: Final = 10010
PASSES: Final = "passthrough (from 6.9)"
IDMAPS: Final = "idmapped binds (`--idmap`)"
STAYS: Final = (
    "working directories, and mounts below a directory of the mount, that outlive a reload, and a change of"
    " the name by another program (from 6.2)"
)
ABSENT: Final = "names that the kernel knows to be absent for more than a second (from 6.16)"


def _prepared(mounts: Mounts, store: Path, kernel: str, *options: str) -> Mount:
    mount = mounts.prepare(POLICY, store, "--app", "box", *options)
    mount.expected_mediated = True
    if kernel != NEWEST:
        mount.program = (OLDER,)
        mount.environment["POLICYFS_TEST_KERNEL"] = kernel
    return mount


def _looks_twice(path: Path) -> None:
    assert not path.exists()
    time.sleep(1.1)  # the kernel keeps an absent name for 1 s at least
    assert not path.exists()


def _stays(channel: Any, directory: Path) -> str:
    os.chdir(directory)
    channel.send("there")
    channel.recv()
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "no path"


def _gets(mounts: Mounts, store: Path, kernel: str) -> dict[str, bool]:
    """What a mount has there, by the rows of the table."""
    (store / "Work").mkdir()
    mount = _prepared(mounts, store, kernel, "--uid", str(APP)).start()
    found = {PASSES: bool(mount.status()["passthrough"]["enabled"])}
    call_as(APP, _looks_twice, mount / "none")
    found[ABSENT] = mount.fuse_counters()["LOOKUP"] == 1
    child = start_as(APP, _stays, mount / "Work")
    assert child.receive() == "there"
    mount.policy.write_text(POLICY + '  - {id: more, deny: [see], paths: "/else"}\n')
    assert mount.reload().returncode == 0
    child.send("now")
    found[STAYS] = child.result() == str(mount / "Work")
    assert call_as(APP, os.listdir, mount.mountpoint) == ["Work"]
    idmapped = _prepared(mounts, store, kernel, *OPTIONS[2:])
    idmapped.expected_exit = 0 if kernel in {"6.12", NEWEST} else 1
    refused = pytest.raises(MountFailed, match="--idmap needs Linux")
    with refused if idmapped.expected_exit else contextlib.nullcontext():
        idmapped.start()
    return found | {IDMAPS: not idmapped.expected_exit}


@pytest.mark.parametrize(
    "kernel", [one for one in (*KERNELS, NEWEST) if tuple(map(int, one.split("."))) <= KERNEL]
)
def test_the_table_says_what_one_gets(mounts: Mounts, empty_store: Path, kernel: str) -> None:
    table = PAGE.read_text().partition("| mounts have ")[2].partition("\n\n")[0]
    head, _, *rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    column = next(at for at, cell in enumerate(head) if kernel in re.split(r"[ ,]+", cell)) + 1
    told = {row[1]: row[column] == "yes" for row in rows}
    assert told == _gets(mounts, empty_store, kernel)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 60)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_mount_tests_hold(kernel: str) -> None:
    chosen = [f"tests/mount/test_{name}.py" for name in (*SOAKED, *FROM[kernel])]
    changed = {"POLICYFS_TEST_DAEMON": OLDER, "POLICYFS_TEST_KERNEL": kernel, "POLICYFS_SOAK": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not soak", *chosen],
        cwd=CHECKOUT, env=os.environ | changed, capture_output=True, text=True, timeout=SOAK_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
