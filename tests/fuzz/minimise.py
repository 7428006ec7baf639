"""Keep the least that reaches what a run reached: `python -m tests.fuzz.minimise KIND DIRECTORY`.

The kept corpus and the inputs in DIRECTORY become the kept corpus. An input stays if it reaches edges that
neither the seeds nor shorter kept inputs reach; of a new one stay only the bytes that it needs for these.
If the check does not hold for an input under some word, the corpus stays as it is, the input is printed, in
base64, and the exit code is 1.
"""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["policyfs.redact"]):
    from tests.fuzz.check import WORDS, Check
    from tests.fuzz.kept import CORPORA, MOST_BYTES, in_order, read_corpus, write_corpus
    from tests.fuzz.seeds import seeds_of

_TRIMMED_S: Final = 0.5
"""Processor time for each new input, to do without some of its bytes."""
_MOST_TRIMMED: Final = 4 * MOST_BYTES
"""Of longer inputs hardly any could be cut to what is kept."""


class Coverage:
    """The edges that inputs of one kind reach: those that libFuzzer counts."""

    def __init__(self, kind: str) -> None:
        self.failed = False
        self._check = Check(kind)
        self._reached: set[int] = set()
        atheris._trace_branch = self._reached.add

    def edges(self, data: bytes, words: Iterable[str] = WORDS) -> frozenset[int]:
        """The edges under any of these words of `redact`; none, and `failed`, if the check does not hold."""
        self._reached.clear()
        for word in words:
            try:
                self._check(data, word)
            except Exception as error:  # whatever it is, libFuzzer would end there
                self.failed = True
                print(f"under {word}: {error!r}: {b64encode(data).decode()}")
                return frozenset()
        return frozenset(self._reached)

    def trimmed(self, data: bytes, wanted: frozenset[int]) -> bytes:
        """The input without bytes that it does not need to reach these edges (what of them it does reach)."""
        words, left = [], wanted
        for word in WORDS:  # few of them, since each try costs so much for each
            if found := self.edges(data, (word,)) & left:
                words.append(word)
                left -= found
        needed, size, at, end = wanted - left, len(data) // 2, 0, time.process_time() + _TRIMMED_S
        while size and time.process_time() < end:
            shorter = data[:at] + data[at + size :]
            if needed <= self.edges(shorter, words):
                data = shorter
            else:
                at += size
            if at >= len(data):
                size, at = size // 2, 0
        return data


def minimise(kind: str, directory: Path, corpora: Path = CORPORA) -> bool:
    """Keep what a run left in a directory. False if the check does not hold for all of it."""
    coverage, kept = Coverage(kind), read_corpus(kind, corpora)
    of_seeds = frozenset().union(*map(coverage.edges, seeds_of(kind)))
    if not of_seeds:  # else an empty corpus would be kept
        raise RuntimeError("the seeds reach no edge: this atheris counts them in another way")
    found = {path.read_bytes() for path in directory.iterdir() if not path.name.startswith("found-")}
    covered, chosen = set(of_seeds), {}
    for data in in_order({*kept, *found}):
        if len(data) <= _MOST_TRIMMED and (wanted := coverage.edges(data) - covered):
            short = data if data in kept else coverage.trimmed(data, wanted)
            if len(short) <= MOST_BYTES:
                chosen[short] = coverage.edges(short) - of_seeds
                covered |= chosen[short]
    times = Counter(edge for edges in chosen.values() for edge in edges)
    for data, edges in reversed(list(chosen.items())):  # the longest first, except for what was trimmed
        if all(times[edge] > 1 for edge in edges):
            times.subtract(edges)
            del chosen[data]
    if not coverage.failed:
        write_corpus(kind, chosen, corpora)
        print(f"{len(chosen)} inputs kept (before: {len(kept)}), {len(times)} edges that no seed reaches")
    return not coverage.failed


if __name__ == "__main__":
    raise SystemExit(not minimise(sys.argv[1], Path(sys.argv[2])))
