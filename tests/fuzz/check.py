"""What must hold for any bytes at all that a locator is given."""

from __future__ import annotations

import time
import tracemalloc

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.machine.counts import PATIENCE
from tests.support.samples.redacted import FILMS, looked_at_later

SLOW_S = 1.0 * PATIENCE
MOST_BYTES = 64 * 1024 * 1024
"""Memory that any one input may make a locator take."""
WORDS = ("location", "device", "time", "people", "all-metadata")
_MEASURED_EVERY = 257
"""Measuring memory is slow: each so manyth input."""


class Check:
    """A locator that must hold to it, call after call."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.turn = 0

    def __call__(self, data: bytes, word: str = "") -> None:
        """Check one input, under a word of `redact`: the next one, by turns, if none is given."""
        self.turn += 1
        what = frozenset({word or WORDS[self.turn % len(WORDS)]})
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
