"""The files of tests marked `alone`: `make test` finds them by the marker's name, before it imports any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

NAME: Final = "pytest.mark.alone"
"""What `make test` searches the files for."""


def hold_to_the_name(items: Iterable[pytest.Item]) -> None:
    """Refuse a run with a test marked alone whose file does not have NAME: `make test` would never run it."""
    marked = {item.path for item in items if item.get_closest_marker("alone")}
    unnamed = sorted(path.name for path in marked if NAME not in path.read_text(encoding="utf-8"))
    if unnamed:
        raise pytest.UsageError(f"{', '.join(unnamed)}: write {NAME} out, or make test leaves the test out")
