"""Tests that show if answers depend on the caller.

The kernel may keep an answer only if the answer is the same for all callers. The result "the answer depends
on the caller" is always safe. The opposite result is given only if no rule can distinguish callers.
"""

from __future__ import annotations

from typing import Final

from policyfs.domain import Op
from policyfs.policy.globs.automaton import Position
from policyfs.policy.model import Effect, Rule
from policyfs.policy.rules.callers import tells_uids_apart
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Situated, Table, asks_for_self


class Scope:
    """The tests that show if answers depend on the caller, for one table of rules.

    dry_run: True for a mount with --monitor. Such a mount only records denials of apps, but really denies
    strangers.
    """

    def __init__(self, table: Table, *, dry_run: bool) -> None:
        self._dry_run: Final = dry_run
        self._table: Final = table
        self._uids_matter: Final[dict[str, bool]] = {}
        told_apart = [tells_callers_apart(rule) for rule in table.rules]
        self._told_apart: Final = told_apart
        captured = {
            accept
            for node in table.automaton.nodes
            if node.captures
            for accept in _reachable_accepts(table, node.number)
        }
        self._everywhere: Final = any(told_apart[number] for number in table.everywhere())
        wanted = {a for a, number in table.first_accepts().items() if told_apart[number]} | captured
        self._nodes: Final = table.automaton.leading_to(wanted)
        hides = [_hides(rule) for rule in table.rules]
        self._hides_everywhere: Final = any(hides[number] for number in table.everywhere())
        self._hiding: Final = table.automaton.leading_to(
            {accept for accept, number in table.first_accepts().items() if hides[number]}
        )

        self._before_exceptions: Final = table.automaton.just_before(
            {
                accept
                for number, rule in enumerate(table.rules)
                if rule.effect is Effect.ALLOW
                for accept in table.unless_accepts(number)
                if accept is not None
            }
        )
        self._capturing: Final = table.automaton.leading_to(captured)

        conditional = [not _is_plain(rule) for rule in table.rules]
        self._conditional_everywhere: Final = any(conditional[number] for number in table.everywhere())
        self._conditional: Final = table.automaton.leading_to(
            {accept for accept, number in table.first_accepts().items() if conditional[number]}
        )

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
            or _is_at_one_of(self._nodes, position)
            or any(map(self._tells, state.hides_below(self._table)))
        )

    def may_hide_below(self, state: PathState) -> bool:
        """Return True if perhaps a rule denies SEE to some caller, at some path below this path."""
        position = state.position
        return (
            position.lost
            or self._hides_everywhere
            or _is_at_one_of(self._hiding, position)
            or bool(state.hides_below(self._table))
        )

    def may_except_in(self, state: PathState) -> bool:
        """Return True if an allow rule for all names in this directory can fail to match at one of the names.

        The answer True is always safe. Such a rule does not match at a name that a path of its ``unless``
        block matches.
        """
        return _is_at_one_of(self._before_exceptions, state.position)

    def only_allows_below(self, state: PathState) -> bool:
        """Return True if all rules that can match below this path are certainly allow rules.

        These rules can have the condition ``who``, and have no other condition.
        """
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
        """Return True if a capture (``{app}`` or ``{uid}`` in a glob) can match below this path.

        A path with too many captures is lost: no caller is allowed anything there.
        """
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
        blocks = [rule.unless[number] for number, _ in situated.unless]
        if rule.when is not None:
            blocks.append(rule.when)
        return any(block.owners is not None for block in blocks)

    def _seen_by_all(self, here: tuple[Situated, ...]) -> bool:
        """Return True if an allow rule for SEE without any condition matches, and no deny rule for SEE can
        match.
        """
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


def _is_at_one_of(nodes: frozenset[int], position: Position) -> bool:
    """Return True if a path has reached one of these nodes of the automaton.

    Nodes behind ``{app}`` or ``{uid}`` count.
    """
    return not nodes.isdisjoint(position.free) or any(number in nodes for number, _ in position.bound)


def _hides(rule: Rule) -> bool:
    return rule.effect is Effect.DENY and not rule.monitor and bool(rule.ops & Op.SEE)


def _is_plain(rule: Rule) -> bool:
    """True if the rule is an allow rule, not in monitor mode, that applies to all files at its paths."""
    return rule.effect is Effect.ALLOW and not rule.monitor and rule.when is None and not rule.unless


def tells_callers_apart(rule: Rule) -> bool:
    """Return True if, at the same path, the rule can match one caller and fail to match another.

    ``{app}`` and ``{uid}`` in globs do not count.
    """
    return rule.who is not None or asks_for_self(rule)


def _reachable_accepts(table: Table, start: int) -> set[int]:
    nodes = table.automaton.nodes
    seen = {start}
    todo = [start]
    accepts: set[int] = set()
    while todo:
        for target in nodes[todo.pop()].targets():
            if target not in seen:
                seen.add(target)
                todo.append(target)
                accepts.update(nodes[target].accepts)
    return accepts
