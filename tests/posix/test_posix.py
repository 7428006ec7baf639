"""Under --posix and a policy that allows everything, a mount is the native file system.

Thousands of calls by several users, each made on a mount and natively on a file system of the same
kind beside its store; outcome and everything that can be seen afterwards are compared.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.posix import cases_acl, cases_attrs, cases_flags, cases_long, cases_names, cases_open
from tests.posix.differences import LISTED, listed_for
from tests.posix.sides import Case, checks_in, differences, places, run_cases
from tests.support.machine.counts import count, daily
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  all: {}
rules:
  - {id: all, allow: [all], paths: "/***"}
"""


class Road(NamedTuple):
    """One way through a mount, on one kind of disk."""

    name: str
    options: tuple[str, ...]
    disk: str = "ext4"

    @property
    def ticks(self) -> bool:
        """Times of the disk go by the kernel's tick: what happens within one leaves no trace."""
        return self.disk == "tmpfs"


ROADS = (
    Road("shared", ("--posix",)),
    Road("mediated", ("--posix", "--no-passthrough")),
    Road("app", ("--posix", "--app", "all", "--any-uid")),
)
OTHER_DISKS = tuple(Road(f"shared on {disk}", ("--posix",), disk) for disk in ("tmpfs", "xfs", "btrfs"))


PARTS = count(40, 1)
"""Each road goes through another part of so many."""


def table(offset: int) -> list[Case]:
    """All cases; of the two largest families every few, beginning with another one for each road."""
    few = count(16, 1)
    many = [*cases_names.sticky(), *cases_names.rights_in_directories()]
    return [
        *cases_attrs.all_cases(), *cases_names.all_cases(), *many[offset % few :: few],
        *cases_open.all_cases(), *cases_long.all_cases(), *cases_acl.all_cases(),
    ]  # fmt: skip


def compare(road: Road, cases: list[Case], arena: Path) -> Counter[str]:
    """Run cases on both sides. Fails with every difference that is not listed; how many were."""
    seen: Counter[str] = Counter()
    unlisted = []
    with file_system(road.disk, arena) as disk:
        store = places(disk, "store")
        native = places(disk, "native")
        mounts = Mounts(arena)
        try:
            mount = mounts.start(POLICY, store, *road.options)
            plain = call_as(0, run_cases, str(native), str(native), cases, deadline_s=300)
            through = call_as(0, run_cases, str(mount.mountpoint), str(store), cases, deadline_s=300)
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
    for step, said in differences(cases, through, plain, times=not road.ticks):
        known = listed_for(step, said)
        if known is None:
            unlisted.append(f"{step}\n    {said[:600]}")
        else:
            seen[known.name] += 1
    assert not unlisted, "\n".join([f"{len(unlisted)} differences", *unlisted[:60]])
    return seen


@pytest.mark.timeout(300)
@pytest.mark.parametrize("road", daily(ROADS, "mediated", "app"), ids=lambda road: road.name)
def test_a_mount_is_as_the_native_file_system(road: Road, arena: Path) -> None:
    number = ROADS.index(road)
    every = table(number)
    parts = Random(0).choices(range(PARTS), k=len(every))  # neighbours are of one user or one mode
    cases = [case for case, part in zip(every, parts, strict=True) if part == number % PARTS]
    assert checks_in(cases) >= 10_000 // PARTS
    seen = compare(road, cases, arena)
    if PARTS == 1:
        missed = {known.name for known in LISTED if not known.sometimes} - set(seen)
        assert not missed, "what is listed and not seen any more goes"


def test_the_documentation_lists_them_all() -> None:
    text = (Path(__file__).parents[2] / "docs/posix.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")}
    assert rows - {"what differs"} == {known.name for known in LISTED}


@pytest.mark.parametrize("road", daily(ROADS, "shared"), ids=lambda road: road.name)
def test_files_that_can_only_grow_or_not_change(road: Road, arena: Path) -> None:
    compare(road, cases_flags.all_cases(), arena)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("road", OTHER_DISKS, ids=lambda road: road.name)
def test_other_file_systems_too(road: Road, arena: Path) -> None:
    compare(road, [*table(0), *cases_flags.all_cases()], arena)
