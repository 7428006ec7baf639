"""Long work while requests come: threads that compute give way soon, and memory is freed in slices."""

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
"""The longest time for which a thread that computes keeps the interpreter lock while another thread waits for
the lock. A request gives the lock up at each system call. With Python's default of 5 ms, an open took 30 ms
beside a thread that compiles a policy, or unpacks a large redaction plan."""
_PER_STEP: Final = 50
_LAST_LOOK_S: Final = 10.0
_LOOK_S: Final = 0.05


def take_short_turns() -> None:
    """Make each thread that computes give up the interpreter lock after _TURN_S if another thread waits for
    the lock. This setting holds for the whole process, until its end."""
    sys.setswitchinterval(_TURN_S)


@contextlib.contextmanager
def lasting_objects() -> Iterator[None]:
    """Make a context for a thread that makes many objects that stay: without garbage collection, which would
    keep the interpreter lock until its end. Only complete collections visit them later (garbage.py)."""
    with paused():
        yield
        gc.freeze()


class Leftovers:
    """The contents of a replaced policy engine, which free() frees in slices."""

    def __init__(self, engine: Engine) -> None:
        """Keep references to the engine's contents, but not to the engine itself."""
        self._engine = weakref.ref(engine)
        self._lists = engine.contents()
        self._held: list[list[object]] = []

    async def free(self) -> None:
        """Once no code uses the engine any more, free its contents little by little."""
        for contents in self._lists:
            self._held.append(contents)
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(_LAST_LOOK_S):
            while self._engine() is not None:  # noqa: ASYNC110 - a reference reports no end
                await trio.sleep(_LOOK_S)
        await in_slices(self._some)

    def _some(self) -> bool:
        """Free some of the contents. Return False if nothing is left."""
        while self._held and not self._held[-1]:
            self._held.pop()
        if not self._held:
            return False
        del self._held[-1][-_PER_STEP:]
        return True
