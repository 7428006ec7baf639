"""The state of a mount, as a child finds it that may hang: here the answers are planted."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.kernel import probe
from policyfs.kernel.probe import MountState, mount_state
from policyfs.linux.mountinfo import FSTYPE, Mount

APP = 10011


def planted(monkeypatch: pytest.MonkeyPatch, *options: str, fstype: str = FSTYPE) -> None:
    """Have every path be a mount with these options."""
    mount = Mount(2, 1, 42, "/", "/mnt", frozenset(), fstype, "store", frozenset(options))
    monkeypatch.setattr(probe, "mounts_at", lambda path: [mount])


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], object]) -> None:
    """Have statfs(2) do this, in the child."""
    monkeypatch.setattr(os, "fstatvfs", lambda fd: answer())


def fail(code: int) -> Callable[[], object]:
    def raise_it() -> None:
        raise OSError(code, "planted")

    return raise_it


def test_what_is_no_mount_of_ours_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mount_state(str(tmp_path)) is MountState.NONE
    planted(monkeypatch, "allow_other", fstype="ext4")
    assert mount_state(str(tmp_path)) is MountState.NONE
    assert mount_state(str(tmp_path / "absent/below")) is MountState.NONE


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, MountState.ALIVE),
        (errno.EACCES, MountState.ALIVE),
        (errno.EIO, MountState.ALIVE),
        (errno.ENOTCONN, MountState.DEAD),
        (errno.ENODEV, MountState.DEAD),
        (errno.ECONNABORTED, MountState.DEAD),
    ],
)
def test_any_answer_of_a_daemon_is_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: MountState
) -> None:
    planted(monkeypatch, "allow_other")
    answering(monkeypatch, fail(code) if code else lambda: None)
    assert mount_state(str(tmp_path)) is state


def test_a_daemon_that_hangs_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "allow_other")
    answering(monkeypatch, lambda: time.sleep(60))
    begun = time.monotonic()
    assert mount_state(str(tmp_path), 0.1) is MountState.SILENT
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("code", "state"), [(errno.ENOTCONN, MountState.DEAD), (errno.EACCES, MountState.CLOSED)]
)
def test_a_mount_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: MountState
) -> None:
    def refused(*_: object) -> int:
        raise OSError(code, "planted")

    planted(monkeypatch, "allow_other")
    monkeypatch.setattr(os, "open", refused)
    assert mount_state(str(tmp_path)) is state


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_the_mounts_own_user_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, f"user_id={APP}", f"group_id={APP + 1}")
    ids = ((APP,) * 3, (APP + 1,) * 3)
    answering(monkeypatch, lambda: None if (os.getresuid(), os.getresgid()) == ids else fail(errno.ENODEV)())
    assert mount_state(str(tmp_path)) is MountState.ALIVE
    assert os.geteuid() == 0


def test_who_cannot_become_its_user_cannot_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: int) -> None:
        raise PermissionError(errno.EPERM, "planted")

    planted(monkeypatch, f"user_id={APP}", f"group_id={APP}")
    monkeypatch.setattr(os, "setresgid", refused)
    assert mount_state(str(tmp_path)) is MountState.CLOSED
