"""The circle of locks: found by a blocked loop and the stack of a write, and by nothing less."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.daemon import lock_circle
from policyfs.daemon.lock_circle import LOOKS, UNKNOWN, Disk, LockCircle, disk_of
from policyfs.linux import bounded_reads

WAITS = "1 (a) R (b) D 1 1 1"
SWITCHES = "Name:\tpolicyfs\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t7\n"
WRITES = """\
[<0>] folio_wait_bit_common+0x1/0x2
[<0>] handle_mm_fault+0x1/0x2
[<0>] fuse_passthrough_write_iter+0x1/0x2
"""


class Machine:
    """A directory like /proc: this process, whose loop is the present thread, and process 77."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.disk_counts = proc / "disk"
        self.disk = Disk(self.disk_counts)
        self.loop = proc / f"self/task/{threading.get_native_id()}"
        self.loop.mkdir(parents=True)
        (proc / "uptime").touch()
        (self.loop / "stat").write_text(WAITS)
        self.switched(1)
        self.writes(77, 78, WRITES)
        self.writes(9, 9, "")

    def disk_has(self, under_way: int, completed: int, writes: tuple[int, int] = (0, 5)) -> None:
        """Change the counts of reads of the store's disk. writes: the same two counts of writes."""
        total = under_way + writes[0]
        self.disk_counts.mkdir(exist_ok=True)
        (self.disk_counts / "inflight").write_text(f"{under_way:8} {writes[0]:8}\n")
        (self.disk_counts / "stat").write_text(
            f"{completed:8} 0 0 0 {writes[1]:8} 0 8 7 {total:8} 1 1 0 0 0 0 6 0\n"
        )

    def switched(self, times: int) -> None:
        (self.loop / "status").write_text(SWITCHES.format(times))

    def reads(self, task: int, stat: str, switches: int = 1, name: str = "policyfs-reader") -> None:
        """Another thread of this process."""
        directory = self.loop.with_name(f"{task}")
        directory.mkdir(exist_ok=True)
        (directory / "comm").write_text(name + "\n")
        (directory / "stat").write_text(stat)
        (directory / "status").write_text(SWITCHES.format(switches))

    def writes(self, pid: int, task: int, stack: str) -> None:
        directory = self.proc / f"{pid}/task/{task}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "stack").write_text(stack)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(lock_circle, "LOOK_S", 3600.0)
    return Machine(tmp_path)


@pytest.fixture
def circle(machine: Machine):
    made = LockCircle(lambda pid, waited_s: True, lambda pid: None, nobody, machine.disk, machine.proc)
    made.beat()
    yield made
    made.close()


def nobody(pid: int) -> bool:
    """No process is known to use the mount."""
    del pid
    return False


def looks(circle: LockCircle, count: int) -> list[int | None]:
    return [circle.writer() for _ in range(count)]


def test_the_writer_is_found(circle: LockCircle) -> None:
    assert looks(circle, LOOKS + 1) == [None] * (LOOKS - 1) + [77, 77]


def test_of_several_writers_one_that_uses_this_mount_comes_first(machine: Machine) -> None:
    """The others may wait for pages in mounts of other stores."""
    for pid in (11, 99):
        machine.writes(pid, pid + 1, WRITES)
    circle = LockCircle(lambda pid, waited_s: True, print, lambda pid: pid == 99, machine.disk, machine.proc)
    circle.beat()
    assert looks(circle, LOOKS)[-1] == 99
    machine.writes(99, 100, "")
    assert circle.writer() in {11, 77}
    circle.close()


def test_nobody_looks_before_the_first_beat(machine: Machine) -> None:
    circle = LockCircle(lambda pid, waited_s: True, print, nobody, machine.disk, machine.proc)
    assert looks(circle, LOOKS) == [None] * LOOKS


def test_a_loop_that_went_on_between_two_looks_waits_for_nobody(circle: LockCircle, machine: Machine) -> None:
    """It is blocked at each look, but not in the same call: its disk is slow."""
    for times in range(3 * LOOKS):
        machine.switched(times)
        assert circle.writer() is None
    assert looks(circle, LOOKS - 1)[-1] == 77, "the last look before was the first of these"


@pytest.mark.parametrize("stat", ["", "1 (D) S 1 1 1", "1 (a) R 1 1 1"])
def test_a_loop_that_is_not_blocked_is_no_circle(circle: LockCircle, machine: Machine, stat: str) -> None:
    (machine.loop / "stat").write_text(stat)
    assert looks(circle, LOOKS) == [None] * LOOKS


