"""E2: a file with very many hard links, opened, refused, linked again and renamed.

What a request costs is told by the daemon's own processor time, so that a busy machine changes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.fs.path_bounds import KEPT_NAMES
from tests.support.machine.counts import count, first
from tests.support.machine.deep import cpu_s
from tests.support.machine.processes import Child, call_as, code_of, start_as
from tests.support.models.twins import content
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.load

LINKER, HONEST = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  linker: {{uid: {LINKER}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
  - {{id: fixed, deny: [attr], who: {{app: any}}, paths: "/{{app}}/**"}}
"""
KINDS: Final = {"shared": (), "app": ("--app", "linker")}
MOST_ON_EXT4: Final = 65_000


def names() -> int:
    return count(1_000, 64_900)


def furnish(store: Path, many: int) -> Path:
    """A file of the linker's with one name, and one with many."""
    for app, uid in (("linker", LINKER), ("honest", HONEST)):
        (store / app).mkdir()
        os.chown(store / app, uid, uid)
    for directory in ("one", "many"):
        place = store / "linker" / directory
        place.mkdir()
        (place / "0").write_bytes(b"words")
        for path in (place, place / "0"):
            os.chown(path, LINKER, LINKER)
    place = os.open(store / "linker/many", os.O_PATH)
    for number in range(1, many):
        os.link("0", str(number), src_dir_fd=place, dst_dir_fd=place)
    os.close(place)
    return store


def _link(channel: Any, root: str, reached: int) -> None:
    """At each message so many rounds on a file, of which that many names were reached before."""
    held = os.open(f"{root}/0", os.O_RDONLY)
    for number in range(reached):
        os.stat(f"{root}/{number}")
    channel.send("reached")
    while rounds := channel.recv():
        for turn in range(rounds):
            os.close(os.open(f"{root}/{turn % reached}", os.O_RDWR))
            assert code_of(os.chmod, f"/proc/self/fd/{held}", 0o600) == "EACCES"
            assert code_of(os.chmod, f"{root}/{turn % reached}", 0o600) == "EACCES"
            os.link(f"{root}/{turn % reached}", f"{root}/new")
            os.rename(f"{root}/new", f"{root}/newer")
            os.unlink(f"{root}/newer")
        channel.send("done")
    os.close(held)


def _cost_s(mount: Mount, child: Child, rounds: int) -> float:
    """Processor time of the daemon for one round, in seconds."""
    before = cpu_s(mount.pid)
    child.send(rounds)
    assert child.receive(120) == "done"
    return (cpu_s(mount.pid) - before) / rounds


def times_dearer(mount: Mount, many: int) -> float:
    """How many times as much a round costs the daemon on a file with many names as on one with one."""
    costs = []
    for directory, reached in (("one", 1), ("many", many)):
        child = start_as(LINKER, _link, str(mount / f"linker/{directory}"), reached)
        assert child.receive(600) == "reached"
        _cost_s(mount, child, 20)
        costs.append(min(_cost_s(mount, child, 40) for _ in range(3)))
        child.send(0)
        child.result(60)
    print(f"ms for one round: {costs[0] * 1000:.1f}, {costs[1] * 1000:.1f}")
    return costs[1] / costs[0]


DEARER: Final = 3
"""What a file with thousands of names may cost more."""


@pytest.mark.night
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "disk"), [("shared", "ext4"), ("app", "xfs")])
def test_many_names_cost_little_more_than_one(
    mounts_on: Mounts, store_on: Callable[[str], Path], kind: str, disk: str
) -> None:
    """Attack E2.3: Make requests for a file with thousands of names (65,000 in `make soak`): open, change,
    link, rename, also denied ones
    Guard: policyfs/fs/inodes/node.py::HardLinks.add, policyfs/fs/inodes/resolver.py::Resolver.renamed
    Also: ::test_only_the_store_says_that_there_are_too_many
    Without: ::test_they_cost_by_their_number_where_each_is_looked_at
    """
    many = names()
    mount = mounts_on.start(POLICY, furnish(store_on(disk), many), *KINDS[kind])
    assert times_dearer(mount, many) < DEARER


