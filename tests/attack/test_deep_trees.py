"""E1, E2: paths that no single call could name, and trees as deep as can be made.

What a request costs is told by the daemon's own processor time, so that a busy machine changes nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.fs.path_bounds import MAX_LEVELS, MAX_PATH_BYTES
from tests.support.machine.counts import first
from tests.support.machine.deep import LONG, clear, cpu_s, descend, dug, opened_down
from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

DEEP, HONEST = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: deep}}
apps:
  deep: {{uid: {DEEP}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
"""
HIDES: Final = (
    POLICY
    + """\
  - {id: others, deny: [see], who: {app: any}, paths: "/deep/*/**", when: {owner: honest}, errno: ENOENT}
"""
)
"""Each directory hides what is below it from others than its owner."""
KINDS: Final = {"shared": (), "app": ("--app", "deep")}
FEW: Final = 600
"""The daemon keeps 75 descriptors of directories."""
TOO_LONG: Final = "ENAMETOOLONG"


@pytest.fixture
def store(empty_store: Path) -> Path:
    for name, uid in (("deep", DEEP), ("honest", HONEST)):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, uid, uid)
    (empty_store / "honest/f").write_bytes(b"honest")
    os.chown(empty_store / "honest/f", HONEST, HONEST)
    return empty_store


@pytest.fixture
def deep(mounts: Mounts, store: Path) -> Iterator[Callable[..., Mount]]:
    """`deep(*options, guard="", policy=POLICY)`: a running mount; what was made in it goes afterwards."""
    made: list[Mount] = []

    def start(*options: str, guard: str = "", policy: str = POLICY, descriptors: int = 0) -> Mount:
        mount = mounts.prepare(policy, store, *options)
        mount.expected_mediated = True  # nothing is opened in some of these
        mount.most_descriptors = descriptors
        if guard:
            mount.program = ("tests.attack.weakened", guard)
        made.append(mount)
        return mount.start()

    yield start
    for mount in made:
        mount.stop()
    clear(store)


def _dig(channel: Any, root: str, name: bytes, most: int) -> tuple[int, str, dict[str, str]]:
    """As deep as it goes, and there every way to make something; how deep, and what each was answered."""
    del channel
    top = os.open(root, os.O_RDONLY)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=top))
    os.chdir(root)
    levels, ended = descend(most, name)
    ways = {
        "mkdir": lambda: os.mkdir(name),
        "create": lambda: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)),
        "symlink": lambda: os.symlink("x", name),
        "mknod": lambda: os.mknod(name, 0o100644),
        "link": lambda: os.link("file", name, src_dir_fd=top),
        "rename": lambda: os.rename("file", name, src_dir_fd=top),
        "stat": lambda: os.stat(name),
    }
    answers = {way: code_of(call) for way, call in ways.items()}
    answers["listing"] = code_of(os.listdir, ".")
    answers["stat of it"] = code_of(os.stat, ".")
    above = os.open("..", os.O_RDONLY)
    fd = os.open("f", os.O_CREAT | os.O_RDWR, dir_fd=above)
    os.write(fd, b"words")
    assert os.pread(fd, 9, 0) == b"words"
    return levels, ended, answers


def _honest(root: Path) -> str:
    """What an honest app does beside it."""
    (root / "new").write_bytes(b"new")
    (root / "new").rename(root / "newer")
    (root / "newer").unlink()
    return f"{sorted(os.listdir(root))} {(root / 'f').read_bytes()!r}"


