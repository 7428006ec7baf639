"""The last seal of each chain, kept beside the keys: it shows that sealed files at the end were removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policyfs.cli.audit.evidence import of_machine
from policyfs.domain import Audit
from policyfs.journal.sealing.keys import KeyStore
from tests.support.mount.audited import Cli
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, segments


class Machine:
    """A machine with one chain and its keys."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.keys = KeyStore(root / "keys")
        self.cli = Cli(root / "trail", capsys)
        self.chain = self.cli.chain

    def run(self, *, events: int = 40, keep: int = 0) -> None:
        """Let a daemon record events in small segments, seal them all, and end in order."""
        with a_journal(self.cli.root, segment_bytes=4096, keep=keep, keys=self.keys) as journal:
            for _ in range(events):
                journal.record(an_event(), Audit.REQUIRED)
                journal._writer.prune()

    def copy(self) -> Path:
        """Return a copy of the chain, outside of the trail root."""
        copy = self.cli.root.parent / "copy"
        shutil.copytree(self.chain, copy / MOUNT_ID)
        return copy

    def put_back(self, copy: Path) -> None:
        """Exchange the chain for its older copy."""
        shutil.rmtree(self.chain)
        (copy / MOUNT_ID).rename(self.chain)


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Machine:
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    made = Machine(tmp_path, capsys)
    made.run()
    return made


def _end(machine: Machine) -> Path:
    [end] = machine.keys.directory.glob("*.end")
    return end


def test_a_whole_chain_is_whole_with_its_last_seal(machine: Machine) -> None:
    machine.cli("verify")
    assert machine.cli.err == ""
    machine.run()  # the daemon goes on in the segment that was sealed at the end
    machine.cli("verify")
    assert machine.cli.err == ""
    assert len(_end(machine).read_bytes().splitlines()) == 1
    assert _end(machine).stat().st_mode & 0o777 == 0o600


def test_newest_segments_removed_with_their_seals_are_missed(machine: Machine) -> None:
    for newest in segments(machine.chain)[-2:]:
        newest.unlink()
        newest.with_suffix(".seal").unlink()
    assert "the end of the chain was cut off" in machine.cli("verify", code=1)
    assert str(_end(machine)) in machine.cli.err


def test_an_older_copy_put_back_is_told(machine: Machine) -> None:
    copy = machine.copy()
    machine.run()
    machine.put_back(copy)
    assert "an older copy was put back" in machine.cli("verify", code=1)


@pytest.mark.parametrize("events", [1, 200])
def test_an_older_copy_that_a_daemon_has_continued_is_told(machine: Machine, events: int) -> None:
    copy = machine.copy()
    machine.run()
    machine.put_back(copy)
    machine.run(events=events)
    machine.run(events=events)
    machine.cli("verify", code=1)


@pytest.mark.parametrize("anew", [False, True])
def test_a_chain_removed_as_a_whole_is_told(machine: Machine, *, anew: bool) -> None:
    shutil.rmtree(machine.chain)
    if anew:
        machine.run(events=1)
    machine.cli("verify", code=1)
    assert MOUNT_ID in machine.cli.err
    _end(machine).unlink()
    assert of_machine(str(machine.cli.root)).checkpoints == []


def test_what_retention_removed_is_not_missed(machine: Machine) -> None:
    machine.run(keep=2)
    machine.run(keep=2)
    assert not segments(machine.chain)[0].name.startswith("00000001-")
    machine.cli("verify")
    assert machine.cli.err == ""


def test_of_a_copy_one_line_says_what_was_not_checked(machine: Machine) -> None:
    copy = machine.copy()
    machine.run()
    cli = Cli(copy, machine.cli._capsys)
    cli("verify")
    [line] = cli.err.splitlines()
    assert "not checked: whether the newest sealed files of" in line


def test_one_chain_by_its_directory_is_compared_too(machine: Machine) -> None:
    [line] = of_machine(str(machine.chain)).checkpoints
    assert of_machine(str(machine.cli.root)).checkpoints == [line]