@pytest.mark.soak
def test_they_cost_by_their_number_where_each_is_looked_at(
    without: Callable[..., Mount], store_on: Callable[[str], Path]
) -> None:
    assert times_dearer(without("all-names", POLICY, furnish(store_on("ext4"), 1_000)), 1_000) > DEARER


def _link_until(channel: Any, root: str) -> tuple[int, str]:
    del channel
    made = 0
    while not (code := code_of(os.link, f"{root}/0", f"{root}/more{made}")):
        made += 1
    return made, code


def test_only_the_store_says_that_there_are_too_many(
    mounts_on: Mounts, store_on: Callable[[str], Path]
) -> None:
    """ext4 takes 65,000 names of one file."""
    mount = mounts_on.prepare(POLICY, furnish(store_on("ext4"), MOST_ON_EXT4 - 20))
    mount.expected_mediated = True  # nothing is opened
    mount.start()
    assert start_as(LINKER, _link_until, str(mount / "linker/many")).result(60) == (20, "EMLINK")
    assert (mount.store / "linker/many/0").stat().st_nlink == MOST_ON_EXT4


# ---------------------------------------------------------------- decided by all of them

CLOSES: Final = POLICY + '  - {id: closed, deny: [all], who: {app: any}, paths: "/linker/many/last"}\n'


def _reach(channel: Any, root: str) -> list[str]:
    """Reaches a file by more names than are kept, and holds it by the last."""
    for number in range(KEPT_NAMES + 50):
        os.stat(f"{root}/{number}")
    held = os.open(f"{root}/last", os.O_PATH)
    before = code_of(content, f"/proc/self/fd/{held}")
    channel.send("held")
    channel.recv()
    return [before, code_of(content, f"/proc/self/fd/{held}"), code_of(content, f"{root}/0")]


def held_by_a_closed_name(mount: Mount, store: Path) -> list[str]:
    child = start_as(LINKER, _reach, str(mount / "linker/many"))
    assert child.receive(60) == "held"
    mount.policy.write_text(CLOSES, encoding="utf-8")
    assert mount.reload().returncode == 0
    child.send("reloaded")
    with contextlib.suppress(FileNotFoundError):
        assert (store / "linker/many/0").read_bytes() == b"words"
    return child.result(60)


@pytest.fixture
def linked(empty_store: Path) -> Path:
    furnish(empty_store, KEPT_NAMES + 50)
    os.link(empty_store / "linker/many/0", empty_store / "linker/many/last")
    return empty_store


@pytest.mark.parametrize("kind", first(1, zip(KINDS)))
def test_a_name_that_is_not_kept_is_still_decided_by(mounts: Mounts, linked: Path, kind: str) -> None:
    """Attack E2.4: Open a file by a name beyond those that the daemon keeps, and keep it open while a
    reload forbids this name
    Guard: policyfs/fs/inodes/node.py::HardLinks.add, policyfs/fs/inodes/node.py::Node.states
    Without: ::test_the_file_is_read_where_such_names_are_forgotten
    """
    mount = mounts.start(POLICY, linked, *KINDS[kind])
    before, held, by_name = held_by_a_closed_name(mount, linked)
    assert (before, by_name) == ("", "")
    assert held == "ESTALE"
    if kind == "shared":
        (linked / "honest/f").write_bytes(b"honest")
        assert call_as(HONEST, content, str(mount / "honest/f")) == b"honest"


def test_the_file_is_read_where_such_names_are_forgotten(without, linked: Path) -> None:
    mount = without("names-forgotten", POLICY, linked)
    assert held_by_a_closed_name(mount, linked)[:2] == ["", ""]
