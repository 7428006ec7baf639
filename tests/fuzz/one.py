"""One locator under libFuzzer: `python -m tests.fuzz.one KIND CORPUS [libFuzzer's options]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random

import atheris

with atheris.instrument_imports(include=["policyfs.redact"]):
    from tests.fuzz.check import Check
    from tests.fuzz.mutators import MUTATORS, Mutator  # here, since it imports tables of the locators

OWN_SHARE = 0.25
"""Of the inputs: so many are changed by libFuzzer itself, which knows no shape and so has no blind spot."""


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
