"""`policyfs` whose daemon is killed in the middle of changes, each time once it has lived long enough.

    python -m tests.support.mount.dying mount --foreground ...

The keeper forgives a death after a second (daemon/keeper/keeper.py). Then the daemon dies at one of the next
steps of requests: before or after an intent, a change of the store, or a record of its state."""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from policyfs.cli.main import main
from policyfs.fs.inodes.saved_nodes import SavedNodes
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.intents import Intents
from policyfs.store import ranges
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree

LIVED_S: Final = 1.1
STEPS: Final = 30
CHANGES: Final = (
    (Tree, ("link", "unlink", "rmdir", "rename2", "mkdir", "symlink", "create_file", "create_unnamed",
            "chmod_fd", "utimens_fd", "truncate_fd", "removexattr", "setxattr")),
    (Intents, ("begin",)),
    (Owners, ("set",)),
    (ranges, ("write",)),
)  # fmt: skip


RECORDS: Final = ((SavedState, ("opened", "closed", "unnamed")), (SavedNodes, ("put",)))


class _Life:
    """The steps that this daemon has left. killer: a pipe to the process that kills it."""

    def __init__(self, killer: int) -> None:
        self.pid, self.left, self.until = 0, 0.0, 0.0
        self.killer = killer

    def serves(self) -> None:
        """Begin the life of a daemon."""
        self.pid, self.until = os.getpid(), time.monotonic() + LIVED_S
        self.left = random.Random(self.pid).randrange(STEPS)

    def step(self, weight: float) -> None:
        """Die, if it is time."""
        if self.pid == os.getpid() and time.monotonic() > self.until:
            self.left -= weight
            if self.left < 0:
                os.write(self.killer, self.pid.to_bytes(8, "little"))
                time.sleep(60)  # it ends in here


def _dying(life: _Life, real: Callable[..., Any], weight: float) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*arguments: Any, **names: Any) -> Any:
        life.step(weight)
        try:
            return real(*arguments, **names)
        finally:
            life.step(weight)

    return call


def _living(life: _Life, real: Callable[[SavedState, int], None]) -> Callable[[SavedState, int], None]:
    def serves(state: SavedState, now_ns: int) -> None:
        real(state, now_ns)
        life.serves()

    return serves


def killer() -> int:
    """Fork a process that kills each process whose number is written into the returned pipe."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(read_end)
        return write_end
    os.dup2(read_end, 3)
    os.closerange(4, 1 << 20)  # a test waits for the end of others
    while number := os.read(3, 8):
        os.kill(int.from_bytes(number, "little"), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    its = _Life(killer())
    setattr(SavedState, "serves", _living(its, SavedState.serves))  # noqa: B010 - for this process only
    for owner, names in (*CHANGES, *RECORDS):
        for name in names:
            weight = 0.2 if owner in {SavedState, SavedNodes} else 1.0
            setattr(owner, name, _dying(its, getattr(owner, name), weight))
    sys.exit(main(sys.argv[1:]))
