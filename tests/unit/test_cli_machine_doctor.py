"""doctor: the command's output and exit code, and checks that cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.kernel.protocol import InitFlag
from policyfs.kernel.trial import try_passthrough
from tests.support.machine.namespace import mounts_below
from tests.support.mount.daemons import policyfs


@pytest.mark.mount
def test_the_trial_mount_finds_passthrough_and_leaves_nothing(tmp_path: Path) -> None:
    for directory in (None, str(tmp_path)):
        trial = try_passthrough(directory)
        assert trial.backing is None
        assert InitFlag.PASSTHROUGH in trial.offered
    assert list(tmp_path.iterdir()) == []
    assert not [entry for entry in mounts_below(Path("/tmp")) if entry.source == "trial"]


@pytest.mark.mount
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    said = policyfs("doctor", str(tmp_path))
    assert said.returncode == 0, said
    assert "passthrough" in said.stdout
    rows = json.loads(policyfs("doctor", "--json", str(tmp_path)).stdout)
    assert {"name", "state", "what", "todo"} == set(rows[0])
    assert [row["state"] for row in rows if row["name"] == "passthrough"] == ["ok"]


@pytest.mark.mount
def test_something_bad_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    said = policyfs("doctor", "--trail", str(tmp_path / "file"))
    assert said.returncode == 1
    assert "bad   trail" in said.stdout


def test_a_check_that_cannot_run_is_a_line_and_the_others_run() -> None:
    """Without /proc several checks have nothing to look at."""
    command = 'umount -l /proc && exec "$0" -m policyfs.cli.main doctor --json'
    words = ["unshare", "--mount", "sh", "-c", command, sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["capability"]["state"] == "error"
    assert "/proc/self/status" in rows["capability"]["what"]
    assert "as root" in rows["capability"]["todo"]
    assert {"fusectl", "kernel", "libmagic", "trail"} <= rows.keys()
    assert rows["libmagic"]["state"] == "ok"
