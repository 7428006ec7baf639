"""Locks held on a real file for several owners: with each other, and with somebody outside."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.store.locking.locks import Holder, Inode, Limits, LockTable
from policyfs.store.locking.ofd import RDLCK, UNLCK, WRLCK, Asked, Blocker, Owner, find_blocker, set_lock
from policyfs.store.spans import LAST_BYTE

FILE: Inode = (17, 0)
ALL = (0, LAST_BYTE)


def ranges(number: int) -> Owner:
    return Owner(number, flock=False)


def flock(number: int) -> Owner:
    return Owner(number, flock=True)


class Locking:
    """A table on one file; owners come by themselves."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.ranges_held: list[bool] = []
        self.table = LockTable(limits, self.ranges_held.append)

    def holder(self, owner: Owner, *, writable: bool = True, app: str = "app") -> Holder:
        found = self.table.find(FILE, owner)
        if found is None:
            self.table.room(app)
            fd = os.open(self.path, os.O_RDWR if writable else os.O_RDONLY)
            found = self.table.add(FILE, owner, app, fd, writable=writable)
        return found

    def take(
        self, owner: Owner, kind: int, start: int = 0, end: int = LAST_BYTE, *, handle: int = 1, **how
    ) -> bool:
        asked = Asked(start, end, kind, 1000 + owner.number)
        return self.table.attempt(self.holder(owner, **how), asked, handle)

    def wait(self, owner: Owner, kind: int, start: int = 0, end: int = LAST_BYTE, *, handle: int = 1) -> list:
        """Wait for a lock that cannot be had now; the list gets the answer."""
        answers: list[int] = []
        asked = Asked(start, end, kind, 1000 + owner.number)
        assert not self.table.attempt(self.holder(owner), asked, handle)
        self.table.wait(self.holder(owner), asked, handle, answers.append)
        return answers

    def outsider(self) -> int:
        return os.open(self.path, os.O_RDWR)


@pytest.fixture
def locking(tmp_path: Path) -> Iterator[Callable[..., Locking]]:
    made: list[Locking] = []
    before = len(os.listdir("/proc/self/fd"))

    def make(holders: int = 50, waiting: int = 50, spans: int = 50) -> Locking:
        (tmp_path / "file").touch()
        made.append(Locking(tmp_path / "file", Limits(holders, waiting, spans)))
        return made[-1]

    yield make
    for one in made:
        one.table.close()
        assert one.table.stats().descriptors == one.table.stats().waiting == 0
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("owner", [ranges, flock])
def test_owners_exclude_each_other_and_those_outside(locking, owner) -> None:
    one = locking()
    outside = one.outsider()
    try:
        assert one.take(owner(1), RDLCK)
        assert one.take(owner(2), RDLCK)
        assert not one.take(owner(2), WRLCK)
        assert set_lock(outside, owner(0), Asked(*ALL, RDLCK, 0))
        assert not set_lock(outside, owner(0), Asked(*ALL, WRLCK, 0))
        one.table.drop(FILE, owner(1))
        assert one.take(owner(2), UNLCK) or owner is flock
        assert set_lock(outside, owner(0), Asked(*ALL, WRLCK, 0))
        assert not one.take(owner(1), RDLCK)
    finally:
        os.close(outside)
    assert one.take(owner(1), RDLCK)


def test_flock_and_ranges_do_not_meet(locking) -> None:
    one = locking()
    assert one.take(flock(1), WRLCK)
    assert one.take(ranges(2), WRLCK)


def test_a_flock_that_cannot_be_changed_is_lost(locking) -> None:
    """flock(2): it is given up first."""
    one = locking()
    assert one.take(flock(1), RDLCK)
    assert one.take(flock(2), RDLCK)
    waiting = one.wait(flock(3), WRLCK)
    assert not one.take(flock(1), WRLCK)
    assert (waiting, one.table.stats().held) == ([], 1)
    one.table.drop(FILE, flock(2))
    assert waiting == [0]


