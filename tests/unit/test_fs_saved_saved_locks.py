"""The locks that outlive a daemon: what the next one reads is what apps had, or no daemon takes over."""

from __future__ import annotations

from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import Setup
from policyfs.fs.saved.saved_locks import SavedLock
from policyfs.store.locking.locks import Holder
from policyfs.store.locking.ofd import Owner
from policyfs.store.spans import Span, Spans


def holder(spans: int = 2, *, inode: int = 5, flock: bool = False) -> Holder:
    made = Holder((3 << 64 | inode, -7), Owner(1 << 60, flock=flock), "app", 9, writable=True)
    for number in range(spans):
        made.spans.lock(number * 10, number * 10 + 4, exclusive=bool(number % 2))
    made.pid, made.handles = 42, {1 << 63, 7}
    return made


def state() -> SavedState:
    made = SavedState(2)
    made.set_up(Setup(9, 77, b"init", "digest"))
    return made


def test_locks_are_found_as_they_were() -> None:
    made, one = state(), holder()
    for each in (one, holder(1, flock=True), holder(1, inode=6)):
        made.locks.changed(each, True)
    made.locks.changed(holder(inode=6), False)
    one.fd = 11  # strengthened
    made.locks.changed(one, True)
    for _ in range(2):
        ranges, flock = sorted(made.locks.read(), key=lambda lock: lock.owner.flock)
        assert ranges == SavedLock(
            one.inode, one.owner, 42, 11, True, (Span(0, 4, False), Span(10, 14, True)), (7, 1 << 63)
        )
        assert (flock.owner.flock, flock.fd) == (True, 9)
    made.locks.drop(flock)
    assert made.locks.read() == [ranges]


def test_more_ranges_than_a_record_has_prevent_a_take_over_until_they_are_gone() -> None:
    made, one = state(), holder(32)
    made.locks.changed(one, True)
    assert made.can_continue
    one.spans.lock(1000, 1001, exclusive=True)
    for _ in range(2):
        made.locks.changed(one, True)
        assert (made.can_continue, made.locks.read()) == (False, [])
    one.spans = Spans()
    one.spans.lock(0, 0, exclusive=True)
    made.locks.changed(one, True)
    assert (made.can_continue, len(made.locks.read())) == (True, 1)
    for spans in (33, 0):
        made.locks.changed(holder(spans), bool(spans))
    assert (made.can_continue, made.locks.read()) == (True, [])


def test_a_record_that_is_cut_is_dropped() -> None:
    made = state()
    made.locks.changed(holder(), True)
    table = made.locks._table
    slot, record = next(iter(table.read().items()))
    table.put(slot, record[:-1])
    assert made.locks.read() == []
