"""E3: names that are made to be dear for the policy: long rows of digits where it says ``{uid}``."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.load

HOSTILE, HONEST = 10010, 10011
NAMES: Final = 5
READS: Final = 10
NAME_S: Final = 0.04
"""Seconds of the daemon's processor time that a name may take; where all numbers are tried: 0.1."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  hostile: {{uid: {HOSTILE}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: way, allow: [see], paths: "/inbox"}}
  - {{id: own, allow: [all], paths: "/inbox/*-{{uid}}*"}}
"""


@pytest.fixture
def furnished(empty_store: Path) -> Path:
    (empty_store / "inbox").mkdir()
    (empty_store / "inbox").chmod(0o777)
    (empty_store / "inbox" / f"mail-{HONEST}.txt").write_text("honest")
    os.chown(empty_store / "inbox" / f"mail-{HONEST}.txt", HONEST, HONEST)
    return empty_store


def _probe(channel: Connection, inbox: Path, on: bool = False) -> int:
    """Ask for names of many digits, *on* and on until told to stop; how many were absent or hidden."""
    chance = random.Random(3)
    absent = 0
    while absent < NAMES or (on and not channel.poll()):
        absent += not (inbox / ("-" + "".join(chance.choices("0123456789", k=250)))).exists()
        channel.send("asks")
    return absent


def _work(_channel: Connection, inbox: Path) -> None:
    """An honest app's work."""
    for _ in range(READS):
        assert (inbox / f"mail-{HONEST}.txt").read_text() == "honest"


def spent_s(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_s(mount: Mount) -> float:
    """Seconds of the daemon's time for each name that the hostile app asks for."""
    before = spent_s(mount.pid)
    hostile = start_as(HOSTILE, _probe, mount / "inbox")
    assert hostile.result(60) == NAMES
    return (spent_s(mount.pid) - before) / NAMES


def honest_beside(mount: Mount) -> None:
    """Let an honest app work while the other asks for its names."""
    hostile = start_as(HOSTILE, _probe, mount / "inbox", True)
    assert hostile.receive() == "asks"
    start_as(HONEST, _work, mount / "inbox").result()
    hostile.send("it is over")
    hostile.result(60)


def test_a_long_row_of_digits_costs_no_more_than_another_name(mounts: Mounts, furnished: Path) -> None:
    """Attack E3.1: Use names that cost the policy much time: long rows of digits at a glob's `{uid}`, and
    nested directories of such names
    Guard: policyfs/policy/globs/names.py::Captured.bind, policyfs/policy/memo.py::Memo.keep
    Also: ::test_an_app_mount_is_not_held_up_either, tests/unit/test_policy_dear_names.py
    Without: ::test_it_is_dear_where_every_number_is_tried
    """
    mount = mounts.start(POLICY, furnished)
    assert cost_s(mount) < NAME_S
    honest_beside(mount)


def test_an_app_mount_is_not_held_up_either(mounts: Mounts, furnished: Path) -> None:
    assert cost_s(mounts.start(POLICY, furnished, "--app", "hostile")) < NAME_S


def test_it_is_dear_where_every_number_is_tried(without: Callable[..., Mount], furnished: Path) -> None:
    assert cost_s(without("every-number", POLICY, furnished)) > 2 * NAME_S