def test_waiters_get_it_in_the_order_in_which_they_came(locking) -> None:
    one = locking()
    assert one.take(ranges(1), WRLCK, 0, 99)
    answers = [one.wait(ranges(number), WRLCK, 10, 19) for number in (2, 3, 4)]
    elsewhere = one.wait(ranges(5), RDLCK, 50, 59)
    one.take(ranges(1), UNLCK, 50, 99)
    assert (answers, elsewhere) == ([[], [], []], [0])
    one.table.drop(FILE, ranges(1))
    assert answers == [[0], [], []]
    one.take(ranges(2), UNLCK)
    assert answers == [[0], [0], []]
    one.take(ranges(3), RDLCK, 10, 19)  # to weaken a lock lets others in
    assert answers == [[0], [0], []]
    reader = one.wait(ranges(6), WRLCK, 15, 15)
    one.take(ranges(3), UNLCK)
    assert (answers, reader) == ([[0], [0], [0]], [])
    assert one.table.stats().waiting == 1


def test_weakening_a_lock_lets_readers_in(locking) -> None:
    one = locking()
    assert one.take(ranges(1), WRLCK)
    reader = one.wait(ranges(2), RDLCK)
    assert one.take(ranges(1), RDLCK)
    assert reader == [0]


def test_a_lock_held_outside_is_asked_for_again(locking) -> None:
    one = locking()
    outside = one.outsider()
    assert set_lock(outside, ranges(0), Asked(0, 9, WRLCK, 0))
    waiting = one.wait(ranges(1), RDLCK, 5, 5)
    one.table.retry_all()
    assert waiting == []
    os.close(outside)
    one.table.retry_all()
    assert waiting == [0]


def test_who_is_cancelled_gets_nothing(locking) -> None:
    one = locking()
    one.take(ranges(1), WRLCK)
    answers: list[int] = []
    asked = Asked(*ALL, WRLCK, 7)
    waiter = one.table.wait(one.holder(ranges(2)), asked, 1, answers.append)
    one.table.cancel(waiter)
    one.table.cancel(waiter)
    one.table.drop(FILE, ranges(1))
    assert answers == []
    assert one.take(ranges(3), WRLCK)


def test_the_end_of_a_handle_ends_what_was_locked_through_it(locking) -> None:
    one = locking()
    assert one.take(ranges(1), WRLCK, 0, 9, handle=1)
    assert one.take(flock(1), WRLCK, handle=1)
    assert one.take(ranges(2), WRLCK, 20, 29, handle=2)
    waiting = one.wait(ranges(2), WRLCK, 0, 9, handle=2)
    never = one.wait(ranges(3), WRLCK, 20, 29, handle=1)
    one.table.released(1)
    assert (waiting, never) == ([0], [errno.EINTR])
    assert list(one.holder(ranges(2)).spans) == [(0, 9, True), (20, 29, True)]


def test_a_late_release_does_not_end_what_was_locked_since(locking) -> None:
    """A process closes a file and opens it again: the kernel may tell us of the first end later."""
    one = locking()
    one.take(ranges(1), WRLCK, handle=1)
    one.table.drop(FILE, ranges(1))
    one.take(ranges(1), WRLCK, handle=2)
    one.table.released(1)
    assert not one.take(ranges(2), RDLCK)


def test_a_thread_that_waits_is_not_disturbed_by_one_that_closes(locking) -> None:
    one = locking()
    one.take(ranges(9), WRLCK, 0, 9)
    one.take(ranges(1), WRLCK, 50, 59, handle=1)
    waiting = one.wait(ranges(1), WRLCK, 0, 9, handle=2)
    one.table.drop(FILE, ranges(1))  # close(2) drops all that the process has locked
    assert one.take(ranges(2), WRLCK, 50, 59)
    one.table.drop(FILE, ranges(9))
    assert waiting == [0]
    one.table.released(1)
    assert not one.take(ranges(2), RDLCK, 0, 9)
    one.table.released(2)
    assert one.take(ranges(2), RDLCK, 0, 9)


