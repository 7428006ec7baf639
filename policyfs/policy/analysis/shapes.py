"""Shapes of rules. Two rules have the same shape if they differ only in their names and paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policyfs.policy.analysis.partition import Lives
from policyfs.policy.rules.table import Condition, Live

Shape = tuple[tuple[tuple[int, bool, int], ...], ...]


class Shapes:
    """Numbers for the shapes of rules. Rules that differ only in their names and paths have one shape."""

    def __init__(self) -> None:
        self._numbers: Final[dict[tuple[object, ...], int]] = {}
        self._known: Final[dict[Live, int]] = {}

    def of(self, lives: tuple[Lives, ...]) -> Shape:
        """Return a value for the rules of all policies at a place.

        Rules with equal values give equal answers.
        """
        names: dict[str, int] = {}
        return tuple(
            tuple(
                (self._shape(live), watched, names.setdefault(live.rule.id, len(names)))
                for live, watched in some
            )
            for some in lives
        )

    def alone(self, lives: Iterable[Live]) -> tuple[int, ...]:
        """Return a value for rules of one policy. Rules with equal values give equal answers."""
        return tuple(map(self._shape, lives))

    def _shape(self, live: Live) -> int:
        """Return a number for the shape of a rule. Rules with the same number act alike where both match."""
        number = self._known.get(live)
        if number is None:
            value = _shape(live)
            number = self._known[live] = self._numbers.setdefault(value, len(self._numbers))
        return number


def _shape(live: Live) -> tuple[object, ...]:
    rule = live.rule
    when = None if live.when is None else _condition(live.when)
    conditions = (when, tuple(map(_condition, live.unless)), live.raw.names)
    effect = (rule.effect, rule.ops, rule.errno, rule.redact, rule.content, rule.quarantine)
    return (*conditions, *effect, rule.audit, rule.monitor)


def _condition(condition: Condition) -> tuple[object, ...]:
    return None if condition.kinds is None else condition.kinds.names, condition.owners
