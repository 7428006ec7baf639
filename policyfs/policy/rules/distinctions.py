"""Tests that show if callers get different answers in a shared mount, whose kernel keeps only equal answers.

"They differ" is always safe. Only callers that can make requests count, and only what the kernel caches:
which names are seen, and the node (view) of each. Each open is a request to the daemon.

INVARIANT: answers by a kind differ. Each caller's own workers find the kind, and a file that has taken over
one of them must not decide what other callers see (docs/decisions/0027).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Final

from policyfs.domain import FileType, Op
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect, Rule, Who
from policyfs.policy.rules.callers import Caller, CallerClass, tells_uids_apart
from policyfs.policy.rules.profile import may_hide
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Situated, Table, asks_for_self, decides_sight
from policyfs.policy.rules.visibility import Sight

MAX_COMPARED: Final = 256
"""Maximum number of caller classes to compare at one path. With more, the answers count as different."""

MAX_LED: Final = 16
"""Maximum number of caller classes for which paths below are searched while a request waits."""

_HIDDEN: Final = "hidden"
_SEEN: Final = "seen"


class Distinctions:
    """Tests whether callers get different answers. callers: those of a shared mount, or some of them.
    dry_run: True with --monitor."""

    def __init__(
        self, table: Table, callers: list[CallerClass], sight: Sight, remembered: int, *, dry_run: bool
    ) -> None:
        self._table: Final = table
        self._sight: Final = sight
        self._dry_run: Final = dry_run
        self._callers: Final = callers
        names = {of.app for of in self._callers}
        self._one_app: Final = len(names) == 1 and None not in names
        self._same_captures: Final = self._one_app and not table.uses_uid
        self._fits: Final[dict[Who, bool]] = {}
        self._tells: Final = [self._tells_apart(rule) for rule in table.rules]
        self._sighted: Final = [decides_sight(rule) for rule in table.rules]
        one_lane = self._same_captures and not any(
            tells_uids_apart(rule.who, name) for rule in table.rules for name in names if name is not None
        )
        self._by_kind: Final = [
            not one_lane and sighted and table.asks_for_kind(number)
            for number, sighted in enumerate(self._sighted)
        ]
        self._seen_at: Final[Memo[PathState, bool]] = Memo(remembered)
        self._node_at: Final[Memo[PathState, bool]] = Memo(remembered)
        self._below_at: Final[Memo[PathState, bool]] = Memo(remembered)
        self._find_rules_below()

    def _find_rules_below(self) -> None:
        automaton = self._table.automaton
        denies, allows = set[int](), set[int]()
        self._granting = set[int]()
        self._granted_everywhere = self._denies_everywhere = self._allows_everywhere = False
        captured = set[int]() if self._same_captures else self._table.captured_accepts()
        for accept, number in self._table.first_accepts().items():
            if self._sighted[number]:
                into = denies if self._table.rules[number].effect is Effect.DENY else allows
                if self._tells[number] or self._by_kind[number] or accept in captured:
                    into.add(accept)
                elif self._grants_all(number):
                    self._granting.add(accept)
        # The glob sets of ``unless`` (and of ``when``, if the rule has ``paths``): the table finds no rule by
        # these globs. So they distinguish callers only by {app} and {uid}.
        others = captured - self._table.first_accepts().keys()
        for number in filter(self._sighted.__getitem__, self._table.everywhere()):
            deny = self._table.rules[number].effect is Effect.DENY
            if self._tells[number] or self._by_kind[number]:
                self._denies_everywhere |= deny
                self._allows_everywhere |= not deny
            elif self._grants_all(number):
                self._granted_everywhere = True
        self._denying = automaton.leading_to(denies | others)
        self._allowing = automaton.leading_to(allows)

    # -- answers ----------------------------------------------------------------------------------

    def sight(self, state: PathState) -> bool:
        """Return True if perhaps one caller sees this path and another does not, for some type and facts."""
        if state.top:
            return False  # everyone sees the root
        found = self._seen_at.get(state)
        if found is None:
            found = self._seen_at.keep(state, self._sight_differs(state), state.units)
        return found

    def node(self, state: PathState) -> bool:
        """Return True if perhaps a file at this path has different nodes (or views) for different callers."""
        found = self._node_at.get(state)
        if found is None:
            differs = self.sight(state) or self._view_differs(state)
            found = self._node_at.keep(state, differs, state.units)
        return found

    def below(self, state: PathState) -> bool:
        """Return True if perhaps one caller sees some path below this path and another does not."""
        found = self._below_at.get(state)
        if found is None:
            found = self._below_at.keep(state, self._below_differs(state), state.units)
        return found

    def sees_always(self, state: PathState, caller: Caller) -> bool:
        """Return True if a caller certainly sees this path, whatever the file is."""
        answer = self._answer(self._about(state), state, caller, lambda: False)
        return answer == (_SEEN, frozenset(), frozenset())

    # -- the rules that make answers different ------------------------------------------------------

    def rules_at(self, state: PathState, *, views: bool = False) -> tuple[str, ...]:
        """Return the ids of the rules that can give callers other answers here (views: also other views)."""
        here, rules = state.situated(self._table), self._table.rules
        about = self._view_ops(rules[one.rule].effect for one in here) if views else Op(0)
        telling = (
            one.rule for one in (*here, *state.hides) if self._tells_at(one) or self._by_kind[one.rule]
        )
        return self._ids(number for number in telling if self._sighted[number] or rules[number].ops & about)

    def rules_below(self, state: PathState) -> tuple[str, ...]:
        """Return the ids of the rules that can show callers different names below this path."""
        reached = self._table.automaton.accepts_below(state.position.reached)
        found = set(self._table.everywhere())
        found |= {number for accept, number in self._table.first_accepts().items() if accept in reached}
        hiding = {one.rule for one in state.hides_below(self._table) if self._tells_at(one)}
        own = {n for n in found if self._sighted[n] and (self._tells[n] or self._by_kind[n])}
        return self._ids(own | hiding)

    def _ids(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(sorted({self._table.rules[number].id for number in numbers}))

    # -- the comparisons ----------------------------------------------------------------------------

    def _sight_differs(self, state: PathState) -> bool:
        if self._dry_run:
            return True
        if state.position.lost:
            return False  # nobody sees a lost path
        about = self._about(state)
        if self._hangs_on_kind(about, state):
            return True
        if not any(map(self._tells_at, (*about, *state.hides))):
            one = Caller(self._callers[0], None)
            if self.sees_always(state, one) or not self.below(state):
                return False
        if len(self._callers) > MAX_COMPARED or (self._table.uses_uid and self.below(state)):
            return True  # too many to compare, or some answer depends on a uid in a path
        if self._table.uses_uid and any(True for one in (*about, *state.hides) for _ in one.requirements()):
            return True
        searches = 0

        def leads_to(caller: Caller) -> bool:
            nonlocal searches
            searches += 1
            if searches > MAX_LED:
                raise TooHardError
            return self._sight.below(state.position, caller)

        callers = (Caller(of, None) for of in self._callers)
        answers = (self._answer(about, state, one, partial(leads_to, one)) for one in callers)
        try:
            first = next(answers)
            return any(one != first for one in answers)
        except TooHardError:
            return True

    def _hangs_on_kind(self, about: tuple[Situated, ...], state: PathState) -> bool:
        """Return True if perhaps some caller sees a file here only because of its kind."""
        if not any(self._by_kind[one.rule] for one in about):
            return False
        if len(self._callers) > MAX_COMPARED:
            return True
        return not all(self.sees_always(state, Caller(of, None)) for of in self._callers)

    def _view_differs(self, state: PathState) -> bool:
        """Return True if perhaps callers have different views of a file here, or rights to read it."""
        here = [(self._table.rules[one.rule], one) for one in state.situated(self._table)]
        about = self._view_ops(rule.effect for rule, _ in here)
        return not state.position.lost and any(rule.ops & about and self._tells_at(one) for rule, one in here)

    @staticmethod
    def _view_ops(effects: Iterable[Effect]) -> Op:
        """Return the operations about which rules can give callers different views, beside such effects."""
        obliging = {Effect.REDACT, Effect.CONTENT}.intersection(effects)
        seen = Op.SEE | Op.READ if obliging else Op(0)
        return seen | Op.WRITE | Op.CREATE if Effect.CONTENT in obliging else seen

    def _answer(
        self, about: tuple[Situated, ...], state: PathState, caller: Caller, below: Callable[[], bool]
    ) -> Hashable:
        """Return a value that is equal for callers with equal answers to SEE, for all types and facts."""
        above = [live for one in state.hides if (live := self._table.live(one, caller)) is not None]
        if any(live.must_match(FileType.DIRECTORY) for live in above):
            return _HIDDEN
        maybe = frozenset((live.number, live.shape) for live in above if may_hide(live))
        allows, denies = set[Hashable](), set[Hashable]()
        granted = False
        for one in about:
            live = self._table.live(one, caller)
            if live is None:
                continue
            if live.rule.effect is Effect.DENY:
                if live.fixed is not None:
                    return _HIDDEN
                denies.add(live.shape)
            elif live.fixed is not None:
                granted = True
            else:
                allows.add(live.shape)
        if granted:
            return (_SEEN, frozenset(denies), maybe)
        bare = below()
        if not allows and not bare:
            return _HIDDEN
        return (bare, frozenset(allows), frozenset(denies), maybe)

    def _below_differs(self, state: PathState) -> bool:
        reached = state.position.reached
        if self._dry_run or self._denies_everywhere or not self._denying.isdisjoint(reached):
            return True
        if any(map(self._tells_at, state.hides_below(self._table))):
            return True
        if not self._allows_everywhere and self._allowing.isdisjoint(reached):
            return False
        return not self._granted_below(state)

    def _granted_below(self, state: PathState) -> bool:
        if self._granted_everywhere:
            return True
        nodes = self._table.automaton.nodes
        return any(
            target in nodes[target].anything and not self._granting.isdisjoint(nodes[target].accepts)
            for number in state.position.free
            for target in nodes[number].anything
        )

    def _about(self, state: PathState) -> tuple[Situated, ...]:
        return tuple(one for one in state.situated(self._table) if self._sighted[one.rule])

    def _grants_all(self, number: int) -> bool:
        rule = self._table.rules[number]
        plain = rule.effect is Effect.ALLOW and rule.when is None and not rule.unless
        return plain and self._callers[0].fits(number, rule)

    def _tells_at(self, one: Situated) -> bool:
        if self._tells[one.rule]:
            return True
        if self._same_captures:
            return False
        return any(True for _ in one.requirements())

    def _tells_apart(self, rule: Rule) -> bool:
        """Return True if the rule can match one caller and not another at a path, captures apart."""
        if asks_for_self(rule) and not self._one_app:
            return True
        if rule.who is None:
            return False
        found = self._fits.get(rule.who)
        if found is None:
            found = self._fits[rule.who] = _tells(self._callers, rule.who)
        return found


def _tells(callers: list[CallerClass], who: Who) -> bool:
    if len(callers) > MAX_COMPARED:
        return True
    return len({of.within(who) for of in callers}) > 1
