"""Random sequences of calls by three uids through two mounts of a store, against policy and twin.

For each call the naive evaluator (tests/support/models/naive_policy.py) says whether it is allowed and
with which errno it is not; what is allowed must come to what it comes to in a plain directory.
In the end the whole store must be what that directory is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import SOAK, count, daily
from tests.support.machine.images import file_system
from tests.support.models.sequence_policies import POLICIES
from tests.support.models.sequenced import Difference, Sequenced, campaign, worlds
from tests.support.models.sequences import MAKERS
from tests.support.mount.stores import Mounts

SEQUENCES = count(50, 30_000)
SECONDS = count(200, 3500)
LENGTH = 14
BLOCK = 25
MUST_BE_REFUSED = {
    "open",
    "content",
    "unlink",
    "mkdir",
    "rename",
    "link",
    "truncate",
    "chmod",
    "pwrite",
    "list",
}


@contextlib.contextmanager
def world_on(
    arena: Path, *, app_mount: bool, program: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> Iterator[Sequenced]:
    """A store on a disk of its own, two mounts of it, and a place for twins beside it."""
    with file_system("tmpfs", arena) as disk:
        store, native = disk / "store", disk / "native"
        for directory in (store, native):
            directory.mkdir(mode=0o700)
        mounts = Mounts(arena)
        try:
            made = [mounts.prepare(POLICIES[0], store, *options)]
            made.append(mounts.prepare(POLICIES[0], store, *(("--app", "one") if app_mount else options)))
            for mount in made:
                mount.program = program or mount.program
                mount.start()
            with contextlib.contextmanager(worlds)(made, [None, 0 if app_mount else None], native) as world:
                yield world
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    "app_mount", daily([False, True], True), ids=["two shared mounts", "a shared and an app mount"]
)
def test_calls_come_to_what_policy_and_twin_say(arena: Path, app_mount: bool) -> None:
    with world_on(arena, app_mount=app_mount) as world:
        campaign(world, 1, SEQUENCES, LENGTH, BLOCK)
    for call in MAKERS:
        allowed = world.outcomes[f"{call} ok"] + world.outcomes[f"{call} error"]
        assert allowed > SEQUENCES // 100, f"{call} was hardly ever allowed"
    for call in MUST_BE_REFUSED:
        assert world.outcomes[f"{call} refused"] > SEQUENCES // 100, f"{call} was hardly ever refused"


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize(
    ("guard", "first"),
    [
        ("moved-for-gain", 8),
        ("content-unasked", 350),
        ("owner-stays", 38),
        ("hidden-listed", 26),
        *(
            pytest.param(guard, 0, marks=pytest.mark.soak)
            for guard in ("replaced-unasked", "written-in-place")
        ),
    ],
)
def test_a_daemon_that_lacks_a_guard_is_found_out(arena: Path, guard: str, first: int) -> None:
    """Within as many sequences as are run against the whole one. first: those before it find nothing, which
    takes time; `make soak` runs them, too."""
    with (
        pytest.raises(Difference),
        world_on(arena, app_mount=False, program=("tests.mount.weaker", guard)) as world,
    ):
        campaign(world, 1, 1000, LENGTH, BLOCK, first=0 if SOAK else first, cut=False)
