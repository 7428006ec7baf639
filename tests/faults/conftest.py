"""Fixtures of tests of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts

Disk = Callable[..., tuple[Mount, Path]]


@contextmanager
def _disks(arena: Path, mounts: Mounts) -> Iterator[Disk]:
    with ExitStack() as stack:
        started: list[Mount] = []

        def start(
            kind: str, *words: str, policy: str = faulty.POLICY, without: str = ""
        ) -> tuple[Mount, Path]:
            directory = arena / f"disk-{len(started)}"
            directory.mkdir()
            root = stack.enter_context(file_system(kind, directory, *words))
            store = root / "store"
            store.mkdir(mode=0o700)
            faulty.furnish(store)
            mount = mounts.prepare(policy, store)
            mount.expected_mediated = True  # some of these open nothing that passes through
            if without:
                mount.program = (WEAKENED, without)
            started.append(mount)
            return mount.start(), root

        try:
            yield start
        finally:
            wrong = [line for mount in started for line in mount.stop()]
    assert wrong == []


@pytest.fixture
def on_disk(arena: Path, mounts: Mounts) -> Iterator[Disk]:
    """`on_disk(kind, *mkfs_words, policy=..., without=...)`: a mount of a furnished store on a file system of
    its own, and the root of that; both are taken away in order. without: see tests/attack/weakened.py."""
    with _disks(arena, mounts) as start:
        yield start


@pytest.fixture(scope="module")
def module_on_disk(module_arena: Path, module_mounts: Mounts) -> Iterator[Disk]:
    """on_disk for all tests of one file."""
    with _disks(module_arena, module_mounts) as start:
        yield start
