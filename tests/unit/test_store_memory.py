"""Where copies in memory are put, and what they cost there."""

from __future__ import annotations

import os

import pytest

from policyfs.store.frozen import freeze, seal
from policyfs.store.memory import HUGE_PAGE, MemoryPlaces

pytestmark = pytest.mark.mount
KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("size", "cost"),
    [
        (0, 0), (1, 1), (MIB - 1, MIB - 1), (MIB, 2 * MIB), (2 * MIB, 2 * MIB), (2 * MIB + 1, 2 * MIB + 1),
        (3 * MIB, 4 * MIB), (3 * MIB + 900 * KIB, 4 * MIB), (9 * MIB - 1, 9 * MIB - 1),
    ],
)  # fmt: skip
def test_a_copy_counts_for_the_memory_that_it_takes(tmp_path, size: int, cost: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    fd = os.open(source, os.O_RDONLY)
    try:
        with MemoryPlaces() as places, freeze(fd, 64 * MIB, None, False, places) as copy:
            seal(copy)
            assert copy.how == "tmpfs"
            assert copy.memory == cost
            taken = os.fstat(copy.fd).st_blocks * 512
            assert taken <= max(cost, -(-size // 4096) * 4096), "never more than it counts for"
            assert os.pread(copy.fd, size + 1, 0) == source.read_bytes()
    finally:
        os.close(fd)


def test_a_copy_outlives_its_place(tmp_path) -> None:
    (tmp_path / "source").write_bytes(b"x" * HUGE_PAGE)
    before = set(os.listdir("/proc/self/fd"))
    fd = os.open(tmp_path / "source", os.O_RDONLY)
    with MemoryPlaces() as places:
        copy = freeze(fd, 64 * MIB, None, False, places)
    os.close(fd)
    assert places.place(1) is None, "closed"
    assert os.pread(copy.fd, 1, HUGE_PAGE - 1) == b"x"
    copy.close()
    assert set(os.listdir("/proc/self/fd")) == before
