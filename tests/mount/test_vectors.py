"""The access vector cache: its answers are those that the daemon would have given, at any moment."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.mount.test_model import world_on
from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.models.pairs import Pair, compare
from tests.support.models.sequence_policies import POLICIES, UIDS
from tests.support.models.sequenced import campaign
from tests.support.mount.stores import Mounts

SEQUENCES = count(60, 10_000)
PAIRS = count(40, 5_000)
SECONDS = count(200, 3500)
LENGTH = 14
BLOCK = 20
READING = ("tests.support.mount.readers_on",)


@pytest.mark.timeout(SECONDS)
def test_calls_come_to_what_policy_and_twin_say_where_repeats_are_answered(arena: Path) -> None:
    with world_on(arena, app_mount=False, options=("--avc",), program=READING) as world:
        campaign(world, 1, SEQUENCES, LENGTH, BLOCK)
        for mount in world.mounts:
            said = mount.status()["vectors"]
            assert said["reading"]
            assert said["lookups"] > SEQUENCES, said


@pytest.mark.timeout(SECONDS)
def test_answers_attributes_and_trails_are_the_same_with_and_without(arena: Path) -> None:
    with file_system("tmpfs", arena) as disk:
        mounts = Mounts(arena)
        try:
            for number, options in enumerate((("--avc",), ())):
                store = disk / f"store-{number}"
                store.mkdir(mode=0o700)
                mount = mounts.prepare(POLICIES[0], store, *options)
                mount.program = READING if options else mount.program
                mount.start()
            with contextlib.closing(Pair(mounts.all)) as pair:
                compare(pair, 3, PAIRS, LENGTH, BLOCK)
                said = mounts.all[0].status()["vectors"]
                assert min(said["lookups"], said["getattrs"], said["accesses"]) > 2 * PAIRS, said
                assert said["lost"] < said["lookups"] // 100, said
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
        ours, theirs = pair.trails()
        assert ours == theirs


def _stats(directory: str, count: int, name: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(count):
        with contextlib.suppress(FileNotFoundError):
            os.stat(name or f"absent-{number}", dir_fd=fd)
    os.close(fd)


def test_the_readers_read_only_while_enough_requests_are_repeats(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "top/one").mkdir(parents=True)
    for directory in (empty_store / "top", empty_store / "top/one"):
        directory.chmod(0o755)
    (empty_store / "top/one/a").touch(0o644)
    mount = mounts.start(POLICIES[1], empty_store, "--avc")
    assert not mount.status()["vectors"]["reading"]
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
    said = mount.status()["vectors"]
    assert said["reading"]
    assert said["lookups"] + said["getattrs"] > 1500, said
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "")
    assert not mount.status()["vectors"]["reading"]
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
    assert mount.status()["vectors"]["began"] == 2


@pytest.mark.parametrize("options", [(), ("--no-avc",), ("--no-avc", "--app", "one")])
def test_other_mounts_have_no_vectors(mounts: Mounts, empty_store: Path, options: tuple[str, ...]) -> None:
    assert mounts.start(POLICIES[1], empty_store, *options).status()["vectors"] is None
