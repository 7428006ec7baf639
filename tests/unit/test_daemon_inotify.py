"""The announcer of a mount: started, given orders with a descriptor of the root, and replaced."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from policyfs.content.workers.announcer import FILE, READY
from policyfs.content.workers.execution import SnifferError
from policyfs.daemon import inotify as inotify_module
from policyfs.daemon.inotify import Inotify, _Process
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.kernel_cache.announcements import Announcements, Order, Place


class Helper:
    """A process that answers each order with *code*, and counts the starts and orders."""

    def __init__(self, code: int, orders: int) -> None:
        self.code, self.orders, self.starts = code, orders, 0

    async def start(self) -> tuple[int, int, socket.socket]:
        self.starts += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            theirs.recv(1000)
            theirs.send(READY)
            for _ in range(self.orders):
                _, fds, _, _ = socket.recv_fds(theirs, 10_000, 1)
                self.answer(theirs, fds)
            os._exit(0)
        theirs.close()
        return pid, os.pidfd_open(pid), ours

    def answer(self, theirs: socket.socket, fds: list[int]) -> None:
        theirs.send(b"%d" % (self.code if len(fds) == 1 else errno.EBADF))


class Stuck(Helper):
    """A process that never answers an order."""

    def answer(self, theirs: socket.socket, fds: list[int]) -> None:
        signal.pause()


def _run(inotify: Inotify, until) -> None:
    async def wait() -> None:
        with trio.fail_after(20):
            while not until():  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)
        await inotify.stop()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await inotify.run(7)

    trio.run(run)


@pytest.fixture
def own() -> Announcements:
    root = SimpleNamespace(lookups=1, path=lambda: b"/")
    nodes = SimpleNamespace(find=lambda _number: root)
    return Announcements(None, nodes, None, 1000)  # type: ignore[arg-type]


def _ordered(own: Announcements, count: int) -> None:
    own._queue([Order(FILE, Place(1, b"%d" % number)) for number in range(count)])


def test_an_announcer_that_ended_is_replaced(tmp_path: Path, own: Announcements, monkeypatch) -> None:
    monkeypatch.setattr(inotify_module, "_PAUSE_S", 0.01)
    helper, said = Helper(0, orders=2), []
    inotify = Inotify(str(tmp_path), own, helper.start, said.append, uid=1, gid=1)
    try:
        _ordered(own, 5)
        _run(inotify, lambda: own.told >= 3)
    finally:
        inotify.close()
    assert helper.starts >= 2
    assert said[0].startswith("the announcer is replaced")
    assert own.process is None


@pytest.mark.parametrize("is_same", [True, False])
def test_the_announcer_of_the_daemon_before_is_known_until_it_has_ended(
    tmp_path: Path, own: Announcements, is_same: bool
) -> None:
    """Another process with its pid is left alone."""
    helper, state = Helper(0, orders=9), SavedState(2)
    before = _Process(*trio.run(helper.start))
    pid = before.pid
    state.announcer = pid, before.since + (not is_same)
    inotify = Inotify(str(tmp_path), own, helper.start, lambda _: None, uid=1, gid=1, state=state)
    try:
        assert own.is_from(pid) is is_same
        _run(inotify, lambda: helper.starts == 2)
        assert (os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None) is is_same
    finally:
        inotify.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        before.close()
    assert (own.process, state.announcer) == (None, (0, 0))


def test_what_cannot_start_is_said(tmp_path: Path, own: Announcements) -> None:
    async def fails() -> tuple[int, int, socket.socket]:
        raise SnifferError("no room")

    said: list[str] = []
    inotify = Inotify(str(tmp_path), own, fails, said.append, uid=1, gid=1)
    try:
        _run(inotify, lambda: said)
    finally:
        inotify.close()
    assert said == ["inotify reports no change of the store: no room"]
    assert inotify.report() == {"pid": None, "told": 0, "waiting": 0, "lost": 0, "left_out": 0, "starts": 0}


def test_announcers_that_end_at_once_are_replaced_ever_later(tmp_path: Path, own: Announcements) -> None:
    """An app that kills each announcer does not fill the log."""
    helper, at_s = Helper(0, orders=0), []
    inotify = Inotify(str(tmp_path), own, helper.start, lambda _: at_s.append(time.monotonic()), uid=1, gid=1)
    try:
        _run(inotify, lambda: len(at_s) == 5)
    finally:
        inotify.close()
    pauses_s = [later - sooner for sooner, later in pairwise(at_s)]
    assert all(pause_s > 0.1 * 2**number for number, pause_s in enumerate(pauses_s))


def test_an_announcer_that_does_not_answer_is_killed(tmp_path: Path, own: Announcements, monkeypatch) -> None:
    """As one that the app has stopped."""
    monkeypatch.setattr(inotify_module, "_LONGEST_S", 0.2)
    monkeypatch.setattr(inotify_module, "_PAUSE_S", 0.01)
    helper, said = Stuck(0, orders=1), []
    inotify = Inotify(str(tmp_path), own, helper.start, said.append, uid=1, gid=1)
    try:
        _ordered(own, 2)
        _run(inotify, lambda: helper.starts >= 3)
    finally:
        inotify.close()
    assert (own.told, own.lost) == (0, 2)
