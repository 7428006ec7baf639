"""How a guard is taken out of a daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def put(owner: Any, name: str, replacement: Any) -> None:
    """Take a guard out; it must have been there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: this guard is elsewhere now"
    setattr(owner, name, replacement)


def named(*guards: Callable[[], None]) -> dict[str, Callable[[], None]]:
    """Return the functions that take guards out, by name: without_leases() is "without-leases"."""
    return {guard.__name__.replace("_", "-"): guard for guard in guards}
