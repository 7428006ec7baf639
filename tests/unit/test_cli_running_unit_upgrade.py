"""Which mounts the reload of a unit upgrades. tests/mount/test_booted_upgrade.py does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.mounts.start import options_of
from policyfs.cli.running import unit_upgrade
from policyfs.cli.running.unit_upgrade import upgraded
from policyfs.errors import PolicyfsError
from policyfs.linux.service_manager import ServiceManager
from tests.unit.test_cli_mounts_follow import arguments
from tests.unit.test_cli_running_manage import answering, place  # noqa: F401

KEPT = {
    "takeover": {"keeper": 7},
    "options": {**options_of(arguments("--keeper", "--foreground")), "of_old": 1},
}


@pytest.mark.parametrize("changed", [{}, {"code": "0", "takeover": None}, {"code": "0", "options": {}}])
def test_what_stays(place: Path, changed: dict[str, Any]) -> None:  # noqa: F811
    with answering(place, **{**KEPT, **changed}):
        assert upgraded(str(place / "one"), ServiceManager()) == ""


def test_the_reason_why_a_mount_goes_on_is_told(place: Path) -> None:  # noqa: F811
    told = r"the installed code, .*, has not taken over, and 0.9 goes on: no mount of /s is at /m"
    with answering(place, code="0", version="0.9", **KEPT), pytest.raises(PolicyfsError, match=told):
        upgraded(str(place / "one"), ServiceManager())


def test_a_package_reloads_units_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    ran = place / "ran"
    tool = place / "systemctl"
    tool.write_text(f"#!/bin/sh\necho $* >>{ran}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(unit_upgrade, "program", lambda name: str(place / name))
    with answering(place, code="0", pid=os.getpid(), **KEPT):
        unit_upgrade.main()
    assert not ran.exists(), "this process is in no unit of policyfs"
