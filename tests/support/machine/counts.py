"""How often a test repeats: a quick count in `make test`, a long one in `make soak`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import pytest

SOAK: Final = os.environ.get("POLICYFS_SOAK") == "1"
PATIENCE: Final = float(os.environ.get("POLICYFS_TEST_PATIENCE", "1"))
"""How many times longer than usual everything may take: `make sanitize` has slow processes."""


def count(quick: int, soak: int) -> int:
    """The count for this run; both numbers stand in counts.txt beside this file."""
    return soak if SOAK else quick


def daily(cases: Iterable[Any], *names: Any) -> list[Any]:
    """Mark cases of a parametrised test `night`, but for those with these names."""
    return [
        pytest.param(case, marks=() if getattr(case, "name", case) in names else pytest.mark.night)
        for case in cases
    ]


def first(most: int, cases: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Mark all but the first cases of a parametrised test `soak`: those that stay stand for their class."""
    return [
        pytest.param(*case, marks=() if at < most else pytest.mark.soak) for at, case in enumerate(cases)
    ]
