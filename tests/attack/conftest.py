"""Fixtures of attacks: stores on real file systems, races, and daemons that lack a guard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.racing import Race, build
from tests.support.machine.images import file_system
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts


@pytest.fixture(scope="session")
def race_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """race.c, compiled."""
    return build(tmp_path_factory.mktemp("race"))


@pytest.fixture
def race(race_binary: Path, arena: Path) -> Race:
    """A race with its files in the arena, where plain uids can run and read them."""
    binary = arena / "race"
    binary.write_bytes(race_binary.read_bytes())
    binary.chmod(0o755)
    return Race(binary, arena)


@pytest.fixture
def store_on(arena: Path) -> Iterator[Callable[[str], Path]]:
    """`store_on(kind)`: an empty store of mode 0700 on a new file system of that kind."""
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> Path:
            directory = arena / f"image-{kind}"
            directory.mkdir()
            store = stack.enter_context(file_system(kind, directory)) / "store"
            store.mkdir(mode=0o700)
            return store

        yield make


@pytest.fixture
def mounts_on(store_on: Callable[[str], Path], mounts: Mounts) -> Mounts:
    """The mounts of a test whose stores come from `store_on`: stopped before those are unmounted."""
    return mounts


@pytest.fixture
def without(mounts_on: Mounts) -> Callable[..., Mount]:
    """`without(guards, policy, store, *options)`: a running mount whose daemon lacks one guard, or several
    that have nothing to do with each other (separated by commas). descriptors: see Mount."""

    def start(guard: str, policy: str, store: Path, *options: str, descriptors: int = 0) -> Mount:
        mount = mounts_on.prepare(policy, store, *options)
        mount.most_descriptors = descriptors
        mount.program = ("tests.attack.weakened", guard)
        return mount.start()

    return start
