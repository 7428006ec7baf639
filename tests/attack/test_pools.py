"""Files too large to copy in a mergerfs pool: read in their branch, under a lease."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.attack.racing import Race
from tests.attack.test_leases import short_leases
from tests.attack.test_races import IN_VIEW, LEASED_TRIES, POLICY, READER, SECONDS, WRITER, populate, run
from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import layers
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples.jpegs import leaks

GIVES_WAY_S: Final = 5.0
"""A writer waits no longer than this; the kernel would take the lease after 45 s."""
__all__ = ["short_leases"]
pytestmark = pytest.mark.timeout(SECONDS + 120)


class Pooled(NamedTuple):
    """A pool, and the branch with all its files."""

    store: Path
    branch: Path


@pytest.fixture
def pooled(store_on: Callable[[str], Path], arena: Path, race: Race) -> Iterator[Pooled]:
    """A pool with a photo, whose server has one thread."""
    branch = store_on("ext4")
    branch.parent.chmod(0o711)
    branch.chmod(0o711)
    populate(branch, race)
    (arena / "layer").mkdir()
    with layers.mergerfs(branch, arena / "layer", ",threads=1") as store:
        yield Pooled(store, branch)


@pytest.mark.parametrize("way", first(2, [("pool",), ("branch",), ("mount",)]))
def test_no_pass_over_a_pool_sees_a_place(way: str, pooled: Pooled, mounts_on: Mounts, race: Race) -> None:
    """Whether the writer comes by the mount, by the pool, or by the branch.

    Attack A2.3: The same in a mergerfs pool, while a program writes through the mount, the pool or the
    branch; put another file or a symlink into the branch; set mergerfs's xattrs in the store
    Guard: policyfs/store/locking/leases.py::Lease.holds, policyfs/store/pool.py::Pool.open_below
    Also: ::test_a_file_that_was_moved_to_another_branch_is_shown_as_it_is_there,
    tests/unit/test_store_pool.py::test_no_store_but_a_pool_has_branches_whatever_its_files_say,
    tests/unit/test_store_pool.py::test_what_a_file_says_itself_counts_for_nothing,
    tests/unit/test_store_pool.py::test_no_symlink_in_a_branch_is_followed
    Without: ::test_a_pool_leaks_without_leases
    """
    mount = mounts_on.start(POLICY, pooled.store, "--copy-max", "4K")
    mount.expected_mediated = True
    path = None if way == "mount" else getattr(pooled, "store" if way == "pool" else way) / "DCIM/a.jpg"
    seen = run(race, mount, "visit", LEASED_TRIES, techniques=IN_VIEW, pause_us=8000, writer_path=path)
    assert not seen.leaked, seen
    assert seen.entered >= LEASED_TRIES, seen
    assert all(seen.passes(technique) for technique in ("read", "pread", "mmap-shared")), seen
    assert mount.status()["leases"]["broken"] > 0, "the writer never came under a lease"


def reads_on(channel, path: Path) -> int:
    """Open and read a file until told to stop: each open and read makes requests to the pool."""
    done = 0
    while not channel.poll():
        try:
            done += len(path.read_bytes()) > 0
        except OSError:
            time.sleep(0.01)
        else:
            if done == 1:
                channel.send("reading")
    channel.recv()
    return done


def writes_on(path: Path, seconds: float, enough: float) -> float:
    """Open a file for writing again and again; the longest wait in seconds. enough: a wait that ends it."""
    longest, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until and longest < enough:
        start = time.monotonic()
        os.close(os.open(path, os.O_WRONLY))
        longest = max(longest, time.monotonic() - start)
        time.sleep(0.05)
    return longest


def longest_wait(mount: Mount, path: Path, seconds: float, enough: float = GIVES_WAY_S) -> float:
    """The longest wait of a writer of the pool, whose only thread the daemon needs, too."""
    mount.expected_mediated = True
    readers = [start_as(READER, reads_on, mount / "DCIM/a.jpg") for _ in range(2)]
    for reader in readers:
        assert reader.receive() == "reading"
    waited = call_as(WRITER, writes_on, path, seconds, enough)
    for reader in readers:
        reader.send("stop")
        assert reader.result() > 0
    return waited


def test_a_pool_with_one_thread_never_waits_for_the_daemon(pooled: Pooled, mounts_on: Mounts) -> None:
    """Attack B6.6: The same on NFS, or in a mergerfs pool with one thread, which waits for the lease, while
    the daemon waits
    Guard: policyfs/store/locking/leases.py::LeaseKeeper.release_early
    Also: tests/guest/delegations.py::test_no_change_of_a_file_under_a_lease_waits_for_long
    Without: ::test_it_waits_where_the_loop_releases_the_lease,
    tests/guest/delegations.py::test_changes_wait_where_the_loop_releases_the_lease
    """
    mount = mounts_on.start(POLICY, pooled.store, "--copy-max", "4K")
    until = time.monotonic() + SECONDS + 60
    while mount.status()["leases"]["broken"] == 0:
        assert time.monotonic() < until
        assert longest_wait(mount, pooled.store / "DCIM/a.jpg", count(2, 600)) < GIVES_WAY_S


@pytest.mark.alone
def test_it_waits_where_the_loop_releases_the_lease(
    pooled: Pooled, without: Callable[..., Mount], short_leases: None
) -> None:
    """The kernel takes the lease after a second, in place of 45."""
    mount = without("released-by-the-loop", POLICY, pooled.store, "--copy-max", "4K")
    assert longest_wait(mount, pooled.store / "DCIM/a.jpg", 60, 0.7) > 0.7


CONTROLS: Final = {"user.mergerfs.branches": b"+>/", "user.mergerfs.cache.files": b"full"}
EVERYTHING: Final = POLICY.replace('paths: "/DCIM/**"}', 'paths: "/**"}')


def controls(path: Path) -> dict[str, str]:
    """Try to control the pool through a file of a mount; the errors."""
    found = {name: error(os.setxattr, path / ".mergerfs", name, value) for name, value in CONTROLS.items()}
    return found | {"get": error(os.getxattr, path / "DCIM/a.jpg", "user.mergerfs.fullpath")}


def test_no_app_controls_the_pool_or_learns_where_its_branches_are(pooled: Pooled, mounts_on: Mounts) -> None:
    """Attack B2.3: Add a directory of the machine to a mergerfs pool, by an xattr of its control file
    Guard: policyfs/store/tree.py::Tree.setxattr
    Without: ::test_an_app_adds_a_branch_where_the_pools_attributes_are_like_others
    """
    mount = mounts_on.start(EVERYTHING, pooled.store)
    mount.expected_mediated = True
    before = os.getxattr(pooled.store / ".mergerfs", "user.mergerfs.branches")
    answers = call_as(WRITER, controls, mount.mountpoint)
    assert set(answers.values()) <= {"ENOTSUP"}, answers
    assert os.getxattr(pooled.store / ".mergerfs", "user.mergerfs.branches") == before


def test_an_app_adds_a_branch_where_the_pools_attributes_are_like_others(
    pooled: Pooled, without: Callable[..., Mount]
) -> None:
    mount = without("pool-controlled", EVERYTHING, pooled.store)
    mount.expected_mediated = True
    call_as(WRITER, controls, mount.mountpoint)
    assert os.getxattr(pooled.store / ".mergerfs", "user.mergerfs.branches").endswith(b":/=RW")


def test_a_file_that_was_moved_to_another_branch_is_shown_as_it_is_there(
    pooled: Pooled, mounts_on: Mounts, race: Race
) -> None:
    """As when disks are balanced: the lease on the old file keeps nobody from the new one."""
    mount = mounts_on.start(POLICY, pooled.store, "--copy-max", "4K")
    mount.expected_mediated = True
    path, second = mount / "DCIM/a.jpg", pooled.store.parent / "second-branch/DCIM"
    reader = start_as(READER, reads_on, path)
    assert reader.receive() == "reading"
    second.mkdir()
    (second / "a.jpg").write_bytes(race.images[1] + b"more")
    (second / "a.jpg").chmod(0o666)
    (pooled.branch / "DCIM/a.jpg").unlink()
    wait_for(lambda: len(call_as(READER, path.read_bytes)) == len(race.images[1]) + 4, "the new file", 10)
    assert not leaks(call_as(READER, path.read_bytes))
    reader.send("stop")
    reader.result()


def test_a_pool_leaks_without_leases(pooled: Pooled, without: Callable[..., Mount], race: Race) -> None:
    mount = without("no-leases", POLICY, pooled.store, "--copy-max", "4K")
    mount.expected_mediated = True
    path = pooled.branch / "DCIM/a.jpg"
    seen = run(race, mount, "visit", 3000, techniques=IN_VIEW, pause_us=8000, leaks=1, writer_path=path)
    assert seen.leaked
