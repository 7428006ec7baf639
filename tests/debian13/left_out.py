"""Tests that cannot run in the root of `make test-debian13`, each with its reason.

docs/debian13.md has the same list, and a test compares the two.
"""

from __future__ import annotations

from typing import Final

LEFT_OUT: Final[dict[str, str]] = {}