def test_looks_do_not_count_while_the_disk_hangs(circle: LockCircle, machine: Machine) -> None:
    """A process that waits for a page meanwhile may use another mount, and is not killed."""
    looks(circle, LOOKS - 1)
    machine.disk_has(under_way=2, completed=10)
    circle.writer()
    assert looks(circle, 2 * LOOKS) == [None] * (2 * LOOKS)
    machine.disk_has(under_way=3, completed=10)
    assert looks(circle, 2 * LOOKS) == [None] * (2 * LOOKS), "one request more is no answer"
    for look in range(2 * LOOKS):
        machine.disk_has(under_way=3, completed=10, writes=(1, 6 + look))
        assert circle.writer() is None, "a write that ends is no answer to a read"
    for look in range(2 * LOOKS):
        machine.disk_has(under_way=1, completed=11 + look, writes=(2, 30))
        assert circle.writer() is None, "nor a read to a write"
    machine.disk_has(under_way=0, completed=12)
    assert looks(circle, LOOKS) == [None] * (LOOKS - 1) + [77]


def test_a_disk_that_answers_hides_no_circle(circle: LockCircle, machine: Machine) -> None:
    """Others use it: the process that waits for a page decides nothing about that."""
    found = []
    for look in range(LOOKS):
        machine.disk_has(under_way=1, completed=look, writes=(1, look))
        found.append(circle.writer())
    assert found == [None] * (LOOKS - 1) + [77]


@pytest.mark.parametrize("store", ["/proc", "/absent"])
def test_a_store_without_a_disk_of_its_own_never_hangs(store: str) -> None:
    disk = disk_of(Path(store))
    assert not disk.hangs()
    assert not disk.hangs()


GOES_ON = "1 (a) S 1 1 1"


def test_a_reader_that_is_blocked_is_found_though_the_loop_goes_on(
    circle: LockCircle, machine: Machine
) -> None:
    (machine.loop / "stat").write_text(GOES_ON)
    machine.reads(5, GOES_ON)
    machine.reads(6, WAITS)
    assert looks(circle, LOOKS) == [None] * (LOOKS - 1) + [77]


@pytest.mark.parametrize(
    ("stack", "found"),
    [
        ("[<0>] xfs_reflink_remap_prep+0x1/0x2\n[<0>] vfs_clone_file_range+0x1/0x2\n", 77),
        ("[<0>] xfs_ilock+0x1/0x2\n[<0>] vfs_read+0x1/0x2\n", 77),
        ("[<0>] folio_wait_bit_common+0x1/0x2\n[<0>] vfs_fsync_range+0x1/0x2\n", None),
    ],
)
def test_another_thread_counts_if_it_waits_for_the_lock_of_a_file(
    circle: LockCircle, machine: Machine, stack: str, found: int | None
) -> None:
    (machine.loop / "stat").write_text(GOES_ON)
    machine.reads(6, WAITS, name="Trio thread 3")
    (machine.loop.with_name("6") / "stack").write_text(stack)
    assert looks(circle, LOOKS)[-1] == found


def test_it_is_found_though_others_are_blocked_now_and_then(circle: LockCircle, machine: Machine) -> None:
    machine.reads(5, WAITS)
    found = []
    for look in range(LOOKS):
        machine.switched(look)
        machine.reads(6, WAITS if look % 2 else GOES_ON)
        found.append(circle.writer())
    assert found == [None] * (LOOKS - 1) + [77]


def test_each_reader_that_waits_for_a_slow_disk_is_none(circle: LockCircle, machine: Machine) -> None:
    (machine.loop / "stat").write_text(GOES_ON)
    for look in range(3 * LOOKS):
        machine.reads(5, WAITS, look)
        machine.reads(6, WAITS, look)
        assert circle.writer() is None


def test_another_thread_that_is_blocked_holds_nobody_up(circle: LockCircle, machine: Machine) -> None:
    (machine.loop / "stat").write_text(GOES_ON)
    machine.reads(5, WAITS, name="Trio thread 0")
    assert looks(circle, LOOKS) == [None] * LOOKS


def test_looks_are_counted_anew_after_one_that_found_nothing(circle: LockCircle, machine: Machine) -> None:
    looks(circle, LOOKS - 1)
    (machine.loop / "stat").write_text("1 (a) S 1 1 1")
    assert circle.writer() is None
    (machine.loop / "stat").write_text(WAITS)
    assert looks(circle, LOOKS) == [None] * (LOOKS - 1) + [77]


@pytest.mark.parametrize("lacks", ["handle_mm_fault", "fuse_passthrough_write_iter"])
def test_a_write_that_waits_for_its_disk_is_none(circle: LockCircle, machine: Machine, lacks: str) -> None:
    machine.writes(77, 78, WRITES.replace(lacks, "ext4_file_write_iter"))
    assert looks(circle, LOOKS) == [None] * LOOKS


def test_a_read_may_keep_the_lock_too(circle: LockCircle, machine: Machine) -> None:
    machine.writes(77, 78, WRITES.replace("write_iter", "read_iter"))
    assert looks(circle, LOOKS)[-1] == 77


