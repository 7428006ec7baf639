"""The announcer: it makes the call of an order, and only in the mount that it was started for."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from policyfs.content.workers import announcer
from tests.support.machine.inchild import in_child


def carry_out(root: Path, *order: bytes, device: int = -1) -> int:
    fd = os.open(root, os.O_PATH)
    try:
        return announcer._carry_out(b"\0".join(order), fd, os.stat(root).st_dev if device < 0 else device)
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old").write_text("words")
    return tmp_path


def test_each_order_is_one_call(root: Path) -> None:
    assert carry_out(root, announcer.FILE, b"d", b"new") == 0
    assert carry_out(root, announcer.WRITTEN_FILE, b"d", b"new") == errno.EEXIST
    assert carry_out(root, announcer.WRITTEN_FILE, b"d", b"written") == 0
    assert carry_out(root, announcer.REMOVED_FILE, b"d", b"written") == 0
    assert carry_out(root, announcer.DIRECTORY, b"", b"e") == 0
    assert carry_out(root, announcer.MOVED, b"d", b"new", b"e", b"moved") == 0
    assert sorted(os.listdir(root / "d") + os.listdir(root / "e")) == ["moved", "old"]
    assert carry_out(root, announcer.REMOVED_FILE, b"e", b"moved") == 0
    assert carry_out(root, announcer.REMOVED_DIRECTORY, b"", b"e") == 0
    assert os.listdir(root) == ["d"]
    os.utime(root / "d/old", (1, 1))
    assert carry_out(root, announcer.BYTES, b"d", b"old") == 0
    assert (os.stat(root / "d/old").st_atime, os.stat(root / "d/old").st_mtime > 1) == (1, True)
    assert carry_out(root, announcer.WRITTEN, b"d", b"old") == 0
    assert carry_out(root, announcer.ATTRIBUTES, b"d", b"old") == 0
    assert os.stat(root / "d/old").st_atime > 1
    assert (root / "d/old").read_text() == "words"


def test_nothing_is_done_on_another_file_system(root: Path) -> None:
    assert carry_out(root, announcer.REMOVED_FILE, b"d", b"old", device=1) == errno.EXDEV
    assert (root / "d/old").exists()


@pytest.mark.parametrize("path", [b"link", b"..", b"/", b"none"])
def test_no_order_leads_elsewhere(root: Path, path: bytes) -> None:
    (root / "link").symlink_to(root / "d")
    assert carry_out(root, announcer.REMOVED_FILE, path, b"old") in {errno.ELOOP, errno.EXDEV, errno.ENOENT}
    assert (root / "d/old").exists()


def test_a_fifo_makes_no_order_wait(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert carry_out(root, announcer.WRITTEN, b"", b"fifo") == errno.ENXIO


def _lives(theirs: socket.socket) -> tuple[int, int, bool]:
    announcer.live(theirs)
    return os.getuid(), os.getgid(), os.stat("/proc/self/fd").st_uid == 0


def test_it_has_the_ids_of_the_app_and_cannot_be_traced() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(json.dumps({"uid": 4242, "gid": 4343, "device": 1}).encode())
        ours.shutdown(socket.SHUT_WR)
        assert tuple(in_child(lambda: _lives(theirs))) == (4242, 4343, True)  # root owns what is not dumpable
        assert ours.recv(100) == announcer.READY
