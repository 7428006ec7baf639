"""Records in shared memory: a write that was cut short at any byte leaves the record before it."""

from __future__ import annotations

import mmap

from policyfs.fs.saved.record_table import RecordTable

SLOTS, ROOM = 4, 16
SIZE = RecordTable.size_bytes(SLOTS, ROOM)


def table(memory: mmap.mmap) -> RecordTable:
    return RecordTable(memory, 0, SLOTS, ROOM)


def continued(memory: mmap.mmap) -> dict[int, bytes]:
    return table(memory).read()


def test_the_last_record_of_each_slot_is_read() -> None:
    memory = mmap.mmap(-1, SIZE)
    own = table(memory)
    for slot, record in enumerate((b"a", b"b", b"c")):
        assert own.take() == slot
        own.put(slot, record)
    for number in range(5):
        own.put(1, b"changed %d" % number)
    own.free(0)
    assert continued(memory) == {1: b"changed 4", 2: b"c"}
    again = table(memory)
    again.read()
    assert sorted((again.take(), again.take())) == [0, 3]
    assert again.take() is None


def test_a_write_that_stops_at_any_byte_leaves_the_record_before() -> None:
    memory = mmap.mmap(-1, SIZE)
    own = table(memory)
    own.take()
    for before, after in ((b"first", b"the second"), (b"the second", b"3"), (b"3", b""), (b"", b"again")):
        own.put(0, before)
        old = memory[:]
        own.put(0, after)
        new = memory[:]
        for cut in range(len(old) + 1):
            torn = mmap.mmap(-1, SIZE)
            torn[:] = new[:cut] + old[cut:]
            found = continued(torn).get(0, b"")
            assert found == (after if torn[:] == new else before)
            follower = table(torn)
            follower.read()
            kept = torn[:]
            follower.put(0, b"follower")  # must not overwrite the only whole copy
            assert continued(torn)[0] == b"follower"
            changed = [i for i in range(SIZE) if torn[i] != kept[i]]
            torn[changed[0]] ^= 1  # as if this write were torn, too
            assert continued(torn).get(0, b"") == found


def test_a_flipped_byte_is_never_believed() -> None:
    memory = mmap.mmap(-1, SIZE)
    own = table(memory)
    own.take()
    own.put(0, b"old")
    own.put(0, b"new")
    for at in range(2 * (SIZE // SLOTS // 2)):
        memory[at] ^= 0x40
        assert continued(memory).get(0, b"") in {b"old", b"new", b""}
        memory[at] ^= 0x40
