"""Tests that show if answers depend on the caller, so that the kernel may not keep them.

"They depend" is always safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policyfs.domain import Op
from policyfs.policy.model import Effect, Rule
from policyfs.policy.rules.callers import tells_uids_apart
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Situated, Table, asks_for_self, hides


class Scope:
    """The tests for one table. dry_run: True for --monitor: apps are only recorded, strangers denied."""

    def __init__(self, table: Table, *, dry_run: bool) -> None:
        self._dry_run: Final = dry_run
        self._table: Final = table
        self._uids_matter: Final[dict[str, bool]] = {}
        # Also rules for `see` with a kind: each caller's own worker finds it (docs/decisions/0027).
        self._told_apart: Final = [
            rule.effect is not Effect.LIMIT
            and (tells_callers_apart(rule) or (bool(rule.ops & Op.SEE) and table.asks_for_kind(number)))
            for number, rule in enumerate(table.rules)
        ]
        captured = table.captured_accepts()
        self._everywhere, telling = _found_by(table, self._told_apart)
        self._nodes: Final = table.automaton.leading_to(telling | captured)
        self._capturing: Final = table.automaton.leading_to(captured)
        self._hides_everywhere, hiding = _found_by(table, list(map(hides, table.rules)))
        self._hiding: Final = table.automaton.leading_to(hiding)
        self._conditional_everywhere, asking = _found_by(table, [not _is_plain(rule) for rule in table.rules])
        self._conditional: Final = table.automaton.leading_to(asking)
        allows = (number for number, rule in enumerate(table.rules) if rule.effect is Effect.ALLOW)
        spared = {
            accept for number in allows for accept in table.unless_accepts(number) if accept is not None
        }
        self._before_exceptions: Final = table.automaton.just_before(spared)

    def uids_matter(self, app: str) -> bool:
        """Return True if an app can get different answers under different uids at some path."""
        known = self._uids_matter.get(app)
        if known is None:
            rules = self._table.rules
            known = self._table.uses_uid or any(tells_uids_apart(rule.who, app) for rule in rules)
            self._uids_matter[app] = known
        return known

    def owner_matters_above(self, state: PathState) -> bool:
        """Return True if the owner of a directory above can decide whether this path is hidden."""
        return any(self._asks_owner(situated) for situated in state.hides)

    def caller_matters(self, state: PathState) -> bool:
        """Return True if callers can get different answers at this path."""
        if self._dry_run:
            return True
        if state.top or state.position.lost:
            # everyone sees the root; for the other operations on it, rules decide as at any path
            return state.top and any(map(self._tells, state.situated(self._table)))
        here = state.situated(self._table)
        if any(map(self._tells, (*here, *state.hides))):
            return True
        return not self._seen_by_all(here) and self.caller_matters_below(state)

    def caller_matters_below(self, state: PathState) -> bool:
        """Return True if callers can get different answers at some path below this path."""
        position = state.position
        return (
            self._dry_run
            or self._everywhere
            or not self._nodes.isdisjoint(position.reached)
            or any(map(self._tells, state.hides_below(self._table)))
        )

    def may_hide_below(self, state: PathState) -> bool:
        """Return True if perhaps a rule denies SEE to some caller, at some path below this path."""
        position = state.position
        return (
            position.lost
            or self._hides_everywhere
            or not self._hiding.isdisjoint(position.reached)
            or bool(state.hides_below(self._table))
        )

    def may_except_in(self, state: PathState) -> bool:
        """Return True if a name here can be an exception (``unless``) to an allow of all names."""
        return not self._before_exceptions.isdisjoint(state.position.reached)

    def only_allows_below(self, state: PathState) -> bool:
        """Return True if certainly only allows with no condition but ``who`` can match below."""
        position = state.position
        return not (
            self._dry_run
            or position.lost
            or position.bound
            or self._conditional_everywhere
            or not self._conditional.isdisjoint(position.free)
            or state.hides_below(self._table)
        )

    def may_capture_below(self, state: PathState) -> bool:
        """Return True if a capture can match below this path, so that paths can be lost."""
        position = state.position
        return position.lost or bool(position.bound) or not self._capturing.isdisjoint(position.free)

    def _tells(self, situated: Situated) -> bool:
        return (
            self._told_apart[situated.rule]
            or bool(situated.binds)
            or any(binds is not None for _, binds in situated.unless)
        )

    def _asks_owner(self, situated: Situated) -> bool:
        rule = self._table.rules[situated.rule]
        blocks = (rule.when, *(rule.unless[number] for number, _ in situated.unless))
        return any(block is not None and block.owners is not None for block in blocks)

    def _seen_by_all(self, here: tuple[Situated, ...]) -> bool:
        allowed = False
        for situated in here:
            rule = self._table.rules[situated.rule]
            if rule.monitor or not rule.ops & Op.SEE:
                continue
            if rule.effect is Effect.DENY:
                return False
            if rule.effect is Effect.ALLOW and rule.when is None and not situated.unless:
                allowed = True
        return allowed


def _is_plain(rule: Rule) -> bool:
    if rule.effect is Effect.LIMIT:  # it has no part in an answer
        return True
    return rule.effect is Effect.ALLOW and not rule.monitor and rule.when is None and not rule.unless


def tells_callers_apart(rule: Rule) -> bool:
    """Return True if the rule can match one caller and not another at a path, captures apart."""
    return rule.who is not None or asks_for_self(rule)


def _found_by(table: Table, chosen: Sequence[bool]) -> tuple[bool, set[int]]:
    """Return True if one of the chosen rules is tried everywhere, and the glob sets that find the others."""
    everywhere = any(chosen[number] for number in table.everywhere())
    return everywhere, {accept for accept, number in table.first_accepts().items() if chosen[number]}
