"""The notifier's bytes and its queue, written into a pipe in the device's place."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading
import time
from collections.abc import Callable

import pytest

from policyfs.kernel import messages, notify
from policyfs.kernel.notify import Notifier, WaitingMessages
from tests.support.machine.processes import wait_for

NEWEST = 45
DEADLINE_S = 10.0


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def start(pipe):
    """`start(minor, capacity)`: a notifier on the pipe, which is emptied in the end."""
    made: list[Notifier] = []

    def begin(minor: int = NEWEST, **options) -> Notifier:
        made.append(Notifier(pipe[1], minor=minor, **options))
        return made[-1]

    yield begin
    os.set_blocking(pipe[0], False)
    for notifier in made:
        while not notifier.close(0.01):
            _read_all(pipe[0])


def _read_all(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def _read_in_time(fd: int, most: int) -> bytes:
    assert select.select([fd], [], [], DEADLINE_S)[0], "no notification came"
    return os.read(fd, most)


def message(fd: int) -> tuple[int, bytes]:
    """The code and the body of the next notification. Fails if none comes in time."""
    length, code, unique = struct.unpack("=IiQ", _read_in_time(fd, 16))
    assert unique == 0
    body = b""
    while len(body) < length - 16:  # a pipe gives a long message in pieces
        body += _read_in_time(fd, length - 16 - len(body))
    assert len(body) == length - 16
    return code, body


def _hanging(
    monkeypatch: pytest.MonkeyPatch, hangs: Callable[[bytes], bool], *, hangs_s: float = 0.05
) -> threading.Event:
    """Let the kernel take no message of a kind until the event is set. hangs: True for such a message."""
    let_go, written = threading.Event(), Notifier._written

    def wait(self: Notifier, message: bytes) -> int:
        if hangs(message):
            assert let_go.wait(DEADLINE_S)
        return written(self, message)

    monkeypatch.setattr(Notifier, "_written", wait)
    monkeypatch.setattr(notify, "_HANGS_S", hangs_s)
    return let_go


def _hanging_after_look(notifier: Notifier) -> int:
    """Return the number of threads that hang, once the notifier has looked at them."""
    notifier.tend()
    return notifier.stats().hanging


def test_every_notification_as_the_kernel_reads_it(pipe, start):
    notifier = start()
    assert notifier.inval_inode(7)
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 7, -1, 0))
    assert notifier.inval_inode(7, 4096, 100)
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 7, 4096, 100))
    assert notifier.inval_entry(1, b"name", True)
    assert message(pipe[0]) == (3, struct.pack("=QII", 1, 4, 1) + b"name\0")
    assert notifier.inval_entry(1, b"name", False)
    assert message(pipe[0]) == (3, struct.pack("=QII", 1, 4, 0) + b"name\0")
    assert notifier.inc_epoch()
    assert message(pipe[0]) == (8, b"")
    assert notifier.prune([3, 4])
    assert message(pipe[0]) == (9, struct.pack("=IIQQQ", 2, 0, 0, 3, 4))
    assert notifier.drain(DEADLINE_S)
    assert notifier.stats().sent == 6


def test_another_thread_goes_on_while_one_message_hangs(pipe, start, monkeypatch):
    """The kernel waits for the lock of a directory, which an app holds."""
    let_go = _hanging(monkeypatch, lambda message: struct.unpack_from("=Ii", message)[1] == 3)
    told = threading.Event()
    notifier = start()
    notifier.expire_entries([(1, b"name"), (2, b"other")])
    notifier.inval_inode(7)
    notifier.inval_then(8, told.set, pages=False)

    wait_for(lambda: _hanging_after_look(notifier) == 2, "two threads hang")
    assert wait_for(told.is_set, "the others are told")
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 7, -1, 0))
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 8, -1, 0))
    assert not notifier.drain(0.01)
    let_go.set()
    assert notifier.drain(DEADLINE_S)
    assert {message(pipe[0])[0] for _ in range(2)} == {3}
    assert notifier.stats().hanging == 0
    assert notifier.stats().sent == 4


def test_one_directory_holds_one_thread(pipe, start, monkeypatch):
    """All other messages for it wait for the first one, and are written after it, once each."""
    let_go = _hanging(monkeypatch, lambda message: struct.unpack_from("=IiQQ", message)[1::2] == (3, 1))
    notifier = start()
    notifier.inval_entry(1, b"0", True)
    wait_for(lambda: _hanging_after_look(notifier) == 1, "one thread hangs")
    notifier.expire_entries([(1, str(number).encode()) for number in range(1, 40)])
    notifier.inval_entry(1, b"7", True)
    notifier.inval_entry(2, b"other", True)
    assert message(pipe[0])[1].endswith(b"other\0")
    for _ in range(5):
        time.sleep(0.06)
        notifier.tend()
    assert notifier.stats().hanging == 1
    assert not notifier.drain(0.01)
    let_go.set()
    assert notifier.drain(DEADLINE_S)
    names = [message(pipe[0])[1][16:-1] for _ in range(40)]
    assert sorted(names, key=int) == [str(number).encode() for number in range(40)]
    assert notifier.stats().sent == 41


def test_the_pages_of_one_file_hold_one_thread(pipe, start, monkeypatch):
    """Further messages for all of them wait for the first one; callers are told after it. Those for some
    pages (of a refused write) do not wait, nor do those for attributes."""
    let_go = _hanging(
        monkeypatch,
        lambda message: struct.unpack_from("=IiQQq", message)[1::2] == (2, 8) and message[24:40] == bytes(16),
    )
    told: list[int] = []
    notifier = start()
    notifier.inval_inode(8, 0, 0)
    wait_for(lambda: _hanging_after_look(notifier) == 1, "one thread hangs")
    notifier.inval_inode(8, 0, 4096)
    assert message(pipe[0])[1] == struct.pack("=Qqq", 8, 0, 4096)
    notifier.inval_inodes([8, 8, 8])
    for caller in (1, 2):
        notifier.inval_then(8, lambda caller=caller: told.append(caller), pages=True)
    notifier.inval_inode(8)
    assert message(pipe[0])[1] == struct.pack("=Qqq", 8, -1, 0)
    for _ in range(5):
        time.sleep(0.06)
        notifier.tend()
    assert notifier.stats().hanging == 1
    assert told == []
    let_go.set()
    wait_for(lambda: len(told) == 2, "both callers are told")
    assert notifier.drain(DEADLINE_S)
    sent = notifier.stats().sent
    assert [message(pipe[0])[1] for _ in range(sent - 2)] == [struct.pack("=Qqq", 8, 0, 0)] * 4
    assert sent == 6


def test_nobody_is_told_of_a_message_that_still_hangs(pipe, start, monkeypatch):
    """Its caller goes on once the kernel has dropped the pages: not when another thread takes over."""
    let_go = _hanging(monkeypatch, lambda message: struct.unpack_from("=IiQQ", message)[3] == 8)
    told = threading.Event()
    notifier = start()
    notifier.inval_then(8, told.set, pages=True)
    wait_for(lambda: _hanging_after_look(notifier) == 1, "the thread hangs")
    notifier.inval_inode(9)
    assert message(pipe[0])[1] == struct.pack("=Qqq", 9, -1, 0)
    assert not told.wait(0.2)
    let_go.set()
    assert told.wait(DEADLINE_S)
    assert notifier.drain(DEADLINE_S)


def test_a_thread_that_stands_still_tells_its_own_caller(pipe, start, monkeypatch):
    """The daemon was stopped right before a write (a frozen container), and another thread takes over."""
    go_on, following = threading.Event(), Notifier._next

    def stand_still(self):
        found = following(self)
        if self.stats().sent == 0 and threading.current_thread() is first:
            assert go_on.wait(DEADLINE_S)
        return found

    monkeypatch.setattr(Notifier, "_next", stand_still)
    monkeypatch.setattr(notify, "_HANGS_S", 0.05)
    told: list[int] = []
    notifier = start()
    first = notifier._thread
    notifier.inval_then(8, lambda: told.append(8), pages=True)
    wait_for(lambda: _hanging_after_look(notifier) == 1, "another thread takes over")
    notifier.inval_then(9, lambda: told.append(9), pages=True)
    wait_for(lambda: told == [9], "the other caller is told")
    go_on.set()
    assert notifier.drain(DEADLINE_S)
    wait_for(lambda: told == [9, 8], "each caller is told once, of its own message")


def test_no_more_threads_hang_than_there_may(pipe, start, monkeypatch):
    let_go = _hanging(monkeypatch, lambda message: True, hangs_s=0.0)
    monkeypatch.setattr(notify, "_HANGS_TOO_S", 0.0)
    monkeypatch.setattr(notify, "_HANGING", 16)
    notifier = start()
    for node in range(40):
        notifier.inval_inode(node)
    try:
        wait_for(lambda: _hanging_after_look(notifier) == notify._HANGING, "they hang")
        for _ in range(10):
            notifier.tend()
        assert notifier.stats().hanging == notify._HANGING
    finally:
        let_go.set()
    assert notifier.drain(DEADLINE_S)
    assert notifier.stats().sent == 40


@pytest.fixture
def held(monkeypatch):
    """Two directories at most may take a thread, and the kernel waits for each, until the event is set."""
    let_go = _hanging(monkeypatch, lambda message: struct.unpack_from("=Ii", message)[1] == 3, hangs_s=0.0)
    monkeypatch.setattr(notify, "_HANGS_TOO_S", 0.0)
    monkeypatch.setattr(notify, "_IN_DIRECTORIES", 2)
    yield let_go
    let_go.set()


def _hang(notifier: Notifier) -> None:
    for number in (1, 2):
        notifier.inval_entry(number, b"held", True)
        wait_for(lambda n=number: _hanging_after_look(notifier) == n, "a thread hangs")


def test_no_more_directories_take_a_thread_than_may(pipe, start, held):
    """Instead, all names expire at once, which waits for nothing. Everything else is told as before."""
    notifier = start()
    _hang(notifier)
    told = threading.Event()
    notifier.expire_entries([(number, b"name") for number in range(3, 40)])
    notifier.inval_then(8, told.set, pages=True)
    wait_for(told.is_set, "the others are told")
    assert message(pipe[0]) == (8, b"")
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 8, 0, 0))
    notifier.inval_entry(50, b"name", False)
    assert message(pipe[0]) == (8, b"")
    notifier.inval_entry(1, b"other", True)  # waits for the first one in its directory
    wait_for(lambda: notifier.stats().queued == 0, "it is taken")
    notifier.tend()
    assert notifier.stats().hanging == 2
    held.set()
    assert notifier.drain(DEADLINE_S)
    assert {message(pipe[0])[1][16:] for _ in range(3)} == {b"held\0", b"other\0"}
    notifier.inval_entry(3, b"name", True)
    assert message(pipe[0]) == (3, struct.pack("=QII", 3, 4, 1) + b"name\0")


def test_all_waiting_names_expire_at_once(pipe, start, held, monkeypatch):
    notifier = start()
    _hang(notifier)
    gate, come, written = threading.Event(), threading.Event(), Notifier._written

    def slow(self, message: bytes) -> int:
        if struct.unpack_from("=Ii", message)[1] == 2:
            come.set()
            assert gate.wait(DEADLINE_S)
        return written(self, message)

    monkeypatch.setattr(Notifier, "_written", slow)
    notifier.inval_inode(7)
    assert come.wait(DEADLINE_S)
    for number in range(3, 40):
        notifier.inval_entry(number, b"name", True)
    notifier.inval_inode(8)
    gate.set()
    assert [message(pipe[0])[0] for _ in range(3)] == [2, 8, 2]


def test_names_wait_for_a_free_directory_on_older_kernels(pipe, start, held):
    notifier = start(43)
    _hang(notifier)
    notifier.inval_entry(3, b"name", True)
    notifier.inval_inode(8)
    assert message(pipe[0]) == (2, struct.pack("=Qqq", 8, -1, 0))
    assert notifier.stats().hanging == 2
    held.set()
    assert notifier.drain(DEADLINE_S)
    assert sorted(message(pipe[0])[1][16:] for _ in range(3)) == [b"held\0", b"held\0", b"name\0"]


def test_names_on_older_kernels_wait_for_no_pages(pipe, start, held, monkeypatch):
    """The pages of a file may hang for as long as its store."""
    notifier = start(43)
    pages, written = threading.Event(), Notifier._written

    def wait_for_pages(self, message: bytes) -> int:
        if message[16:] == struct.pack("=Qqq", 7, 0, 0):
            assert pages.wait(DEADLINE_S)
        return written(self, message)

    monkeypatch.setattr(Notifier, "_written", wait_for_pages)
    notifier.inval_inode(7, 0)
    wait_for(lambda: _hanging_after_look(notifier) == 1, "its pages hang")
    for number in (1, 2):
        notifier.inval_entry(number, b"held", True)
        wait_for(lambda n=number: _hanging_after_look(notifier) == n + 1, "a thread hangs")
    notifier.inval_entry(3, b"name", True)
    wait_for(lambda: notifier.stats().queued == 0, "it is taken")
    held.set()
    try:
        assert sorted(message(pipe[0])[1][16:] for _ in range(3)) == [b"held\0", b"held\0", b"name\0"]
    finally:
        pages.set()


def test_few_names_wait_for_a_free_directory_on_older_kernels(pipe, start, held):
    """They need memory. If as many wait as there is room for, the next one takes a thread."""
    notifier = start(43, capacity=4)
    _hang(notifier)
    for number in range(4):
        notifier.inval_entry(3, b"%d" % number, True)
        wait_for(lambda: notifier.stats().queued == 0, "it is taken")
    notifier.tend()
    assert notifier.stats().hanging == 2
    notifier.inval_entry(3, b"next", True)
    wait_for(lambda: _hanging_after_look(notifier) == 3, "it takes a thread")
    held.set()
    assert notifier.drain(DEADLINE_S)


def test_few_messages_wait_for_others_however_many_hang(pipe, start, held):
    notifier = start(capacity=4)
    _hang(notifier)
    for number in range(4):
        notifier.inval_entry(1 + number % 2, b"%d" % number, True)
        wait_for(lambda: notifier.stats().queued == 0, "it is taken")
    assert not select.select([pipe[0]], [], [], 0)[0]
    notifier.inval_entry(1, b"next", True)
    assert message(pipe[0]) == (8, b""), "all names expire in its place"
    held.set()
    assert notifier.drain(DEADLINE_S)


def test_long_prunes_go_in_pieces(pipe, start):
    notifier = start()
    nodes = list(range(2, 10_002))
    assert notifier.prune(nodes)
    seen: list[int] = []
    while len(seen) < len(nodes):
        code, body = message(pipe[0])
        (count,) = struct.unpack_from("=I", body)
        assert (code, len(body)) == (9, 16 + 8 * count)
        seen += struct.unpack_from(f"={count}Q", body, 16)
    assert seen == nodes


def test_many_nodes_take_one_place(pipe, start):
    notifier = start(capacity=2)
    nodes = range(2, 5_002)
    assert notifier.inval_inodes(nodes)
    for node in nodes:
        assert message(pipe[0]) == (2, struct.pack("=Qqq", node, 0, 0))
    assert notifier.drain(DEADLINE_S)
    assert notifier.stats().sent == 5_000


def test_many_names_to_expire_take_one_place(pipe, start):
    notifier = start(capacity=2)
    names = [(number, b"name-%d" % number) for number in range(600)]
    assert notifier.expire_entries(iter(names))
    for parent, name in names:
        assert message(pipe[0]) == (3, struct.pack("=QII", parent, len(name), 1) + name + b"\0")
    assert notifier.expire_entries([])
    assert notifier.drain(DEADLINE_S)
    assert notifier.stats().sent == 600


def test_many_names_are_written_before_the_call_returns(pipe, start):
    notifier = start()
    names = [(number, b"name-%d" % number, number % 2 == 0) for number in range(600)]
    assert notifier.inval_entries_now(iter(names))
    for parent, name, gentle in names:
        assert message(pipe[0]) == (3, struct.pack("=QII", parent, len(name), gentle) + name + b"\0")
    assert notifier.stats().sent == 600
    assert start(37).inval_entries_now([(1, b"x", True)])
    assert message(pipe[0]) == (3, struct.pack("=QII", 1, 1, 0) + b"x\0")


def test_many_names_without_a_free_descriptor_are_not_taken(start, monkeypatch):
    """A reload goes on in another way then; an error ended it after the new policy was in force."""

    def none_free(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    notifier = start()
    with monkeypatch.context() as full:
        full.setattr(os, "dup", none_free)
        assert not notifier.inval_entries_now([(1, b"x", True)])
    assert notifier.inval_entries_now([(1, b"x", True)])


def test_many_names_end_at_the_first_error(pipe, start):
    notifier = start()
    os.close(pipe[0])
    try:
        assert not notifier.inval_entries_now([(1, b"x", True), (1, b"y", True)])
        assert notifier.stats().last_errors == ("INVAL_ENTRY: EPIPE",)
        assert notifier.close(5)
        assert not notifier.inval_entries_now([])
    finally:
        os.dup2(os.open("/dev/null", os.O_RDONLY), pipe[0])


@pytest.mark.parametrize(
    ("minor", "flag", "epoch", "prune"),
    [(37, 0, False, False), (40, 1, False, False), (44, 1, True, False), (45, 1, True, True)],
)
def test_older_kernels_get_what_they_know(pipe, start, minor, flag, epoch, prune):
    notifier = start(minor)
    assert notifier.inval_entry(1, b"x", True)
    assert message(pipe[0])[1] == struct.pack("=QII", 1, 1, flag) + b"x\0"
    assert notifier.inc_epoch() is epoch
    assert notifier.prune([2]) is prune


def fill(notifier: Notifier, fd: int) -> int:
    """Make the thread hang in a write, as in the kernel; returns how many went through."""
    number = 0
    os.set_blocking(fd, True)
    while notifier.stats().queued == 0 or notifier.drain(0.05):
        number += 1
        assert notifier.inval_inode(number)
    return number


def test_ranges_of_one_node_do_not_fill_the_queue(pipe, start):
    """However many writes are refused while no notification goes out, no page is forgotten."""
    notifier = start(capacity=8)
    os.set_blocking(pipe[1], True)
    os.write(pipe[1], bytes(fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ)))  # the thread waits with its first
    assert notifier.inval_inode(7)
    wait_for(lambda: notifier.stats().queued == 0, "the thread has taken it")
    assert all(notifier.inval_inode(7, page << 12, 100) for page in range(100))
    assert notifier.stats().queued == 6, "five ranges, and the whole node"
    assert notifier.stats().refused == 0
    _read_all(pipe[0])
    said = [message(pipe[0]) for _ in range(7)]
    assert said[-1] == (2, struct.pack("=Qqq", 7, 0, 0))


def test_a_full_queue_says_so_and_counts(pipe, start):
    notifier = start(capacity=3)
    number = fill(notifier, pipe[1])
    waiting = notifier.stats().queued
    accepted = [notifier.inval_inode(number + 1 + i) for i in range(4)]
    assert accepted == [i < 3 - waiting for i in range(4)]
    assert notifier.stats().refused == 4 - (3 - waiting)
    assert notifier.inval_inode(number + 1)  # waits already: nothing to add
    assert notifier.close(0.05) is False
    assert notifier.inval_inode(1) is False  # closed


def test_a_full_queue_takes_what_forgets_everything(pipe, start):
    """What is refused otherwise is made good by these. A later call has all nodes, so one entry is enough."""
    notifier = start(capacity=3)
    number = fill(notifier, pipe[1])
    assert [notifier.inval_inode(number + 1 + i) for i in range(4)][-1] is False
    waiting = notifier.stats().queued
    assert notifier.inval_inodes([1, 2])
    assert notifier.inc_epoch()
    assert notifier.inval_inodes([1, 2, 3])
    assert notifier.inc_epoch()
    assert notifier.stats().queued == waiting + 2
    _read_all(pipe[0])
    said = [message(pipe[0])]
    while said[-1] != (8, b""):
        said.append(message(pipe[0]))
    assert said[-4:-1] == [(2, struct.pack("=Qqq", node, 0, 0)) for node in (1, 2, 3)]


def test_closing_writes_what_is_queued(pipe):
    notifier = Notifier(pipe[1], minor=NEWEST)
    for node in range(100):
        assert notifier.inval_inode(node)
    assert notifier.close(DEADLINE_S)
    assert notifier.stats().sent == 100
    assert len(os.read(pipe[0], 1 << 20)) == 100 * 40


def name(directory: int, name: bytes) -> bytes:
    return messages.entry(directory, name, messages.EXPIRE_ONLY)


def test_a_message_waits_for_its_own_directory():
    waiting = WaitingMessages(10)
    assert not waiting.add(name(1, b"a"), None), "nothing hangs"
    waiting.begin(name(1, b"a"))
    assert waiting.add(name(1, b"c"), None)
    assert waiting.add(name(1, b"b"), None)
    assert not waiting.add(name(2, b"b"), None)
    assert not waiting.add(messages.inode(1, 0, 0), None), "the directory's pages are not its lock"
    assert not waiting.add(messages.epoch(), None), "it waits for nothing"
    assert waiting.end(name(1, b"a")) == [(name(1, b"c"), None), (name(1, b"b"), None)]
    assert not waiting.add(name(1, b"b"), None)
    assert waiting.end(name(1, b"a")) == []


def test_its_function_waits_with_it():
    waiting = WaitingMessages(10)
    waiting.begin(messages.inode(7, 0, 0))
    assert waiting.add(messages.inode(7, 0, 0), print)
    assert waiting.end(messages.inode(7, 0, 0)) == [(messages.inode(7, 0, 0), print)]


def test_a_message_that_waits_for_nothing_keeps_none():
    waiting = WaitingMessages(10)
    waiting.begin(messages.epoch())
    assert not waiting.add(messages.epoch(), None)
    assert waiting.end(messages.epoch()) == []


def test_any_directory_is_a_directory():
    waiting = WaitingMessages(10)
    waiting.begin(messages.inode(7, 0, 0))
    assert not waiting.add_to_any_directory(name(3, b"a"))
    waiting.begin(messages.entry(1, b"b", messages.EXPIRE_ONLY))
    assert waiting.add_to_any_directory(name(3, b"a"))
    assert waiting.end(messages.inode(7, 0, 0)) == []
    assert waiting.end(name(1, b"b")) == [(name(3, b"a"), None)]


def test_no_more_wait_than_there_is_room_for_in_all_directories_together():
    waiting = WaitingMessages(3)
    for directory in (1, 2):
        waiting.begin(name(directory, b"held"))
    kept = [waiting.add(name(1 + number % 2, b"%d" % number), None) for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert not waiting.add_to_any_directory(name(3, b"a"))
    assert len(waiting.end(name(1, b"held"))) == 2
    assert waiting.add_to_any_directory(name(3, b"a"))
