"""SIGSTOP of a daemon in the middle of a change: another mount's pages of that file wait, and nothing else.

The change is a checked write. Its daemon stops between its last look at the file and the write, with the
file's latch in its hand (fs/checked/change_lock.py).
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import STOPS, WAITS
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

WRITER, MAPPER = 10010, 10011
RULES: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
  mapper: {{uid: {MAPPER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""
CHECKED: Final = RULES + '  - {id: photos, require: {content: [image/jpeg]}, paths: "/**"}\n'
PHOTO: Final = jpegs.plain(1, 64) + bytes(8192)
FAR_S: Final = 20.0
MARK: Final = b"mapped"


def _write(_channel: Connection, path: Path) -> str:
    fd = os.open(path, os.O_RDWR)
    return code_of(os.pwrite, fd, b"words", 40)


def _map(channel: Connection, path: Path) -> str:
    """Change the file's last page through a mapping, and wait until the store has it."""
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, len(PHOTO)) as pages:
        pages[-len(MARK) :] = MARK
        channel.send("changed")
        return code_of(pages.flush)


class Stopped:
    """A daemon that stands still in a change of a photo, and another mount of the store."""

    def __init__(self, mounts: Mounts, arena: Path, store: Path) -> None:
        fifos = [arena / name for name in ("says", "hears", "waits")]
        for fifo in fifos:
            os.mkfifo(fifo)
        self.fds = [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos]
        self.says, self.hears, self.waits = self.fds
        for name in ("photo", "other"):
            (store / name).write_bytes(PHOTO)
            (store / name).chmod(0o666)
        self.store = store
        told = {STOPS: f"{fifos[0]}:{fifos[1]}", WAITS: str(fifos[2])}
        self.here, self.there = (
            mounts.prepare(CHECKED, store),
            mounts.prepare(RULES, store, "--no-passthrough"),
        )
        for mount, guard in ((self.here, "stops-when-looked"), (self.there, "says-that-it-waits")):
            mount.program, mount.expected_mediated = (WEAKENED, guard), True
            mount.environment |= told
            mount.start()
        self.writer = start_as(WRITER, _write, self.here / "photo")
        assert wait([self.says], FAR_S), "the write does not come so far"
        os.kill(self.here.pid, signal.SIGSTOP)
        wait_for(lambda: " T " in Path(f"/proc/{self.here.pid}/stat").read_text(), "it stands still")

    def mapper(self) -> Child:
        """An app that changes the photo through a mapping in the other mount, and waits for its page."""
        child = start_as(MAPPER, _map, self.there / "photo")
        assert child.receive() == "changed"
        assert wait([self.waits], FAR_S), "the page does not wait"
        return child

    def goes_on(self) -> None:
        """Let the stopped daemon go on, and make its change."""
        os.write(self.hears, b"." * 100)
        os.kill(self.here.pid, signal.SIGCONT)

    def close(self) -> None:
        """Let everybody go."""
        if self.here.process is not None:
            self.goes_on()
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def stopped(mounts: Mounts, arena: Path, empty_store: Path) -> Iterator[Stopped]:
    made = Stopped(mounts, arena, empty_store)
    yield made
    made.close()


def _kept(stored: bytes) -> bool:
    """True if the page of the mapping is in the file."""
    return len(stored) == len(PHOTO) and stored.endswith(MARK)


def _warned(mount: Mount) -> bool:
    told = "the daemon of another mount of the store does not finish its change of this file"
    return told in mount.log.read_text()


def test_the_pages_of_its_file_wait_until_it_goes_on_and_nothing_else_does(stopped: Stopped) -> None:
    """Fault daemon.7: SIGSTOP of a daemon while it makes a checked change of a file, and an app in another
    mount of the store changes the same file through a mapping
    App: The page waits until the stopped daemon goes on or ends: msync and sync(2), and all who change
    this file in the app's mount. Other files go on
    Store: after SIGCONT or `kill -9`: the page. If you end the app's mount first: not the page, and
    msync reports an error
    Trail: as usual. After 5 s the log of the waiting daemon names the file
    Also: ::test_they_are_stored_as_soon_as_it_is_killed,
    ::test_an_unmount_of_the_other_mount_need_not_wait_for_it
    """
    mapper = stopped.mapper()
    other = start_as(MAPPER, _map, stopped.there / "other")
    assert other.receive() == "changed"
    assert other.result() == ""
    assert _kept((stopped.store / "other").read_bytes())
    assert call_as(MAPPER, (stopped.there / "other").read_bytes) == (stopped.store / "other").read_bytes()
    assert sorted(call_as(MAPPER, os.listdir, stopped.there.mountpoint)) == ["other", "photo"]
    assert not _kept((stopped.store / "photo").read_bytes())
    wait_for(lambda: _warned(stopped.there), "it is in the log", FAR_S)
    stopped.goes_on()
    assert mapper.result() == ""
    assert stopped.writer.result() == ""
    assert _kept((stopped.store / "photo").read_bytes())
    for mount in (stopped.here, stopped.there):
        assert mount.status()["bugs"] == 0


def test_they_are_stored_as_soon_as_it_is_killed(stopped: Stopped) -> None:
    mapper = stopped.mapper()
    os.kill(stopped.here.pid, signal.SIGKILL)
    assert mapper.result() == ""
    assert _kept((stopped.store / "photo").read_bytes())
    stopped.here.force_away()
    stopped.writer.result()
    stopped.here.process = None


def test_an_unmount_of_the_other_mount_need_not_wait_for_it(stopped: Stopped) -> None:
    """Its page is lost then, and the app is told."""
    mapper = stopped.mapper()
    os.kill(stopped.there.pid, signal.SIGTERM)
    assert mapper.result() != ""
    assert not _kept((stopped.store / "photo").read_bytes())
