"""Fixtures of tests that mount the smallest file system on the kernel layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mount.lockplace import Place
from tests.support.mount.tinyfs import Options, Tiny
from tests.support.programs.lockers import Locker


@pytest.fixture
def tiny_at(arena: Path) -> Iterator:
    """`tiny_at(mountpoint, content, backing, **options)`: a running TinyFs."""
    running: list[Tiny] = []

    def start(mountpoint: Path, content: bytes = b"hello world\n", backing: Path | None = None, **options):
        if backing is None:
            backing = arena / f"tiny-store-{len(running)}" / "file"
            backing.parent.mkdir(mode=0o700)
        backing.write_bytes(content)
        running.append(Tiny(mountpoint, backing, Options(**options)))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def tiny(tiny_at, arena: Path):
    """`tiny(content, **options)`: a running TinyFs on a mountpoint of its own."""

    def start(content: bytes = b"hello world\n", **options) -> Tiny:
        mountpoint = arena / "tiny"
        mountpoint.mkdir()
        return tiny_at(mountpoint, content, **options)

    return start


@pytest.fixture
def locker(place: Place) -> Iterator[Callable[..., Locker]]:
    """`locker(side, name)`: a process of that side with the file open. `place` is the test file's own."""
    with place.lockers() as make:
        yield make
