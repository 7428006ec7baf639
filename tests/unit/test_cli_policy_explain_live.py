"""Parts of live explanations; tests/mount/test_policy_explain_live.py has whole ones."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import trio

from policyfs.cli.policy import explain_live
from policyfs.cli.policy.explain_live import LiveFile, is_mount, notes, process, user_of
from policyfs.domain import Facts, FileType, Op
from policyfs.errors import PolicyfsError, UsageError
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.daemons import policyfs
from tests.support.mount.steps import CAMERA, OPEN


def test_the_user_of_a_process() -> None:
    assert process(os.getpid()).uid == os.geteuid()
    with pytest.raises(PolicyfsError, match="there is no process 999999999"):
        process(999999999)


def test_the_user_of_a_mount() -> None:
    app = {"admits": {"any": False, "uid": 10010, "gids": [10020]}}
    assert user_of(None, None, app) == (10010, 10020, (10020,))
    assert user_of(7, None, app) == (7, 7, (7,))
    with pytest.raises(UsageError, match="name the caller"):
        user_of(None, None, {"admits": {"any": True, "uid": None, "gids": []}})


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    absent = LiveFile(b"/a", None, Facts())
    passthrough = {"why_not": "switched off (--no-passthrough)"}
    status = {"store": str(tmp_path), "mountpoint": "/mnt/media", "passthrough": passthrough}
    assert list(notes(status, absent)) == [f"  live: {tmp_path} has no /a"]
    assert absent.ftype is FileType.REGULAR


def test_only_an_empty_directory_may_be_an_absent_mount(tmp_path: Path) -> None:
    assert not is_mount(str(tmp_path / "absent"))
    said = policyfs("policy", "explain", tmp_path, "/a", "--uid", "7")
    assert said.returncode == 1
    assert f"no policyfs daemon answers for {tmp_path}: there is no policyfs mount" in said.stderr
    (tmp_path / "a.yaml").touch()
    assert not is_mount(str(tmp_path))


class FakeSniffer:
    async def kind_of_fd(self, fd: int, *, lane: object) -> str:
        del fd, lane
        return "image/jpeg"


@pytest.mark.parametrize(
    ("leases", "error", "is_written"),
    [(False, errno.EAGAIN, False), (True, errno.EAGAIN, True), (True, errno.EACCES, None)],
    ids=["no-leases", "written", "no-answer"],
)
def test_a_program_that_writes_the_file(
    store: Path, monkeypatch: pytest.MonkeyPatch, leases: bool, error: int, is_written: bool | None
) -> None:
    """A store without leases may answer EAGAIN to every lease."""

    def refuses(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    before = signal.getsignal(signal.SIGIO)
    found = LiveFile(b"/a.jpg", None, Facts())
    engine = engine_of(OPEN)
    with Tree.open(str(store)) as tree, monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", refuses)
        sniff = partial(explain_live._sniff, leases=leases)
        words = (found, tree, [b"a.jpg"], engine, engine.principal(CAMERA), Op.READ, FakeSniffer())
        if is_written is None:
            with pytest.raises(PolicyfsError, match=r"cannot find out .* \(Permission denied\)"):
                trio.run(sniff, *words)
        else:
            trio.run(sniff, *words)
            assert found.written is is_written
    signal.signal(signal.SIGIO, before)


def test_on_a_file_system_without_leases_within_the_store_no_writer_is_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, engine = LiveFile(b"/a.jpg", None, Facts()), engine_of(OPEN)
    monkeypatch.setattr(explain_live, "leases_mean", lambda fd: False)
    with Tree.open(str(store)) as tree, (store / "a.jpg").open("r+b"):
        sniff = partial(explain_live._sniff, leases=True)
        trio.run(sniff, found, tree, [b"a.jpg"], engine, engine.principal(CAMERA), Op.READ, FakeSniffer())
    assert not found.written
