"""The access vectors of nodes, in the bridge's own table."""

from __future__ import annotations

import mmap
import os
import random
import stat as stat_bits
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policyfs.domain import FileType
from policyfs.fs.inodes.vectors import NO_VECTORS, AccessVectors
from policyfs.kernel import bridge, vectors
from policyfs.store.frozen import Version


@pytest.fixture
def table() -> Iterator[None]:
    bridge.library.open_vectors(16, 2)
    yield
    bridge.prepare(0, 0)


def a_node(nodeid: int = 7, ftype: FileType = FileType.REGULAR) -> Any:
    told: list[bool] = []
    return SimpleNamespace(
        nodeid=nodeid, ino=11, btime_ns=5, lookups=1, ftype=ftype, told=told,
        told_by_bridge=lambda: told.append(True),
    )  # fmt: skip


def install(directory: Path, node: Any, name: bytes = b"name", kept_s: float = 0.0) -> bool:
    fd = os.open(directory, os.O_PATH)
    try:
        grant, table = vectors.LOOKUP | vectors.access(4), AccessVectors(in_use=True)
        return table.install(node, 1, fd, name, 1000, grant, 3, stat_bits.S_IFREG, kept_s)
    finally:
        os.close(fd)


def test_a_node_is_in_the_table_until_it_is_dropped(tmp_path: Path, table: None) -> None:
    node = a_node()
    assert install(tmp_path, node)
    assert (vectors.stats().nodes, vectors.stats().directories) == (1, 1)
    assert AccessVectors(in_use=True).drop(node) == 0
    assert (vectors.stats().nodes, node.lookups) == (0, 1)


def test_counts_outlive_the_process_until_python_has_them(tmp_path: Path) -> None:
    """Each node has one, whatever comes and goes; a dropped one's goes with the next change."""
    memory = memoryview(mmap.mmap(-1, 16 * vectors.COUNT_BYTES))
    bridge.library.open_vectors(16, 2, None, memory)
    dice, live, dropped = random.Random(1), dict[int, Any](), 0
    seen, table = list[Any](), AccessVectors(in_use=True)
    table.counted = seen.append

    def saved() -> list[int]:
        return sorted(nodeid for nodeid, _ in struct.iter_unpack("=QQ", memory) if nodeid)

    for nodeid in range(2, 300):
        if len(live) < 16 and dice.random() < 0.7:
            live[nodeid] = node = a_node(nodeid)
            assert install(tmp_path, node, b"%d" % nodeid)
            assert saved() == sorted(live)
        elif live:
            dropped = dice.choice(list(live))
            table.drop(live.pop(dropped))
            assert saved() == sorted([*live, dropped])
    (nodeid, node), *_ = live.items()
    place = next(at for at, (one, _) in enumerate(struct.iter_unpack("=QQ", memory)) if one == nodeid)
    struct.pack_into("=Q", memory, 16 * place + 8, 40)  # as the bridge counts
    assert list(vectors.read_counts(memory)) == [(nodeid, 40)]
    table.drop(node)
    assert (seen, node.lookups) == ([node], 41)
    table.clear()
    assert install(tmp_path, a_node(900))
    assert saved() == [900]
    with pytest.raises(ValueError, match="memory"):
        bridge.library.open_vectors(16, 2, None, memory[16:])
    bridge.prepare(0, 0)


def test_the_kernel_keeps_what_python_does_not_know(tmp_path: Path, table: None) -> None:
    first, second = a_node(), a_node(8)
    assert install(tmp_path, first)
    assert install(tmp_path, second, b"other", 60.0)
    assert (first.told, second.told) == ([], [True])


def test_all_grants_go_at_once_and_the_descriptors_with_them(tmp_path: Path, table: None) -> None:
    many = [a_node(number) for number in range(2, 6)]
    assert all(install(tmp_path, node, b"%d" % node.nodeid) for node in many)
    before = len(os.listdir("/proc/self/fd"))
    AccessVectors(in_use=True).drop_all()
    assert vectors.stats().directories == 0
    assert len(os.listdir("/proc/self/fd")) == before - 1
    AccessVectors(in_use=True).drop_nodes(many)
    assert vectors.stats().nodes == 0


def test_a_directory_is_dropped_with_its_descriptor(tmp_path: Path, table: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert install(tmp_path, a_node())
    AccessVectors(in_use=True).drop(a_node(1, FileType.DIRECTORY))
    assert vectors.stats().directories == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_node_that_was_moved_and_not_dropped_gets_no_vector(tmp_path: Path, table: None) -> None:
    node = a_node()
    assert install(tmp_path, node)
    assert not install(tmp_path, node, b"another")


def test_names_that_were_made_to_collide_find_no_room(tmp_path: Path, table: None) -> None:
    assert [install(tmp_path, a_node(number)) for number in range(2, 22)].count(False) == 4


def test_without_vectors_nothing_is_dropped(tmp_path: Path, table: None) -> None:
    node = a_node()
    assert install(tmp_path, node)
    assert NO_VECTORS.drop(node) == 0
    NO_VECTORS.drop_all()
    NO_VECTORS.drop_nodes([node])
    assert vectors.stats().nodes == 1
    assert AccessVectors(in_use=True).clear() == []
    assert not AccessVectors(in_use=True).is_full()


def test_only_the_thread_that_opened_the_table_changes_it(table: None) -> None:
    child = []

    def change() -> None:
        with pytest.raises(RuntimeError):
            vectors.drop_all()
        child.append(True)

    import threading

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert child


@pytest.mark.parametrize(
    ("copy", "size", "stays"), [(object(), 4, True), (object(), 5, False), (None, 5, True)],
    ids=["its version", "another version", "no copy"],
)  # fmt: skip
def test_a_node_whose_copy_is_of_another_version_is_dropped(
    tmp_path: Path, table: None, copy: Any, size: int, stays: bool
) -> None:
    node, now = a_node(), SimpleNamespace(size=size, mtime_ns=2, ctime_ns=3)
    node.open = SimpleNamespace(copy=copy, version=Version(4, 2, 3))
    assert install(tmp_path, node)
    AccessVectors(in_use=True).check_copy(node, now)  # type: ignore[arg-type]
    assert vectors.stats().nodes == int(stays)
