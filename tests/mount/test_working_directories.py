"""A process keeps its working directory's path while the policy changes and directories move beside it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_reload import HEAD, change
from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

ONE, TWO = 10010, 10011
APART = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
  - {id: hide, deny: [all], who: {app: two}, paths: "/Music/***", errno: ENOENT}
  - {id: own, require: {redact: %s}, who: {app: one}, paths: "/***"}
"""
)
SAME = (
    HEAD
    + """\
  - {id: all, allow: [all], paths: "/***"}
"""
)
CHANGES = {
    "for all": (SAME, SAME + '  - {id: hide, deny: [all], paths: "/Music/***", errno: ENOENT}\n'),
    "for one": (APART % "location", APART % "device"),
}
"""Policies that both show the working directory; they hide other things, from all callers or from one."""


def asks(channel, directory: Path) -> Counter[str]:
    """Ask for the path of the working directory until told to stop; how often each error came. Says when it
    has asked 100 times."""
    os.chdir(directory)
    said: Counter[str] = Counter()
    channel.send("there")
    while not channel.poll():
        if said.total() == 100:
            channel.send("often")
        try:
            said["" if os.getcwd() == str(directory) else "elsewhere"] += 1
        except OSError as failed:
            said[errno.errorcode[failed.errno or 0]] += 1
    return said


def walks(channel, directory: Path) -> None:
    """Look the directory up by its path, and an absent name in it, until told to stop. Says when it has five
    times."""
    number = 0
    channel.send("there")
    while not channel.poll():
        if number == 5:
            channel.send("often")
        os.lstat(directory)
        assert not (directory / "none").exists()
        number += 1


def asked_during(mount: Mount, meanwhile: Callable[[], object], *, alone: bool) -> Counter[str]:
    """What a process hears of its working directory while others walk to it. meanwhile: repeated until each
    of them has asked often. alone: all have one uid."""
    directory = mount / "a/inner"
    children = [start_as(ONE, asks, directory)]
    children += [start_as(uid, walks, directory) for uid in (ONE, ONE if alone else TWO) * 2]
    try:
        for child in children:
            assert child.receive() == "there"

        def all_have_asked() -> bool:
            meanwhile()
            return all(child.channel.poll() for child in children)

        wait_for(all_have_asked, "each of them has asked often", 60)
        for child in children:
            child.send("stop")
        said, *_ = [child.result() for child in children]
    finally:
        for child in children:
            child.kill()
    return said


@pytest.fixture
def tree(empty_store: Path) -> Path:
    for name in ("a", "a/inner", "b", "b/moved", "c", "Music"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    return empty_store


def reloaded(mount: Mount, policies: tuple[str, str], *, alone: bool) -> Counter[str]:
    """What the process hears while these policies take turns."""

    def reloads() -> None:
        for turn in range(count(8, 1_000)):
            change(mount, policies[(turn + 1) % 2])

    return asked_during(mount, reloads, alone=alone)


@pytest.mark.parametrize("option", first(1, [("shared",), ("app",)]))
@pytest.mark.parametrize("who", CHANGES)
def test_a_reload_leaves_it_its_path(mounts: Mounts, tree: Path, who: str, option: str) -> None:
    policies, alone = CHANGES[who], option == "app"
    mount = mounts.start(policies[0], tree, *(("--app", "one") if alone else ()))
    said = reloaded(mount, policies, alone=alone)
    assert set(said) == {""}, said


def test_it_has_none_for_a_moment_where_all_names_are_dropped_at_once(mounts: Mounts, tree: Path) -> None:
    mount = mounts.prepare(CHANGES["for all"][0], tree)
    mount.program = ("tests.attack.weakened", "reload-by-epoch")
    mount.start()
    assert any(reloaded(mount, CHANGES["for all"], alone=False)["ENOENT"] for _ in range(40)), "it takes luck"


RULES = {
    "one rule": SAME,
    "a rule for each": HEAD
    + "".join(f'  - {{id: {name}, allow: [all], paths: "/{name}/***"}}\n' for name in ("a", "b", "c")),
}


@pytest.mark.parametrize("rules", RULES)
def test_a_move_of_a_directory_beside_it_leaves_it_its_path(mounts: Mounts, tree: Path, rules: str) -> None:
    mount = mounts.start(RULES[rules], tree)

    def moves() -> None:
        for _ in range(count(25, 5_000)):
            os.rename(mount / "b/moved", mount / "c/moved")
            os.rename(mount / "c/moved", mount / "b/moved")

    said = asked_during(mount, moves, alone=False)
    assert set(said) == {""}, said


BY_OWNER = (
    HEAD
    + """\
  - {id: all, allow: [all], paths: "/***"}
  - {id: private, deny: [all], who: {app: two}, paths: "/a/*", when: {owner: one}, errno: ENOENT}
"""
)


def works_inside(channel, directory: Path) -> str:
    """Make directories, and tell the path of the inner one from within, after the other app's requests."""
    (directory / "inner").mkdir(parents=True)
    os.chdir(directory / "inner")
    channel.send("there")
    channel.recv()
    return os.getcwd()


@pytest.mark.parametrize("request_of_two", ["rmdir", "rename", "rename onto it"])
def test_another_app_from_which_the_owner_above_hides_it_does_not_take_its_path(
    mounts: Mounts, tree: Path, request_of_two: str
) -> None:
    mount = mounts.start(BY_OWNER, tree)
    inner, moved = mount / "a/own/inner", mount / "b/moved"
    requests = {
        "rmdir": (os.rmdir, inner),
        "rename": (os.rename, inner, mount / "c/new"),
        "rename onto it": (os.rename, moved, inner),
    }
    child = start_as(ONE, works_inside, mount / "a/own")
    try:
        assert child.receive() == "there"
        assert call_as(TWO, code_of, *requests[request_of_two]) == "EACCES"
        child.send("tell")
        assert child.result() == str(inner)
    finally:
        child.kill()
