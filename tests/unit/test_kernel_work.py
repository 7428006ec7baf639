"""Which requests were in work when a daemon was killed, and which of them get EIO."""

from __future__ import annotations

import mmap

import pytest

from policyfs.kernel import work
from policyfs.kernel.bridge import prepare
from policyfs.kernel.work import WORK_BYTES, Suspect, guilty, read, start

READ = 15


def suspect(unique: int, deaths: int) -> Suspect:
    return Suspect(unique, 7, READ, 1000, 4711, deaths)


def test_nothing_is_in_work_before_the_first_request() -> None:
    memory = memoryview(mmap.mmap(-1, WORK_BYTES))
    assert read(memory) == []
    memory[:40] = work._PLACE.pack(24, 7, READ, 1000, 4711, 1) + bytes(40 - work._PLACE.size)
    assert read(memory) == [suspect(24, 2)]
    start(memory, [suspect(24, 2)], [])
    assert read(memory) == [], "of the new daemon"
    prepare(0, 0)


def test_memory_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        start(memoryview(bytearray(WORK_BYTES - 1)), [], [])
    prepare(0, 0)


@pytest.mark.parametrize(
    ("deaths", "was_early", "is_refused"),
    [(1, True, False), (2, True, True), (2, False, False), (3, False, False), (4, False, True)],
)
def test_who_has_killed_several_daemons_is_refused(
    deaths: int, *, was_early: bool, is_refused: bool
) -> None:
    innocent = suspect(26, 1)
    found = guilty([innocent, suspect(24, deaths)], was_early=was_early)
    assert found == ([suspect(24, deaths)] if is_refused else [])
