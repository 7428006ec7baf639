"""kill -9 before each single step in which a change is kept: undo finds all that was there."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.linux import libc
from policyfs.linux.statx import Stat
from policyfs.store.kept import kept_files
from policyfs.store.kept.bins import Bins
from policyfs.store.kept.kept_files import KeptFiles, until_of
from policyfs.store.kept.plan import Conflicts
from policyfs.store.kept.record import Inode, Record, State
from policyfs.store.kept.room import Room
from policyfs.store.kept.undo import Undo, pasts_of, planned
from policyfs.store.tree import Tree

MACHINE, APP = "0" * 32, "sync"
STEPS: Final[tuple[tuple[Any, str], ...]] = (
    (os, "mkdir"), (os, "write"), (os, "rename"), (libc, "rename2"), (kept_files, "link_fd"),
)  # fmt: skip


def _record(op: str, stat: Stat, path: bytes = b"/a", **more: Any) -> Record:
    return Record(time.time_ns(), op, path, until_of(86_400), before=State.of(stat), **more)


def remove(tree: Tree, kept: KeptFiles, stat: Stat) -> None:
    kept.take(APP, _record("unlink", stat), tree.root_fd, b"a", stat)


def replace(tree: Tree, kept: KeptFiles, stat: Stat) -> None:
    moved = Inode.of(tree.stat(tree.root_fd, b"b"))
    kept.hold(APP, _record("replace", stat, b"/b", new=b"/a", moved=moved), tree.root_fd, b"a", stat)
    tree.rename2(tree.root_fd, b"b", tree.root_fd, b"a")


def overwrite(tree: Tree, kept: KeptFiles, stat: Stat) -> None:
    fd = os.open("a", os.O_RDWR, dir_fd=tree.root_fd)
    kept.copy(APP, _record("write", stat), fd, stat)
    os.ftruncate(fd, 0)
    os.write(fd, b"encrypted")


def _dies(step: int, change: Callable[[Tree, KeptFiles, Stat], None], store: Path) -> bool:
    """Let a process die before a step; a write is cut in half. Return False if it ended before that."""
    pid = os.fork()
    if pid == 0:
        done, os_write = itertools.count(1), os.write

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                if next(done) == step:
                    if function is os_write:
                        os_write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **more)

            return call

        for owner, name in STEPS:
            setattr(owner, name, counted(getattr(owner, name)))
        with Tree.open(store) as tree:
            change(tree, _kept(tree), tree.stat(tree.root_fd, b"a"))
        os._exit(0)
    return os.waitpid(pid, 0)[1] != 0


def _kept(tree: Tree) -> KeptFiles:
    return KeptFiles(tree, Bins(tree.root_fd, MACHINE), Room(tree.root_fd, 1 << 30), most_bytes=1 << 20)


def _there(store: Path) -> dict[str, tuple[int, int, bytes]]:
    files = (path for path in store.iterdir() if path.is_file())
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files
    }  # fmt: skip


@pytest.mark.parametrize("change", [remove, replace, overwrite])
def test_a_change_killed_at_any_step_is_taken_back(tmp_path: Path, change) -> None:
    for step in itertools.count(1):
        store = tmp_path / f"{step}"
        store.mkdir()
        (store / "a").write_bytes(b"photo" * 1000)
        (store / "b").write_bytes(b"new")
        before = _there(store)
        dead = _dies(step, change, store)
        assert dead or _there(store) != before
        with Tree.open(store) as tree:
            kept = _kept(tree)
            pasts, undone = pasts_of(kept.bins, APP, 0, 1 << 63, lambda path: True)
            # REPLACE: no daemon has told how it left a file that was open when it was killed.
            plan = planned(tree, pasts, 0, Conflicts.REPLACE, undone)
            left = Undo(tree, kept.bins, kept, undone.remade).carry_out(plan, APP)
            assert [*plan.conflicts, *left] == []
            kept.bins.close()
        assert _there(store) == before, step
        if not dead:
            break
    assert step > 5
