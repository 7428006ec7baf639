"""One locator under libFuzzer: `python -m tests.fuzz.one KIND CORPUS [libFuzzer's options]`."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from random import Random

import atheris

with atheris.instrument_imports(include=["policyfs.redact"]):
    from policyfs.redact.core.patches import MemorySource, apply
    from policyfs.redact.plan import Outcome, locate
    from tests.fuzz.mutators import MUTATORS, Mutator  # here, since it imports tables of the locators
    from tests.support.samples.redacted import FILMS, looked_at_later

SLOW_S = 1.0
MOST_BYTES = 64 * 1024 * 1024
"""Memory that any one input may make a locator take."""
_WORDS = ("location", "device", "time", "people", "all-metadata")
_MEASURED_EVERY = 257
"""Measuring memory is slow: each so manyth input."""
OWN_SHARE = 0.25
"""Of the inputs: so many are changed by libFuzzer itself, which knows no shape and so has no blind spot."""


class Check:
    """What must hold for any bytes at all."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.turn = 0

    def __call__(self, data: bytes) -> None:
        self.turn += 1
        what = frozenset({_WORDS[self.turn % len(_WORDS)]})
        measured = self.turn % _MEASURED_EVERY == 0
        if measured:
            tracemalloc.start()
        start = time.process_time()
        plan = locate(self.kind, what, MemorySource(data))
        took = time.process_time() - start
        if measured:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < MOST_BYTES, f"{peak} bytes of memory"
        assert measured or took < SLOW_S, f"{took:.2f} s"
        assert not plan.reason.startswith("internal error"), plan.reason
        if plan.outcome is Outcome.REFUSE:
            assert not plan.patches
            return
        end = 0
        for patch in plan.patches:
            assert patch.offset >= end, "patches overlap or are out of order"
            assert patch.size
            end = patch.end
        assert end <= len(data), "a patch leaves the file"
        out = apply(data, plan.patches)
        assert self.kind not in FILMS or looked_at_later(self.kind, what, data) == out, "windows differ"
        again = locate(self.kind, what, MemorySource(out))
        assert again.outcome is Outcome.CLEAN, f"once more under {what}: {again.reason} {again.findings[:3]}"


def shaped(mutator: Mutator) -> Callable[[bytes, int, int], bytes]:
    """libFuzzer's mutator: one that knows the shape of such files, or now and then libFuzzer's own."""

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < OWN_SHARE:
            return atheris.Mutate(data, most)
        return mutator(bytes(data), rng)[:most]

    return mutate


def main() -> None:
    kind = sys.argv.pop(1)
    if kind in MUTATORS:
        atheris.Setup(sys.argv, Check(kind), custom_mutator=shaped(MUTATORS[kind]))
    else:
        atheris.Setup(sys.argv, Check(kind))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
