"""Whether a close(2) is asked about: only where a byte-range lock may end with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.lockplace import UIDS, Place
from tests.support.mount.stores import Mounts

TIMES = 20


@pytest.fixture
def place(arena: Path, mounts: Mounts, media: dict[str, Path]) -> Place:
    """Mounts in which nobody has locked anything yet."""
    return Place(arena, mounts, media["photo_with_place.jpg"])


def _open_and_close(path: Path, flags: int) -> None:
    for _ in range(TIMES):
        os.close(os.open(path, flags))


def flushes(mount: Mount, uid: int, path: Path, flags: int = os.O_RDONLY) -> int:
    """How many of TIMES closes the kernel asked about."""
    before = mount.fuse("FLUSH")
    call_as(uid, _open_and_close, path, flags)
    return mount.fuse("FLUSH") - before


def test_a_reader_closes_without_a_word_until_somebody_locks_a_byte_range(place: Place, locker) -> None:
    mount, name = place.shared, place.file()
    readers = {side: (UIDS[side], place.path(side, name)) for side in ("raw", "redacted")}
    assert [flushes(mount, *reader) for reader in readers.values()] == [0, 0]
    assert flushes(mount, *readers["raw"], os.O_RDWR) == TIMES
    one = locker("raw", name)
    assert one.lock("flock", "write") == "ok"
    assert [flushes(mount, *reader) for reader in readers.values()] == [0, 0]
    assert one.lock("posix", "write") == "ok"
    assert [flushes(mount, *reader) for reader in readers.values()] == [TIMES, TIMES]
    assert flushes(place.own, UIDS["own"], place.path("own", name)) == 0, "another mount"


def test_the_first_lock_of_a_reader_ends_with_its_descriptor(place: Place, locker) -> None:
    """Opened when closes were not asked about."""
    name = place.file()
    one, other = locker("raw", name, os.O_RDONLY), locker("store", name)
    assert one.lock("posix", "read") == "ok"
    assert other.lock("posix", "write") == "EAGAIN"
    assert one("close", "f") == "ok"
    wait_for(lambda: other.lock("posix", "write") == "ok", "the end of the lock")


def test_the_first_lock_of_a_writer_ends_with_its_process(place: Place, locker) -> None:
    """Also where a child has the descriptor still."""
    name = place.file()
    one, other = locker("raw", name), locker("store", name)
    assert one.lock("posix", "write") == "ok"
    one.fork()
    one.kill()
    assert other.lock("posix", "write") == "ok"
