"""Pauses of Python's garbage collector, which would visit all objects of a growing policy again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def left_to_the_kernel(*things: object) -> None:
    """Keep Python from freeing these objects, because the process will end soon. Freeing 10,000 rules takes a
    tenth of a command's time. In a reference cycle, and frozen, they are never visited."""
    kept: list[object] = [*things]
    kept.append(kept)
    gc.freeze()


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Pause Python's garbage collector, which took half of the time for 10,000 rules. Of pauses within each
    other, or of several threads, the first that ends ends all."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
