"""Random sequences of changes in a try: its commit gives the tree that the changes themselves give."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.mount.test_try import tree
from tests.support.mount.tries import APP, Tries

pytestmark = pytest.mark.mount

CHANGES: Final = """
import os, random, shutil, sys
NAMES = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "A", "f\\udcff", "f"]
def move(old, new):
    if os.path.isdir(old) and not os.path.islink(old):  # as mv does in a try, where rename is EXDEV
        shutil.copytree(old, new, symlinks=True)
        shutil.rmtree(old)
    else:
        os.rename(old, new)
def change(choice):
    name, other = choice.choice(NAMES), choice.choice(NAMES)
    what = choice.randrange(13)
    data = choice.randbytes(choice.choice([0, 1, 100, 5000]))
    if what < 3:
        with open(name, ["wb", "ab", "r+b"][what]) as file:
            file.write(data)
    elif what == 3: os.truncate(name, choice.choice([0, 3, 9000]))
    elif what == 4: os.mkdir(name)
    elif what == 5: os.unlink(name)
    elif what == 6: shutil.rmtree(name)
    elif what in (7, 8) and not (other + "/").startswith(name + "/"): move(name, other)
    elif what == 9: os.symlink(choice.choice(["a", "d", "d/x", "none"]), name)
    elif what == 10: os.chmod(name, choice.choice([0o700, 0o750, 0o755]), follow_symlinks=True)
    elif what == 11: os.setxattr(name, "user.x", data[:9], follow_symlinks=True)
    elif what == 12: os.link(name, other, follow_symlinks=False)
top = os.getcwd()
for number in range(int(sys.argv[1])):
    os.chdir(f"{top}/s/{number}")
    choice = random.Random(number)
    for _ in range(choice.randrange(1, 25)):
        try:
            change(choice)
        except OSError:
            pass
    for above, _, names in os.walk(b"."):
        for name in names:
            os.utime(os.path.join(above, name), (5, 5), follow_symlinks=False)
"""
"""A program that makes as many sequences of changes as its argument says, one in each directory s/N."""


def make_trees(top: Path, count: int) -> None:
    for number in range(count):
        start = top / f"s/{number}"
        (start / "d/e").mkdir(parents=True)
        for name in ("a", "d/a", "d/b", "d/e/a"):
            (start / name).write_text(name * 50)
        (start / "c").symlink_to("a")
    for path in [top / "s", *(top / "s").rglob("*")]:
        os.chown(path, APP, APP, follow_symlinks=False)
        if not path.is_dir():
            os.utime(path, (5, 5), follow_symlinks=False)


def check(tries: Tries, count: int) -> None:
    make_trees(tries.at, count)
    before = tree(tries.at)
    said = tries.run("python3", "-c", CHANGES, str(count))
    assert said.returncode == 0, said
    told: set[str] = set()
    removed: list[str] = []
    for one in tries.diff():
        told |= {one["path"].rstrip("/"), one.get("from", "")}
        removed += [one["path"]] if one["kind"] in {"removed", "changed"} else []
    assert set(tries.commit().values()) <= {""}
    tried = tree(tries.at)
    for path in before.keys() | tried.keys():
        above = any(path.startswith(one.rstrip("/") + "/") for one in removed)
        assert path in told or above or _same(before.get(path), tried.get(path)), path
    shutil.rmtree(tries.at / "s")
    make_trees(tries.at, count)
    said = tries.run("python3", "-c", CHANGES, str(count), trying=False)
    assert said.returncode == 0, said
    direct = tree(tries.at)
    for path in tried.keys() | direct.keys():
        assert tried.get(path) == direct.get(path), path


def _same(one: tuple[object, ...] | None, other: tuple[object, ...] | None) -> bool:
    """Compare without the number of names: of a new name of an old file, only the new name is told."""
    return _without_links(one) == _without_links(other)


def _without_links(one: tuple[object, ...] | None) -> object:
    return one if one is None or not isinstance(one[2], tuple) else (*one[:2], one[2][0], one[2][2])


@pytest.fixture
def tries(arena: Path, empty_store: Path) -> Tries:
    return Tries(arena, empty_store)


def test_sequences_of_changes(tries: Tries) -> None:
    check(tries, 30)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_sequences_of_changes(tries: Tries) -> None:
    tries.deadline_s = 600.0
    check(tries, 1000)
