"""`policyfs` whose daemons are killed, one after the other, at given steps of requests.

    POLICYFS_TEST_STEPS="Drafts._check after 1, ..." python -m tests.support.mount.dying_checks mount ...

Each step is a function, before or after, and how often it must have been called. The daemon after n
take-overs dies at the step n, but not before a look-up of the name `arm`."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from policyfs.cli.main import main
from policyfs.fs.checked.draft_storage import DraftStorage
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.inodes.pending_writes import Draft
from policyfs.fs.inodes.saved_held import SavedHeldBytes
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.namespace.lookup import Lookup
from policyfs.store import ranges
from policyfs.store.tree import Tree
from tests.support.mount.dying import killer

OWNERS: Final = {
    "DraftStorage": DraftStorage, "Drafts": Drafts, "Checker": Checker, "Draft": Draft,
    "SavedHeldBytes": SavedHeldBytes, "ranges": ranges, "Tree": Tree,
}  # fmt: skip


class _Step:
    """What is left until this daemon dies."""

    def __init__(self) -> None:
        self.steps = [one.split() for one in os.environ["POLICYFS_TEST_STEPS"].split(",")]
        self.left: list[Any] = []
        self.takeovers = 0
        self.killer = killer()

    def arm(self) -> None:
        """Wait for the step of this daemon from now on."""
        name, when, times = self.steps[self.takeovers]
        self.left = [name, when, int(times)]

    def pass_by(self, name: str, when: str) -> None:
        """Die, if this is the step."""
        if self.left[:2] == [name, when]:
            self.left[2] -= 1
            if not self.left[2]:
                os.write(self.killer, os.getpid().to_bytes(8, "little"))
                time.sleep(60)  # it ends in here


def _wrapped(step: _Step, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*arguments: Any, **names: Any) -> Any:
        step.pass_by(name, "before")
        try:
            return real(*arguments, **names)
        finally:
            step.pass_by(name, "after")

    return call


if __name__ == "__main__":
    its, serves, lookup = _Step(), SavedState.serves, Lookup.lookup

    def _served(state: SavedState, now_ns: int) -> None:
        serves(state, now_ns)
        its.takeovers, its.left = state.takeovers, []

    async def _looked_up(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
        if name == b"arm":
            its.arm()
        return await lookup(self, parent, name, caller)

    setattr(Lookup, "lookup", _looked_up)  # noqa: B010 - for this process only
    setattr(SavedState, "serves", _served)  # noqa: B010 - for this process only
    for called in {one[0] for one in its.steps}:
        owner, _, method = called.partition(".")
        setattr(OWNERS[owner], method, _wrapped(its, called, getattr(OWNERS[owner], method)))
    sys.exit(main(sys.argv[1:]))
