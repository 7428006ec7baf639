"""Work on large policies while requests come: short turns with the interpreter lock, freeing in slices."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Final

import trio

from policyfs.fs.sharing.pauses import in_slices
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine

_TURN_S: Final = 0.0005
"""The longest turn of a thread that computes, while another thread wants the interpreter. A request takes the
lock back after each system call, so with Python's own 5 ms an open beside a compilation took 30 ms."""
_PER_STEP: Final = 50
_LAST_LOOK_S: Final = 10.0
_LOOK_S: Final = 0.05


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let other threads have the interpreter soon, while this one makes many objects that stay.

    No collection visits these objects, now or later: a collection would hold the lock until its end.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        with paused():
            yield
            gc.freeze()
    finally:
        sys.setswitchinterval(before)


class Leftovers:
    """Hold the contents of a replaced engine, and free them in slices."""

    def __init__(self, engine: Engine) -> None:
        """Hold the engine's contents, but not the engine."""
        self._engine = weakref.ref(engine)
        self._lists = engine.contents()
        self._held: list[list[object]] = []

    async def free(self) -> None:
        """Free the contents little by little, once nobody uses the engine any more."""
        for contents in self._lists:
            self._held.append(contents)
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(_LAST_LOOK_S):
            while self._engine() is not None:  # noqa: ASYNC110 - a reference reports no end
                await trio.sleep(_LOOK_S)
        await in_slices(self._some)

    def _some(self) -> bool:
        """Free some; return False if nothing is left."""
        while self._held and not self._held[-1]:
            self._held.pop()
        if not self._held:
            return False
        del self._held[-1][-_PER_STEP:]
        return True