NAMES: Final = {"short": b"d", "250 bytes": LONG}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", first(1, zip(KINDS)))
def test_no_path_is_longer_than_one_may_be(deep, kind: str, name: str) -> None:
    """Beyond PATH_MAX relative calls go on, up to the bound and not one further.

    Attack E1.1: Make directories by relative calls, deeper than the longest path, also with names of 250
    bytes that are not UTF-8
    Guard: policyfs/fs/inodes/node.py::check_room
    Also: ::test_what_the_store_holds_deeper_is_listed_and_no_more,
    ::test_what_a_move_puts_out_of_reach_is_back_when_it_is_moved_up
    Without: ::test_a_path_is_as_long_as_one_likes_where_nothing_bounds_it
    """
    mount = deep(*KINDS[kind])
    one = NAMES[name]
    levels, ended, answers = start_as(DEEP, _dig, str(mount / "deep"), one, MAX_LEVELS + 200).result(120)
    longest = min(MAX_LEVELS, 1 + (MAX_PATH_BYTES - len("/deep")) // (1 + len(one)))
    assert (levels + 1, ended) == (longest, TOO_LONG)
    listed = answers.pop("listing"), answers.pop("stat of it")
    assert listed == ("", "")
    assert set(answers.values()) == {TOO_LONG}, answers
    assert (mount.store / "deep/file").stat().st_nlink == 1
    if kind == "shared":
        assert call_as(HONEST, _honest, mount / "honest") == "['f'] b'honest'"


def test_a_path_is_as_long_as_one_likes_where_nothing_bounds_it(deep) -> None:
    mount = deep(guard="unbounded-paths")
    levels, ended, _ = start_as(DEEP, _dig, str(mount / "deep"), b"d", MAX_LEVELS + 20).result(120)
    assert (levels, ended) == (MAX_LEVELS + 20, "")


# ---------------------------------------------------------------- what is moved out of reach


def _move(channel: Any, root: str) -> dict[str, object]:
    """Two trees of 600 levels; one is moved to the end of the other, and up again."""
    del channel
    found: dict[str, object] = {}
    one, two = opened_down(f"{root}/one", 600), opened_down(f"{root}/two", 600)
    fd = os.open("f", os.O_CREAT | os.O_RDWR, dir_fd=two[600])
    os.write(fd, b"here")
    os.rename("two", "two", src_dir_fd=os.open(root, os.O_RDONLY), dst_dir_fd=one[600])
    found["near"] = code_of(lambda: os.stat("d", dir_fd=two[100]))
    last = MAX_LEVELS - 603  # /deep/one, 600 below it, and two
    found["listed"] = os.listdir(two[last])
    found["next"] = code_of(lambda: os.stat("d", dir_fd=two[last]))
    found["far"] = code_of(lambda: os.stat("f", dir_fd=two[600]))
    found["made"] = code_of(lambda: os.mkdir("g", dir_fd=two[600]))
    found["working directory"] = code_of(os.fstat, two[600])
    found["open"] = code_of(os.fchmod, fd, 0o600)
    os.rename("two", "two", src_dir_fd=one[600], dst_dir_fd=os.open(root, os.O_RDONLY))
    found["again"] = os.pread(os.open("f", os.O_RDONLY, dir_fd=two[600]), 9, 0)
    return found


@pytest.mark.parametrize("kind", first(1, zip(KINDS)))
def test_what_a_move_puts_out_of_reach_is_back_when_it_is_moved_up(deep, kind: str) -> None:
    mount = deep(*KINDS[kind])
    for tree in ("one", "two"):
        (mount.store / "deep" / tree).mkdir()
        _close(dug(mount.store / "deep" / tree, 600))
    found = start_as(DEEP, _move, str(mount / "deep")).result(120)
    assert found == {
        "near": "", "listed": ["d"], "next": TOO_LONG, "far": TOO_LONG, "made": TOO_LONG,
        "working directory": TOO_LONG, "open": TOO_LONG, "again": b"here",
    }  # fmt: skip


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


@pytest.mark.night
def test_what_the_store_holds_deeper_is_listed_and_no_more(deep, store: Path) -> None:
    """Made in the store; and moved there while somebody is in it."""
    with ExitStack() as opened:
        fds = dug(store / "deep", 1200)
        opened.callback(_close, fds)
        side = dug(store / "deep", 50, b"side")
        opened.callback(_close, side)
        _deeper_is_listed_and_no_more(deep, store, fds, side)


def _deeper_is_listed_and_no_more(deep, store: Path, fds: list[int], side: list[int]) -> None:
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=side[50]))
    mount = deep()
    child = start_as(DEEP, _stay, str(mount / "deep"), 50, b"side")
    assert child.receive(60) == ""

    def look(expected: str) -> None:
        """The daemon hears of a move in the store within milliseconds."""

        def found() -> bool:
            child.send(True)
            return child.receive(60) == expected

        wait_for(found, f"it finds {expected or 'it'}")

    os.rename("side", "side", src_dir_fd=fds[0], dst_dir_fd=fds[990])
    look(TOO_LONG)
    assert start_as(DEEP, _down_to, str(mount / "deep")).result(60) == (MAX_LEVELS - 1, TOO_LONG, ["d"])
    assert start_as(DEEP, _below, str(mount / "deep"), 990).result(60) == ""
    look(TOO_LONG)
    os.rename("side", "side", src_dir_fd=fds[990], dst_dir_fd=fds[0])
    assert call_as(DEEP, code_of, os.stat, str(mount / "deep/side")) == ""
    look("")
    child.send(False)
    child.result(60)


def _stay(channel: Any, root: str, levels: int, name: bytes) -> None:
    fds = opened_down(root, levels, name)
    channel.send(code_of(lambda: os.stat("f", dir_fd=fds[-1])))
    while channel.recv():
        channel.send(code_of(lambda: os.stat("f", dir_fd=fds[-1])))


def _below(channel: Any, root: str, levels: int) -> str:
    """Looks for what the store has moved."""
    del channel
    fds = opened_down(root, levels)
    return code_of(lambda: os.stat("side", dir_fd=fds[-1]))


def _down_to(channel: Any, root: str) -> tuple[int, str, list[str]]:
    del channel
    os.chdir(root)
    levels, error = 0, ""
    while not error:
        error = code_of(os.chdir, "d")
        levels += not error
    return levels, error, sorted(set(os.listdir(".")) - {"side"})


