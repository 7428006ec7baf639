"""How a guard is taken out of a daemon."""

from __future__ import annotations

from typing import Any


def put(owner: Any, name: str, replacement: Any) -> None:
    """Take a guard out; it must have been there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: this guard is elsewhere now"
    setattr(owner, name, replacement)
