"""Pauses of Python's garbage collector, which would visit all objects of a growing policy again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def left_to_the_kernel(*things: object) -> None:
    """Never free these objects, nor any other that exists now: the process is about to end.

    To free a compiled policy of 10,000 rules one object after the other takes a tenth of a command's time. A
    reference cycle that is frozen is not looked at again, not even when the interpreter ends.
    """
    kept: list[object] = [*things]
    kept.append(kept)
    gc.freeze()


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Pause the collector while many objects are made and few are dropped.

    With 10,000 rules, the collector took half of the time. A pause that begins during another one (nested,
    or in another thread) ends with that one.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
