"""One file under random reads, writes, maps, truncations and holes, through two mounts of its store.

In passthrough both mounts have the file open at the same time, and agree at once. Where the daemon
mediates they take turns: what was changed in one is seen in the other by whoever opens it then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machine.counts import count, first
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts
from tests.support.programs.exerciser import FALLOCATE_MODES, Plan, exercise
from tests.support.samples.jpegs import plain

UID = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  all: {{uid: {UID}}}
  other: {{uid: {UID + 1}}}
rules:
  - {{id: all, allow: [all], who: {{app: all}}}}
"""
OPERATIONS = count(500, 200_000)
SECONDS = count(100, 3000)


@dataclass(frozen=True, slots=True)
class Road:
    """A way of the file's bytes through both mounts."""

    name: str
    rules: str = ""
    options: tuple[str, ...] = ()
    disk: str = "ext4"
    together: bool = False
    head: bytes = b""


ROADS = (
    Road("passthrough", together=True),
    Road("mediated", options=("--no-passthrough",)),
    Road("checked", rules="  - {id: kinds, require: {content: [image/jpeg]}}\n", head=plain()),
)


@pytest.fixture(scope="module", params=ROADS, ids=lambda road: road.name)
def road(request: pytest.FixtureRequest) -> Road:
    return request.param


@pytest.fixture(scope="module")
def twice(road: Road, module_arena: Path) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """A store, mounted twice: the store and both mounts."""
    directory = module_arena / road.name
    directory.mkdir()
    directory.chmod(0o711)
    with file_system(road.disk, directory) as disk:
        store = disk / "store"
        store.mkdir(mode=0o700)
        mounts = Mounts(directory)
        try:
            pair = tuple(mounts.start(POLICY + road.rules, store, *road.options).mountpoint for _ in range(2))
            yield store, pair
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("seed", first(1, zip(range(3))))
def test_every_byte_is_the_models(road: Road, twice: tuple[Path, tuple[Path, ...]], seed: int) -> None:
    store, pair = twice
    name = f"file-{seed}"
    (store / name).touch()
    plan = Plan(
        paths=tuple(os.fsencode(mountpoint / name) for mountpoint in pair),
        together=road.together,
        head=road.head,
        operations=OPERATIONS,
        seed=seed,
    )
    wanted, done = call_as(UID, exercise, plan, deadline_s=SECONDS)
    assert (store / name).read_bytes() == wanted
    assert done["map_write"] > OPERATIONS // 20
    assert all(done[name] > OPERATIONS // 1000 for name in ("copied", *FALLOCATE_MODES)), done