# ---------------------------------------------------------------- what it costs others


def _use(channel: Any, root: str, levels: int) -> None:
    """At each message so many rounds: new names, stats and moves all over a tree, from within it."""
    fds = opened_down(root, levels)
    channel.send("there")
    turn = 0
    while rounds := channel.recv():
        for _ in range(rounds):
            turn += 1
            fd = fds[-1 - turn % 3]
            code_of(functools.partial(os.stat, f"none{turn}", dir_fd=fd))
            os.mkdir("new", dir_fd=fd)
            moved = not code_of(functools.partial(os.rename, "new", "newer", src_dir_fd=fd, dst_dir_fd=fd))
            os.rmdir("newer" if moved else "new", dir_fd=fd)  # where owners hide, it is in no other's place
            os.fstat(fd)
            if not turn % 8:
                for old, new in (("d", "e"), ("e", "d")):
                    code_of(functools.partial(os.rename, old, new, src_dir_fd=fds[0], dst_dir_fd=fds[0]))
        channel.send("done")


def _cost_s(mount: Mount, child: Child, rounds: int) -> float:
    """Processor time of the daemon for one round, in seconds. Before each a directory is moved elsewhere, as
    through another mount, so that no descriptor is believed any more."""
    before = cpu_s(mount.pid)
    for _ in range(rounds):
        (mount.store / "deep/aside").rename(mount.store / "deep/moved")
        (mount.store / "deep/moved").rename(mount.store / "deep/aside")
        child.send(1)
        assert child.receive(120) == "done"
    return (cpu_s(mount.pid) - before) / rounds


def times_dearer(mount: Mount, deep: int = 990, rounds: int = 5) -> float:
    """How many times as much a round costs the daemon in a deep tree as in one of 3 levels. Both are measured
    in turn, and of each the least counts: a busy machine adds to processor time, too."""
    (mount.store / "deep/aside").mkdir()
    call_as(DEEP, os.listdir, str(mount / "deep/aside"))  # the daemon knows it
    children = []
    for levels in (3, deep):
        (mount.store / f"deep/{levels}").mkdir()
        for fd in dug(mount.store / f"deep/{levels}", levels):
            os.close(fd)
        children.append(start_as(DEEP, _use, str(mount / f"deep/{levels}"), levels))
        assert children[-1].receive(120) == "there"
        _cost_s(mount, children[-1], 5)
    costs = [[_cost_s(mount, child, rounds) for child in children] for _ in range(4)]
    for child in children:
        child.send(0)
        child.result(60)
    shallow, deeper = (min(column) for column in zip(*costs, strict=True))
    print(f"ms for one round: {shallow * 1000:.1f}, {deeper * 1000:.1f}")
    return deeper / shallow


DEARER: Final = 3.5
"""What a tree 330 times as deep may cost more. It costs 1.4 to 2.6 times as much, and 3.0 to 7.7 times as
much where each level is opened: by the machine, so both are measured on the same one."""
DEARER_WITH_OWNERS: Final = 10
"""The same where the owner of each directory above is decided on, when all was moved just before."""


@pytest.mark.night
@pytest.mark.parametrize("kind", first(1, zip(KINDS)))
def test_a_deep_tree_costs_little_more_than_a_shallow_one(deep, kind: str) -> None:
    """Attack E2.1: Walk, stat and rename in a tree of the greatest depth, while another program moves
    directories
    Guard: policyfs/fs/inodes/resolver.py::Resolver._walk,
    policyfs/fs/inodes/placement.py::PlacedNode.find_out
    Without: ::test_it_costs_by_its_depth_where_each_level_is_opened
    """
    assert times_dearer(deep(*KINDS[kind], descriptors=FEW)) < DEARER


@pytest.mark.alone
def test_it_costs_by_its_depth_where_each_level_is_opened(deep, store: Path) -> None:
    guarded = deep(descriptors=FEW)
    dearer = times_dearer(guarded)
    guarded.stop()
    clear(store / "deep")
    assert times_dearer(deep(guard="level-by-level", descriptors=FEW)) > 1.5 * dearer


@pytest.mark.night
def test_directories_that_hide_by_their_owners_cost_little_more(deep) -> None:
    """Attack E2.2: The same with rules that hide names below directories by owner
    Guard: policyfs/fs/access/hiding_owners.py::HidingOwners.hidden
    Without: ::test_they_cost_by_the_depth_where_each_owner_is_read_anew
    """
    assert times_dearer(deep(policy=HIDES), 400) < DEARER_WITH_OWNERS


@pytest.mark.soak
def test_they_cost_by_the_depth_where_each_owner_is_read_anew(deep) -> None:
    assert times_dearer(deep(guard="owners-anew", policy=HIDES), 400, rounds=3) > DEARER_WITH_OWNERS
