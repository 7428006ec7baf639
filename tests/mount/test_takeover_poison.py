"""A request that kills each daemon which begins it: it gets EIO, and the mount goes on."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from tests.mount.test_takeover import APP, POLICY, SONGS, filled, records  # noqa: F401 - a fixture
from tests.mount.test_takeover_writes import POLICY as WRITING
from tests.mount.test_takeover_writes import work  # noqa: F401 - a fixture
from tests.support.machine.processes import call_as, code_of, start_as, wait_for


def test_it_gets_eio_after_two_daemons(mounts, filled: Path) -> None:  # noqa: F811
    mount = mounts.prepare(POLICY, filled, "--app", "viewer", "--read-only", "--no-avc")
    mount.program = ("tests.support.mount.poisoned",)
    mount.start()
    at = mount.mountpoint / "Music"
    for again in (1, 2):  # no daemon was in its first second, or the one that follows the poison still is
        assert call_as(APP, lambda: code_of(os.stat, at / "poison")) == "EIO"
        assert call_as(APP, lambda: len(os.listdir(at))) == SONGS + 2
        assert mount.status()["takeover"]["count"] == 2 * again
    wait_for(lambda: len(records(mount, "mount")) == 5, "the records", 10)
    assert [one.get("eio") for one in records(mount, "mount")] == [None, None, 1, None, 1]
    assert "killed gets EIO" in mount.log.read_text()
    assert mount.status()["bugs"] == 0


def test_what_ends_beside_it_ends(mounts, work: Path) -> None:  # noqa: F811
    """The kernel sends FLUSH, RELEASE and RELEASEDIR once. So they have their effect, whatever they get."""
    mount = mounts.prepare(WRITING, work, "--app", "editor", "--keeper", "--no-passthrough")
    mount.program = ("tests.support.mount.poisoned",)
    mount.start()
    at = mount.mountpoint / "Work/0"

    def app(channel) -> None:
        (at / "listed").mkdir()
        flushed, copy, released = (
            os.open(at / name, os.O_RDWR | os.O_CREAT) for name in ("flushed", "flushed", "released")
        )
        os.write(released, b"whole")
        fcntl.lockf(copy, fcntl.LOCK_EX)
        os.close(os.open(at / "listed", os.O_RDONLY | os.O_DIRECTORY))
        os.close(released)
        codes: list[str] = []
        closing = threading.Thread(target=lambda: codes.append(code_of(os.close, flushed)))
        closing.start()
        codes.append(code_of(os.stat, at / "late-poison"))
        closing.join()
        channel.send(codes)
        channel.recv()

    child = start_as(APP, app)
    assert child.receive() == ["EIO", "EIO"]
    assert mount.status()["takeover"]["count"] == 2
    wait_for(lambda: mount.status()["handles"]["open"] == 1, "only the copy is open", 10)
    assert mount.status()["locks"]["held"] == 0  # POSIX: any close of the file ends the process's locks
    child.send("end")
    child.result()
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released", 10)
    assert [one.get("eio") for one in records(mount, "mount")] == [None, None, 4]
    assert (work / "Work/0/released").read_bytes() == b"whole"
    assert mount.status()["bugs"] == 0


def test_an_open_that_kills_leaves_no_handle(mounts, work: Path) -> None:  # noqa: F811
    (work / "Work/0/fatal").write_text("")
    (work / "Work/0/fatal").chmod(0o666)
    mount = mounts.prepare(WRITING, work, "--app", "editor", "--keeper", "--no-passthrough")
    mount.program = ("tests.support.mount.poisoned",)
    mount.start()
    fatal = mount.mountpoint / "Work/0/fatal"
    assert call_as(APP, lambda: code_of(os.open, fatal, os.O_RDWR)) == "EIO"
    assert mount.status()["takeover"]["count"] == 2
    assert mount.status()["handles"]["open"] == 0
    assert mount.status()["bugs"] == 0
