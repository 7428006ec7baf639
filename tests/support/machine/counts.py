"""How often a test repeats: a quick count in `make test`, a long one in `make soak`."""

from __future__ import annotations

import os
from typing import Final

SOAK: Final = os.environ.get("POLICYFS_SOAK") == "1"
PATIENCE: Final = float(os.environ.get("POLICYFS_TEST_PATIENCE", "1"))
"""How many times longer than usual everything may take: `make sanitize` has slow processes."""


def count(quick: int, soak: int) -> int:
    """The count for this run; both numbers stand in docs/testing.md."""
    return soak if SOAK else quick