def test_a_reader_that_becomes_a_writer_never_lets_go(locking) -> None:
    one = locking()
    assert one.take(ranges(1), RDLCK, 0, 9, writable=False)
    assert one.take(ranges(1), RDLCK, 20, 29)
    holder = one.holder(ranges(1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        one.take(ranges(1), WRLCK, 0, 4)
    outside = one.outsider()
    assert not set_lock(outside, ranges(0), Asked(0, 0, WRLCK, 0))
    one.table.strengthen(holder, os.open(one.path, os.O_RDWR))
    assert not set_lock(outside, ranges(0), Asked(29, 29, WRLCK, 0))
    assert one.take(ranges(1), WRLCK, 0, 4)
    assert find_blocker(outside, Asked(*ALL, RDLCK, 0)) == Blocker(0, 4, WRLCK, 0)
    os.close(outside)


def test_who_is_in_the_way(locking) -> None:
    one = locking()
    probe = one.outsider()

    def blocker(owner: Owner, kind: int, start: int, end: int) -> Blocker | None:
        return one.table.blocker(FILE, owner, Asked(start, end, kind, 0), probe)

    one.take(ranges(2), RDLCK, 100, 199)
    one.take(ranges(1), WRLCK, 0, 9)
    assert blocker(ranges(3), WRLCK, *ALL) == Blocker(100, 199, RDLCK, 1002)  # who was first
    assert blocker(ranges(3), RDLCK, *ALL) == Blocker(0, 9, WRLCK, 1001)
    assert blocker(ranges(3), RDLCK, 10, 300) is None
    assert blocker(ranges(1), WRLCK, 0, 99) is None
    assert blocker(ranges(1), UNLCK, 5, 99) == Blocker(0, 9, WRLCK, 1001)
    assert blocker(ranges(1), UNLCK, 10, 99) is None
    outside = one.outsider()
    fcntl.lockf(outside, fcntl.LOCK_EX, 10, 500)  # a POSIX lock of this process, from byte 500
    assert blocker(ranges(1), RDLCK, 505, 505) == Blocker(500, 509, WRLCK, os.getpid())
    assert set_lock(outside, ranges(0), Asked(600, LAST_BYTE, RDLCK, 0))
    assert blocker(ranges(7), WRLCK, 700, 700) == Blocker(600, LAST_BYTE, RDLCK, 0)
    os.close(outside)
    os.close(probe)


def test_a_circle_is_refused(locking) -> None:
    one = locking()
    for number in (1, 2, 3):
        one.take(ranges(number), WRLCK, number, number)
    first = one.wait(ranges(1), WRLCK, 2, 2)
    second = one.wait(ranges(2), RDLCK, 3, 3)
    asked = Asked(1, 1, RDLCK, 0)
    assert not one.table.attempt(one.holder(ranges(3)), asked, 1)
    with pytest.raises(OSError, match=r"a deadlock: .* for a lock of the caller"):
        one.table.wait(one.holder(ranges(3)), asked, 1, lambda _: None)
    one.take(ranges(3), UNLCK, 3, 3)
    assert (first, second) == ([], [0])
    assert one.table.stats().deadlocks == 1


def test_two_flocks_that_wait_for_each_other_are_left_to_it(locking) -> None:
    """As natively: flock(2) looks for no deadlock."""
    one = locking()
    one.take(flock(1), RDLCK)
    one.take(flock(2), RDLCK)
    assert one.table.find(FILE, flock(1)) is not None
    first = one.wait(flock(3), WRLCK)
    second = one.wait(flock(4), WRLCK)
    one.table.drop(FILE, flock(1))
    one.table.drop(FILE, flock(2))
    assert (first, second) == ([0], [])


def test_it_is_said_whether_byte_ranges_are_held(locking) -> None:
    one = locking()
    one.take(flock(1), WRLCK)
    one.take(ranges(1), UNLCK)
    assert one.ranges_held == []
    one.take(ranges(1), WRLCK, 0, 9)
    one.take(ranges(1), RDLCK, 20, 29)
    one.take(ranges(2), WRLCK, 40, 49)
    one.take(ranges(1), UNLCK)
    assert one.ranges_held == [True]
    waiting = one.wait(ranges(3), WRLCK, 45, 45)
    one.table.drop(FILE, ranges(2))
    assert (waiting, one.ranges_held[-1]) == ([0], True)
    one.table.released(1)
    assert one.ranges_held[-1] is False
    assert all(now is not then for now, then in itertools.pairwise(one.ranges_held))


def test_limits(locking) -> None:
    one = locking(holders=3, waiting=2, spans=3)
    assert one.take(ranges(1), WRLCK, 0, 9, app="a")
    assert one.take(ranges(2), WRLCK, 10, 19, app="a")
    with pytest.raises(OSError, match="too many locks"):
        one.take(ranges(3), RDLCK, 20, 29, app="a")
    assert one.take(ranges(4), RDLCK, 20, 29, app="b")
    with pytest.raises(OSError, match="too many locks"):
        one.take(ranges(5), RDLCK, 20, 29, app="c")
    one.take(ranges(2), UNLCK, app="a")
    assert one.take(ranges(5), RDLCK, 20, 29, app="c")  # in the place of one without a lock
    assert one.table.find(FILE, ranges(2)) is None

    one.wait(ranges(1), WRLCK, 20, 29)
    with pytest.raises(OSError, match="too many requests"):
        one.wait(ranges(1), WRLCK, 21, 21)

    one.take(ranges(5), RDLCK, 40, 40)
    with pytest.raises(OSError, match="too many byte ranges"):
        one.take(ranges(5), RDLCK, 50, 50)
    assert one.take(ranges(5), UNLCK, 22, 22)
    with pytest.raises(OSError, match="too many byte ranges"):
        one.take(ranges(5), UNLCK, 25, 25)
    assert one.take(ranges(5), UNLCK)
    assert one.table.stats().refused == 5


@pytest.mark.parametrize("owner", [ranges, flock])
def test_a_table_continues_another_by_its_descriptors(locking, owner) -> None:
    one, told = locking(), []
    one.table.changed = lambda holder, is_locked: told.append((holder.fd, len(holder.spans), is_locked))
    assert one.take(owner(1), RDLCK, writable=False)
    assert one.take(owner(1), WRLCK, writable=False) if owner is flock else True
    old = one.holder(owner(1))
    if owner is ranges:
        one.table.strengthen(old, os.open(one.path, os.O_RDWR))
        assert one.take(owner(1), WRLCK, 10, 20, handle=2)
    assert told[-1] == (old.fd, len(old.spans), True)
    next_one = Locking(one.path, Limits(50, 50, 50))
    kept = Holder(old.inode, old.owner, "app", os.dup(old.fd), old.writable, old.spans, 7, set(old.handles))
    assert next_one.table.restore(kept)
    found = next_one.table.find(FILE, owner(1))
    assert found is not None
    assert ([*found.spans], found.handles, found.pid) == ([*old.spans], old.handles, 7)
    assert next_one.ranges_held == ([True] if owner is ranges else [])
    one.table.close()
    assert told[-1][1:] == (len(old.spans), False)
    outside = one.outsider()
    assert not set_lock(outside, owner(0), Asked(*ALL, WRLCK, 0))
    next_one.table.released(1)
    assert set_lock(outside, owner(0), Asked(*ALL, WRLCK, 0))
    other = Holder(old.inode, old.owner, "app", os.open(one.path, os.O_RDWR), True, old.spans, 7, {1})
    assert not next_one.table.restore(other)  # somebody else has them by now
    next_one.table.close()
    os.close(outside)
