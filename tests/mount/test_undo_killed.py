"""kill -9 of `policyfs undo` before each single change that it makes: undo again, and all is as before."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.linux import libc
from policyfs.store.kept import kept_files, undo
from policyfs.store.tree import Tree
from tests.mount.test_undo import EXCHANGE, POLICY, SYNC, differing, library, run_as, tree
from tests.support.machine.counts import count
from tests.support.mount.daemons import policyfs

STEPS: Final[tuple[tuple[Any, str], ...]] = (
    *((os, name) for name in ("mkdir", "rename", "unlink", "rmdir", "write", "setxattr", "ftruncate")),
    (libc, "rename2"), (kept_files, "link_fd"), (undo, "fill"),
    *((Tree, name) for name in ("chown_fd", "chmod_fd", "utimens_fd")),
)  # fmt: skip
"""Functions that change what is on disk."""
EVERY: Final = count(40, 1)
"""Of the steps, each how manyth one is tried."""
LOSS: Final = (
    "cd DCIM; mv 'roll 0' gone; cd gone; echo encrypted > IMG_00001.jpg; echo more >> IMG_00003.jpg;"
    " echo new > t; mv t IMG_00005.jpg; chmod 600 IMG_00006.jpg; setfattr -n user.rating -v 9 IMG_00004.jpg;"
    f" python3 -c '{EXCHANGE}'; rm IMG_00000.jpg; cd ..; mv gone/in at; rm -r at gone"
)


def _undo(store: Path, since: str, *options: str) -> int:
    said = policyfs("undo", store, "--since", since, *options)
    print(said.stdout, said.stderr)
    return said.returncode


def _dies(step: int, store: Path, since: str) -> bool:
    """Let an undo die before a step. Return False if it ended before that."""
    pid = os.fork()
    if pid == 0:
        done = itertools.count(1)

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                if next(done) == step:
                    if function is os_write:
                        os_write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    if function is fill:  # the file has lost its bytes, and has none of the old ones yet
                        os.truncate(f"/proc/self/fd/{arguments[1]}", 0)
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **more)

            return call

        os_write, fill = os.write, undo.fill
        for owner, name in STEPS:
            setattr(owner, name, counted(getattr(owner, name)))
        os._exit(_undo(store, since, "--app", "sync"))
    status = os.waitpid(pid, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status != 0


@pytest.mark.timeout(900)
def test_an_undo_killed_at_any_step_is_done_again_and_undone(mounts, empty_store: Path) -> None:
    library(empty_store, 8)
    inner = empty_store / "DCIM/roll 0/in"
    inner.mkdir()
    (inner / "f").write_bytes(b"in")
    os.setxattr(inner, "user.note", b"a note")
    os.chown(inner, SYNC, SYNC)
    os.utime(inner, ns=(10**18, 10**18 + 3))
    os.chmod(inner, 0o2751)
    os.utime(empty_store / "DCIM/roll 0", ns=(10**18, 10**18 + 9))
    mount = mounts.start(POLICY, empty_store, "--app", "sync")
    before = tree(empty_store)
    for step in itertools.count(1, EVERY):
        since = now()
        run_as(SYNC, mount, LOSS)
        lost = tree(empty_store)
        assert lost.keys() == {b"."}
        dead = _dies(step, empty_store, since)
        time.sleep(1.1 * dead)  # a directory that is newer than its last change was changed by others
        assert _undo(empty_store, since, "--app", "sync") == 0, step
        assert differing(before, tree(empty_store)) == [], step
        again = now()
        assert _undo(empty_store, since, "--last") == 0, step
        assert differing(lost, tree(empty_store)) == [], step
        assert _undo(empty_store, again, "--last") == 0, step
        assert differing(before, tree(empty_store)) == [], step
        if not dead:
            break
    assert step > 50


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
