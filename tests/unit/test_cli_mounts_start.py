"""A start of a mount on record: its author, its options, and why it failed, once and never inside a store."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import pytest

from policyfs.cli.mounts import start as starts
from policyfs.cli.mounts.start import Start, options_of
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from tests.support.mount.trail import read_all


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    for name in ("store", "mnt", "trail"):
        (tmp_path / name).mkdir()
    return tmp_path


def start_of(place: Path, **more: object) -> Start:
    words = {
        "store": str(place / "store"), "mountpoint": str(place / "mnt"), "trail": str(place / "trail"),
        "command": "mount", "run": print, "posix": True,
    }  # fmt: skip
    return Start.of(argparse.Namespace(**(words | more)))


def records(place: Path, mountpoint: str = "mnt") -> list[dict]:
    chain = place / "trail" / control.mount_id(str(place / mountpoint))
    if not chain.exists():
        return []
    return [dict(one.fields) for one in read_all(chain) if one.kind == "failed"]


def test_options_are_those_given_without_the_command_itself() -> None:
    assert options_of(argparse.Namespace(run=print, command="mount", kept=[], uid=5)) == {"uid": 5}


def test_a_failed_start_is_on_record_once_with_its_options_and_author(place: Path) -> None:
    start = start_of(place)
    start.failed("no such store")
    start.failed("again")
    (fields,) = records(place)
    assert (fields["reason"], fields["how"]) == ("no such store", "policyfs mount")
    assert fields["options"]["posix"] is True
    assert "run" not in fields["options"]


def test_the_record_goes_by_the_real_mountpoint_also_of_one_that_is_not_there(place: Path) -> None:
    (place / "link").symlink_to("mnt")
    start_of(place, mountpoint=str(place / "link")).failed("linked")
    assert [one["reason"] for one in records(place)] == ["linked"]
    start_of(place, mountpoint=str(place / "none/below")).failed("absent")
    assert [one["reason"] for one in records(place, "none/below")] == ["absent"]


def test_a_mount_that_answered_has_not_failed(place: Path) -> None:
    start = start_of(place)
    start.answered()
    start.failed("later")
    assert records(place) == []


@pytest.mark.parametrize("inside", ["store", "store/trail", "mnt", "mnt/trail"])
def test_nothing_is_written_into_a_store_or_a_mount(place: Path, inside: str) -> None:
    """Also through a symlink."""
    (place / inside).mkdir(exist_ok=True)
    (place / "link").symlink_to(inside)
    for root in (place / inside, place / "link"):
        start_of(place, trail=str(root)).failed("inside")
    assert [name for _, _, names in os.walk(place) for name in names] == []


def test_a_name_that_only_begins_alike_is_not_inside(place: Path) -> None:
    (place / "trail").rename(place / "store-trail")
    start_of(place, trail=str(place / "store-trail")).failed("beside")
    (place / "store-trail").rename(place / "trail")
    assert [one["reason"] for one in records(place)] == ["beside"]


def test_no_trail_root_is_made_for_a_failure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "trail").rmdir()
    start_of(place).failed("nowhere")
    assert not (place / "trail").exists()
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(place / "other"))
    assert start_of(place, trail=None).root == place / "other"


@pytest.mark.parametrize("error", [PolicyfsError("full"), OSError(28, "full")])
def test_a_record_that_fails_hides_no_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(starts, "record", fails)
    start_of(place).failed("a reason")


@pytest.mark.parametrize("answered", [True, False])
def test_one_start_at_a_time_at_a_mountpoint(
    place: Path, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(place / "run"))
    monkeypatch.setattr(starts, "_WAIT_S", 0.05)
    first, second, other = start_of(place), start_of(place), start_of(place, mountpoint=str(place / "other"))
    first.claim()
    other.claim()
    pid = os.fork()  # the daemon and its processes have the lock's descriptor, too
    if pid == 0:
        signal.pause()
    try:
        with pytest.raises(PolicyfsError, match="another process is making a mount"):
            second.claim()
        if answered:
            first.answered()
        else:
            first.failed("ended")
        third = start_of(place)
        third.claim()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for one in (second, third, other):
            one.answered()


def test_a_lock_that_cannot_be_made_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").touch()
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(place / "file/run"))
    with pytest.raises(PolicyfsError, match="set POLICYFS_RUNTIME_DIR"):
        start_of(place).claim()
