"""Notifications make the kernel forget what it was told to keep for a day."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from policyfs.kernel.notify import Notifier
from tests.support.machine.namespace import abort_connection
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount.tinyfs import error_of

DAY_S = 86400.0


def settled(fs, *notification) -> None:
    """Queue a notification and wait until the kernel has it."""
    assert fs.call("notify", *notification)
    wait_for(lambda: fs.call("notify", "drain", 0.0), "the notifier to drain")


def sent_by(fs, opcode: str, action) -> int:
    """How many requests of a kind an action causes."""
    before = fs.count(opcode)
    action()
    return fs.count(opcode) - before


def test_a_day_of_caching_without_notifications(tiny):
    fs = tiny(timeout_s=DAY_S)
    os.stat(fs.path("f"))
    assert sent_by(fs, "LOOKUP", lambda: os.stat(fs.path("f"))) == 0
    assert sent_by(fs, "GETATTR", lambda: os.stat(fs.path("f"))) == 0


def test_inval_entry_in_both_forms(tiny):
    fs = tiny(timeout_s=DAY_S)
    for expire_only in (True, False):
        os.stat(fs.path("f"))
        settled(fs, "inval_entry", 1, b"f", expire_only)
        assert sent_by(fs, "LOOKUP", lambda: os.stat(fs.path("f"))) == 1
    assert fs.call("notifier_stats").sent == 2


def test_inval_inode_of_attributes(tiny):
    fs = tiny(b"12345", timeout_s=DAY_S)
    assert os.stat(fs.path("m")).st_size == 5
    fs.backing.write_bytes(b"1234567")
    assert os.stat(fs.path("m")).st_size == 5
    settled(fs, "inval_inode", 3)
    assert os.stat(fs.path("m")).st_size == 7


def test_inval_inode_of_pages(tiny):
    fs = tiny(b"old bytes", timeout_s=DAY_S)
    with open(fs.path("m"), "rb") as file:
        assert os.pread(file.fileno(), 100, 0) == b"old bytes"
        fs.backing.write_bytes(b"new bytes")
        assert os.pread(file.fileno(), 100, 0) == b"old bytes"
        settled(fs, "inval_inode", 3, 0, 0)
        assert os.pread(file.fileno(), 100, 0) == b"new bytes"


def test_inval_inodes_drops_many_at_once(tiny):
    fs = tiny(b"12345", timeout_s=DAY_S)
    assert [os.stat(fs.path(name)).st_size for name in "fm"] == [5, 5]
    fs.backing.write_bytes(b"1234567")
    settled(fs, "inval_inodes", [*range(1, 6), 4711])
    assert [os.stat(fs.path(name)).st_size for name in "fm"] == [7, 7]
    stats = fs.call("notifier_stats")
    assert (stats.sent, stats.absent) == (3, 3)  # the root and two files are known


def test_inc_epoch_expires_every_name(tiny):
    fs = tiny(timeout_s=DAY_S)
    names = ("f", "m", "d")
    for name in names:
        os.stat(fs.path(name))
    settled(fs, "inc_epoch")
    assert sent_by(fs, "LOOKUP", lambda: [os.stat(fs.path(name)) for name in names]) == 3


def test_prune_forgets_idle_nodes_and_spares_open_ones(tiny):
    fs = tiny(timeout_s=DAY_S)
    with open(fs.path("m"), "rb"):
        os.stat(fs.path("f"))
        settled(fs, "prune", [2, 3])
        wait_for(lambda: 2 in fs.call("look").forgotten, "FORGET of the idle node")
        assert 3 not in fs.call("look").forgotten


def test_what_the_kernel_does_not_know_is_normal(tiny):
    fs = tiny(timeout_s=DAY_S)
    fs.initialised()
    settled(fs, "inval_inode", 4711)
    settled(fs, "inval_entry", 4711, b"x", True)
    stats = fs.call("notifier_stats")
    assert (stats.absent, stats.failed, stats.last_errors) == (2, 0, ())


def test_what_the_kernel_refuses_is_counted_and_named(tiny):
    fs = tiny(timeout_s=DAY_S)
    fs.initialised()
    settled(fs, "inval_entry", 1, b"x" * 5000, True)  # longer than any name
    stats = fs.call("notifier_stats")
    assert (stats.sent, stats.failed) == (0, 1)
    assert stats.last_errors == ("INVAL_ENTRY: ENAMETOOLONG",)


def read_slow(_channel, path: str) -> bytes:
    return Path(path).read_bytes()


def test_a_read_in_flight_holds_up_the_thread_and_not_the_loop(tiny):
    fs = tiny(b"late", timeout_s=DAY_S)
    child = start_as(0, read_slow, fs.path("slow"))
    wait_for(lambda: fs.call("is_waiting"), "the READ")
    assert fs.call("notify", "inval_inode", 4, 0, 0)
    assert not fs.call("notify", "drain", 0.2)
    assert os.stat(fs.path("m")).st_size == 4  # the loop answers
    fs.call("let_go")
    assert child.result(10.0) == b"late"
    wait_for(lambda: fs.call("notify", "drain", 0.0), "the notifier to drain")


def test_closing_never_waits_for_ever(tiny):
    fs = tiny(b"late", timeout_s=DAY_S)
    child = start_as(0, lambda _channel: error_of(Path(fs.path("slow")).read_bytes))
    wait_for(lambda: fs.call("is_waiting"), "the READ")
    assert fs.call("notify", "inval_inode", 4, 0, 0)
    start = time.monotonic()
    assert fs.call("notify", "close", 0.2) is False
    assert time.monotonic() - start < 5.0
    assert abort_connection(fs.device.conn_id)
    assert child.result(10.0) in (errno.ECONNABORTED, errno.EIO, errno.ENOTCONN)
    fs.child.send(("let_go", ()))
    assert fs.child.result() == 1  # the daemon can end; nobody took its reply to the READ


def test_nothing_is_sent_after_closing(tiny):
    fs = tiny(timeout_s=DAY_S)
    fs.initialised()
    settled(fs, "inval_inode", 4711)
    assert fs.call("notify", "close", 5.0)
    assert fs.call("notify", "inval_inode", 2) is False


def test_errors_are_counted_and_an_ended_connection_ends_the_notifier():
    with open("/dev/fuse", "rb", buffering=0) as unmounted:  # writing to it is EPERM or EBADF
        notifier = Notifier(unmounted.fileno(), minor=45)
        assert notifier.inval_inode(5)
        wait_for(lambda: notifier.stats().failed == 1, "the failure")
        assert notifier.stats().last_errors == ("INVAL_INODE: EBADF",)
        assert notifier.close(10.0)
    fd = os.open("/dev/fuse", os.O_RDWR)
    notifier = Notifier(fd, minor=45)
    os.close(fd)  # the notifier has its own
    assert notifier.inval_inode(5)
    wait_for(lambda: not notifier.inval_inode(6), "the notifier to give up")
    assert notifier.stats().last_errors == ("INVAL_INODE: EPERM",)
    assert notifier.close(10.0)
