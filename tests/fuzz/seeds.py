"""Little files to begin with, by content kind: those that the property tests damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

from policyfs.domain import REDACTABLE_KINDS
from tests.property import test_redact_fuzz, test_redact_fuzz_boxes
from tests.support import movies

_SEEDS: dict[str, list[bytes]] = {kind: [] for kind in sorted(REDACTABLE_KINDS)}
_SEEDS["image/jpeg"] += test_redact_fuzz.SEEDS
_SEEDS["video/mp4"] += movies.SEEDS
for _kind, _data in test_redact_fuzz_boxes.SEEDS:
    _SEEDS[_kind].append(_data)

KINDS = tuple(kind for kind, seeds in _SEEDS.items() if seeds)
"""Kinds that can be fuzzed."""


def write_seeds(kind: str, directory: Path) -> None:
    """Put a kind's seeds into a corpus, under names that libFuzzer would give them."""
    for data in _SEEDS[kind]:
        (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
