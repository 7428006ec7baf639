"""The file of a pool's branch, found by the pool's answer and the daemon's own path."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.machine.findings import State
from policyfs.cli.machine.store_checks import probe_store
from policyfs.store.pool import NotBelowError, Pool
from policyfs.store.tree import Tree
from tests.support.mount import layers

pytestmark = pytest.mark.mount


def is_pool(store: Path) -> bool:
    with Tree.open(os.fspath(store)) as tree:
        pool = Pool.of(tree.root_fd)
    if pool is not None:
        pool.close()
    return pool is not None


@contextlib.contextmanager
def pool_of(store: Path) -> Iterator[Pool]:
    with Tree.open(os.fspath(store)) as tree:
        pool = Pool.of(tree.root_fd)
    assert pool is not None
    with contextlib.closing(pool):
        yield pool


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A branch with a film."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "base/DCIM").mkdir(parents=True)
    (tmp_path / "base/DCIM/film").write_bytes(b"first")
    return tmp_path / "base"


@pytest.fixture
def store(base: Path) -> Iterator[Path]:
    with layers.mergerfs(base, base.parent / "layer") as store:
        yield store


def below(pool: Pool, path: Path, name: bytes) -> bytes | None:
    """The bytes of the branch's file, which must be the same; None if the branch has none of this name."""
    with path.open("rb") as file:
        try:
            fd = pool.open_below(file.fileno(), name)
        except NotBelowError:
            return None
        try:
            assert pool.same(file.fileno(), fd)
            return os.read(fd, 100)
        finally:
            os.close(fd)


def test_each_file_is_found_in_its_branch_also_if_the_store_is_a_part_of_the_pool(
    store: Path, base: Path
) -> None:
    second = base.parent / "layer/second-branch"
    (second / "DCIM").mkdir()
    (second / "DCIM/other").write_bytes(b"second")
    for directory, inner in ((store, b"/DCIM/"), (store / "DCIM", b"/")):
        with pool_of(directory) as pool:
            assert pool.branches() == [os.fsencode(base), os.fsencode(second)]
            assert below(pool, store / "DCIM/film", inner + b"film") == b"first"
            assert below(pool, store / "DCIM/other", inner + b"other") == b"second"
            assert below(pool, store / "DCIM/other", inner + b"film") is None, "in another branch"


def test_no_store_but_a_pool_has_branches_whatever_its_files_say(base: Path) -> None:
    os.setxattr(base / "DCIM/film", b"user.mergerfs.basepath", b"/")
    (base / ".mergerfs").touch()
    os.setxattr(base / ".mergerfs", b"user.mergerfs.branches", b"/")
    assert not is_pool(base)
    with layers.bindfs(base, base.parent) as store:
        assert not is_pool(store)


def test_a_part_of_a_pool_that_is_mounted_elsewhere_is_no_pool(store: Path, base: Path) -> None:
    """A file at the place of the control file could be an app's."""
    elsewhere = base.parent / "elsewhere"
    elsewhere.mkdir()
    layers.mount("--bind", store / "DCIM", elsewhere)
    try:
        assert not is_pool(elsewhere)
    finally:
        layers.unmount(elsewhere)


def test_what_a_file_says_itself_counts_for_nothing(store: Path, base: Path) -> None:
    os.setxattr(base / "DCIM/film", b"user.mergerfs.basepath", os.fsencode(base.parent / "layer"))
    with pool_of(store) as pool:
        assert below(pool, store / "DCIM/film", b"/DCIM/film") == b"first"


def test_leases_mean_something_if_they_do_on_each_branch(store: Path, base: Path) -> None:
    with pool_of(store) as pool:
        assert pool.leases_mean()
        absent = b"+>" + os.fsencode(base.parent / "absent")
        os.setxattr(store / ".mergerfs", "user.mergerfs.branches", absent)
        assert pool.leases_mean(), "mergerfs serves no file of that branch"
        with layers.overlay(base, base.parent / "layer") as merged:
            os.setxattr(store / ".mergerfs", "user.mergerfs.branches", b"+>" + os.fsencode(merged))
            assert not pool.leases_mean()
            os.setxattr(store / ".mergerfs", "user.mergerfs.branches", b"-" + os.fsencode(merged))


def test_doctor_finds_the_leases_of_a_pool(store: Path) -> None:
    [finding] = [row for row in probe_store(os.fspath(store)) if row.name == "leases"]
    assert finding.state is State.OK


@pytest.mark.parametrize("swapped", ["file", "directory"])
def test_no_symlink_in_a_branch_is_followed(swapped: str, store: Path, base: Path) -> None:
    outside = base.parent / "outside"
    outside.mkdir()
    (outside / "film").write_bytes(b"secret")
    with (store / "DCIM/film").open("rb") as file, pool_of(store) as pool:
        (base / "DCIM").rename(base / "old")
        if swapped == "directory":
            (base / "DCIM").symlink_to(outside)
        else:
            (base / "DCIM").mkdir()
            (base / "DCIM/film").symlink_to(outside / "film")
        with pytest.raises(NotBelowError):
            pool.open_below(file.fileno(), b"/DCIM/film")


def test_the_pool_is_asked_for_what_it_has_now(store: Path, base: Path) -> None:
    """The kernel remembers a pool's attributes for a second."""
    (base / "DCIM/other").write_bytes(b"first")
    with (store / "DCIM/film").open("rb") as ours, (base / "DCIM/film").open("rb") as film:
        assert Pool.same(ours.fileno(), film.fileno())
        with (base / "DCIM/film").open("ab") as more:
            more.write(b" and more")
        assert Pool.same(ours.fileno(), film.fileno())
        with (base / "DCIM/other").open("rb") as other:
            assert not Pool.same(ours.fileno(), other.fileno())
