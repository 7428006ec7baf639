"""Shapes of rules. Two rules have the same shape if they differ only in their names and paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policyfs.policy.analysis.partition import Lives
from policyfs.policy.rules.table import Live

Shape = tuple[tuple[tuple[int, bool, int], ...], ...]


class Shapes:
    """Numbers for the shapes of rules. Rules that differ only in their names and paths have one shape."""

    def __init__(self) -> None:
        self._numbers: Final[dict[tuple[object, ...], int]] = {}
        self._known: Final[dict[Live, int]] = {}

    def of(self, lives: tuple[Lives, ...]) -> Shape:
        """Return a value for the rules of all policies at a place. Equal values give equal answers."""
        names: dict[str, int] = {}
        return tuple(
            tuple(
                (self._shape(live), watched, names.setdefault(live.rule.id, len(names)))
                for live, watched in some
            )
            for some in lives
        )

    def alone(self, lives: Iterable[Live]) -> tuple[int, ...]:
        """Return a value for rules of one policy. Equal values give equal answers."""
        return tuple(map(self._shape, lives))

    def _shape(self, live: Live) -> int:
        number = self._known.get(live)
        if number is None:
            value = _shape(live)
            number = self._known[live] = self._numbers.setdefault(value, len(self._numbers))
        return number


def _shape(live: Live) -> tuple[object, ...]:
    rule = live.rule
    effect = (rule.effect, rule.ops, rule.errno, rule.redact, rule.content, rule.quarantine, rule.keep)
    return (live.shape, live.raw.names, *effect, rule.audit, rule.monitor)