@pytest.mark.parametrize("waits", ["exc_page_fault", "do_page_fault", "fault_in_readable", "pin_user_pages"])
def test_a_write_may_wait_for_its_mappings_lock(circle: LockCircle, machine: Machine, waits: str) -> None:
    machine.writes(77, 78, WRITES.replace("handle_mm_fault", waits))
    assert looks(circle, LOOKS)[-1] == 77


def test_others_that_wait_now_and_then_delay_nothing(circle: LockCircle, machine: Machine) -> None:
    found = []
    for look in range(LOOKS):
        machine.writes(5, 5 + look % 2, WRITES if look % 2 else "")
        found.append(circle.writer())
    assert found == [None] * (LOOKS - 1) + [77]


def test_what_cannot_be_read_shows_nothing(circle: LockCircle, machine: Machine) -> None:
    (machine.proc / "77/task/78/stack").unlink()
    assert looks(circle, LOOKS) == [None] * LOOKS
    (machine.loop / "status").unlink()
    assert looks(circle, LOOKS) == [None] * LOOKS


def test_the_thread_goes_on_until_the_connection_has_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, ended = threading.Event(), []

    def end(pid: int) -> None:
        ended.append(pid)
        if len(ended) == 1:
            raise OSError("no log")
        over.set()

    monkeypatch.setattr(lock_circle, "LOOK_S", 0.001)
    circle = LockCircle(lambda pid, waited_s: False, end, nobody, machine.disk, machine.proc)
    circle.beat()
    assert over.wait(20)
    circle.close()
    assert set(ended) == {77}


def test_the_writer_is_killed_and_the_connection_ends_only_if_it_is_still_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, done, waited = threading.Event(), [], []
    began_s = time.monotonic()

    def kill(pid: int, waited_s: float) -> bool:
        waited.append(waited_s)
        done.append(("kill", pid))
        if len(done) == 1:  # it ends; the next writer does not
            machine.writes(77, 78, "")
            machine.writes(55, 56, WRITES)
        return True

    def end(pid: int) -> None:
        done.append(("end", pid))
        over.set()

    monkeypatch.setattr(lock_circle, "LOOK_S", 0.001)
    circle = LockCircle(kill, end, nobody, machine.disk, machine.proc)
    circle.beat()
    assert over.wait(20)
    circle.close()
    assert done[:3] == [("kill", 77), ("kill", 55), ("end", 55)]
    assert all(0.001 * (lock_circle.LOOKS - 1) <= each < time.monotonic() - began_s for each in waited)


def test_without_a_thread_the_next_beat_tries_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == 1:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    circle = LockCircle(lambda pid, waited_s: True, print, nobody, machine.disk, machine.proc)
    for _ in range(3):
        circle.beat()
    assert len(started) == 2


@pytest.fixture
def silent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Make reads of the stack of a process wait until the end of the test."""
    monkeypatch.setattr(bounded_reads, "WAIT_S", 0.05)
    stacks: list[Path] = []

    def make(pid: int) -> None:
        machine.writes(pid, pid, "")
        stacks.append(machine.proc / f"{pid}/task/{pid}/stack")
        stacks[-1].unlink()
        os.mkfifo(stacks[-1])

    yield make
    for stack in stacks:
        os.close(os.open(stack, os.O_RDWR | os.O_NONBLOCK))
    for thread in threading.enumerate():
        if thread.name == "policyfs-proc":
            thread.join(10)


@pytest.mark.timeout(20)
def test_processes_that_hide_their_stacks_hide_no_writer(
    circle: LockCircle, silent: Callable[[int], None]
) -> None:
    """execve(2) of a process that has an open file on a file system of its own."""
    for pid in (1, 8, 70, 200):
        silent(pid)
    threads = threading.active_count()
    assert looks(circle, LOOKS) == [None] * (LOOKS - 1) + [77]
    assert threading.active_count() == threads + 4


@pytest.mark.timeout(20)
def test_many_of_them_are_the_end_of_the_connection(
    circle: LockCircle, machine: Machine, silent: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer may be unseen, so nobody is killed."""
    monkeypatch.setattr(bounded_reads, "MOST", 3)
    machine.writes(77, 78, "")
    for pid in (1, 8):
        silent(pid)
    assert looks(circle, 2 * LOOKS) == [None] * 2 * LOOKS
    silent(70)
    assert looks(circle, LOOKS + 1)[-1] == UNKNOWN


def test_so_are_many_that_answer_slowly(
    circle: LockCircle, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.writes(77, 78, "")
    monkeypatch.setattr(lock_circle, "MOST_S", -1.0)
    assert looks(circle, LOOKS) == [None] * (LOOKS - 1) + [UNKNOWN]


def test_a_writer_that_is_seen_comes_before_one_that_is_not(
    circle: LockCircle, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circle, "_writers", lambda: [(UNKNOWN, ""), (77, "78")])
    assert looks(circle, LOOKS)[-1] == 77
