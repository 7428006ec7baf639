"""Checks of a container: pids of callers, and mounts that others see."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from policyfs.cli.machine.container_checks import FIRST_PID_NAMESPACE, check_callers, check_propagation
from policyfs.cli.machine.findings import State
from policyfs.linux.mountinfo import mount_id_of_fd


def test_the_machines_own_process_namespace_is_fine() -> None:
    assert check_callers(FIRST_PID_NAMESPACE).state is State.OK


def _mount_id(path: str) -> int | None:
    fd = os.open(path, os.O_PATH)
    try:
        return mount_id_of_fd(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("fields", "state"),
    [("shared:7 ", State.OK), ("shared:7 master:3 ", State.OK), ("master:3 ", State.OFF), ("", State.OFF)],
)
def test_only_mounts_below_a_shared_one_are_seen_elsewhere(fields: str, state: State) -> None:
    line = f"{_mount_id('/')} 1 0:5 / / rw,relatime {fields}- tmpfs shared:1 rw\n"
    assert check_propagation("/", [line]).state is state


def test_a_directory_in_no_mount_is_an_error() -> None:
    with pytest.raises(LookupError, match="no known mount"):
        check_propagation("/", [])


@pytest.mark.mount
@pytest.mark.parametrize(("propagation", "states"), [("private", ["off", "off"]), ("shared", ["off", "ok"])])
def test_doctor_says_what_a_container_lacks(propagation: str, states: list[str]) -> None:
    """In real namespaces, as a container without --pid=host has them."""
    words = ["unshare", "--mount", f"--propagation={propagation}", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(
        [*words, sys.executable, "-m", "policyfs.cli.main", "doctor", "--json"],
        stdout=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert [rows[name]["state"] for name in ("callers", "propagation")] == states
    assert "--pid=host" in rows["callers"]["todo"]
