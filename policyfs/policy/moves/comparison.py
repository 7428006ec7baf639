"""Comparisons of the rights at two paths, for every caller, and for every kind and owner of the file.

Many pairs of paths below two directories have the same rules. They are one *place*, and are compared once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from policyfs.domain import FileType, Op
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Effect
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.fact_sets import FactSpace, most_facts
from policyfs.policy.rules.facts import Kinds
from policyfs.policy.rules.profile import Profile, Profiles
from policyfs.policy.rules.rights_map import RightsMap, RightsTally
from policyfs.policy.rules.sample_callers import callers_at
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Live, Table, told_apart
from policyfs.policy.rules.visibility import Sight

MAX_STEPS: Final = 200_000
"""Maximum number of steps in one comparison of all paths below two directories; beyond it, TooHardError.

One step: to try a rule for a caller (one more for every 8,000 facts), or eight classes of callers, or to make
8,000 facts of a kind. A name costs two, with two more for each bound node, a character in a search for names
four.
"""

_DISTINCTIONS_IN_A_STEP: Final = 8
_FACTS_IN_A_STEP: Final = 8000
_STEPS_OF_A_CHARACTER: Final = 4

Worse = Callable[[RightsMap, RightsMap], bool]

_DELETE_AT: Final = tuple(Op.ALL).index(Op.DELETE)


_Rules = tuple[tuple[Live, ...], bool, bool, bool, bool]
"""The rules at a path for a caller, and four flags: all that rights depend on beside the paths below."""


class _Pair:
    __slots__ = ("_answers", "_new", "_old", "_worse", "new_depends", "old_depends")

    def __init__(self, old: RightsTally, new: RightsTally, worse: Worse) -> None:
        self._old: Final = old
        self._new: Final = new
        self._worse: Final = worse
        self._answers: Final[dict[tuple[bool, bool], bool]] = {}
        self.old_depends: Final = bool(old.unsettled)
        self.new_depends: Final = bool(new.unsettled)

    @property
    def depends(self) -> bool:
        """True if the rights can depend on whether the caller could see a path below."""
        return self.old_depends or self.new_depends

    def is_worse(self, *, old_below: bool = False, new_below: bool = False) -> bool:
        """Return True if the new path is worse. *_below: True if the caller could see a path below."""
        key = (old_below, new_below)
        found = self._answers.get(key)
        if found is None:
            rights = self._old.rights(below=old_below), self._new.rights(below=new_below)
            found = self._answers[key] = self._worse(*rights)
        return found


class Budget:
    """The number of steps of comparisons that one decision may still take."""

    __slots__ = ("_left",)

    def __init__(self, steps: float = MAX_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Take some steps. Raise TooHardError if fewer steps are left."""
        self._left -= steps
        if self._left < 0:
            raise TooHardError

    def spend_on_characters(self, count: int) -> None:
        """Take the steps for a search for classes of names that tries *count* characters."""
        self.spend(count * _STEPS_OF_A_CHARACTER)


class Comparison:
    """Comparisons of rights for one request. Results are remembered only for this request."""

    def __init__(
        self, table: Table, sight: Sight, profiles: Profiles, worse: Worse, budget: Budget | None = None
    ) -> None:
        """Prepare comparisons by a function of the rights at both paths. budget: None: no limit."""
        self._table: Final = table
        self._sight: Final = sight
        self._profiles: Final = profiles
        self._worse: Final = worse
        self._spend: Final = (Budget(math.inf) if budget is None else budget).spend
        self._places: Final[dict[object, int]] = {}
        self._place_of: Final[dict[PathState, int]] = {}
        self._states: Final[list[PathState]] = []
        self._compared: Final[dict[tuple[int, int, FileType], list[tuple[_Pair, Caller]] | None]] = {}
        self._callers_at: Final[dict[tuple[int, int], list[Caller]]] = {}
        self._pairs: Final[dict[tuple[_Rules, _Rules, FileType], _Pair]] = {}
        self._spaces: Final[dict[tuple[frozenset[Kinds], frozenset[str], FileType], FactSpace]] = {}
        self._deleting: Final[dict[tuple[int, FileType], RightsTally]] = {}

    def is_worse(self, old: PathState, new: PathState, ftype: FileType) -> bool:
        """Return True if *new* is worse than *old* for some caller and facts. Raise TooHardError."""
        if old is new:
            return False
        key = (self._place(old), self._place(new), ftype)
        if key not in self._compared:
            self._compared[key] = self._compare(*key)
        depending = self._compared[key]
        return depending is None or any(
            pair.is_worse(
                old_below=pair.old_depends and self._sight.below(old.position, caller),
                new_below=pair.new_depends and self._sight.below(new.position, caller),
            )
            for pair, caller in depending
        )

    def unchecked(self, old: PathState, new: PathState) -> bool:
        """Return True if a caller that may write at *old* only can lack a requirement of another at *new*.
        Such a file must be checked before the other caller moves it there. Raise TooHardError."""
        if old is new:
            return False
        callers = self._callers(self._place(old), self._place(new))
        ends = [(self._profiles.of(old, caller), self._profiles.of(new, caller)) for caller in callers]
        writers = {here.lives for here, there in ends if here.can_fill and not there.can_fill}
        askers = {there.lives for _, there in ends if there.can_fill}
        contents = [live for lives in (*writers, *askers) for live in lives if _asks_content(live)]
        if not writers or not contents:
            return False
        space = self._space(tuple(dict.fromkeys(contents)), FileType.REGULAR)
        asked = [
            (live.rule.content, space.of(live).possible)
            for lives in askers
            for live in lives
            if _asks_content(live)
        ]
        for lives in writers:
            met: dict[frozenset[str], int] = {}
            for live in filter(_asks_content, lives):
                met[live.rule.content] = met.get(live.rule.content, 0) | space.of(live).possible
            if any(some & ~met.get(content, 0) for content, some in asked):
                return True
        return False

    def always_deletes(self, state: PathState, caller: Caller, ftype: FileType) -> bool:
        """Return True if the caller may delete every file of this type at this path. Raise TooHardError.

        INVARIANT: all calls of this method on one comparison have the same caller.
        """
        key = (self._place(state), ftype)
        tally = self._deleting.get(key)
        if tally is None:
            profile = self._profiles.of(state, caller)
            space = self._space(profile.lives, ftype)
            tally = self._deleting[key] = RightsTally(profile, space)
        below = bool(tally.unsettled) and self._sight.below(state.position, caller)
        return not tally.rights(below=below).refused[_DELETE_AT]

    def _compare(self, old: int, new: int, ftype: FileType) -> list[tuple[_Pair, Caller]] | None:
        states = self._states[old], self._states[new]
        depending: list[tuple[_Pair, Caller]] = []
        for caller in self._callers(old, new):
            here, there = (self._profiles.of(state, caller) for state in states)
            pair = self._pair(here, there, ftype)
            if pair.depends:
                depending.append((pair, caller))
            elif pair.is_worse():
                return None
        return depending

    def _callers(self, old: int, new: int) -> list[Caller]:
        found = self._callers_at.get((old, new))
        if found is None:
            states = self._states[old], self._states[new]
            rules = sum(len(state.situated(self._table)) for state in states)
            self._spend(rules * self._table.callers.count // _DISTINCTIONS_IN_A_STEP)
            found = self._callers_at[old, new] = callers_at(self._table, states)
        return found

    def _pair(self, here: Profile, there: Profile, ftype: FileType) -> _Pair:
        key = (_rules(here), _rules(there), ftype)
        found = self._pairs.get(key)
        if found is None:
            space = self._space((*here.lives, *there.lives), ftype)
            found = _Pair(RightsTally(here, space), RightsTally(there, space), self._worse)
            self._pairs[key] = found
        return found

    def _space(self, lives: tuple[Live, ...], ftype: FileType) -> FactSpace:
        kinds, owners = told_apart(lives)
        key = (frozenset(kinds), frozenset(owners), ftype)
        found = self._spaces.get(key)
        if found is None:
            most = most_facts(*key)
            self._spend(sum(len(one.names) for one in kinds) * most // _FACTS_IN_A_STEP)
            found = self._spaces[key] = FactSpace(*key)
        self._spend((1 + len(lives)) * (1 + found.size // _FACTS_IN_A_STEP))
        return found

    def _place(self, state: PathState) -> int:
        """Return the number of a path's place. All paths with equal rules have the same number."""
        found = self._place_of.get(state)
        if found is None:
            rules = (state.situated(self._table), state.hides, state.top, state.position.lost)
            found = self._place_of[state] = self._places.setdefault(rules, len(self._places))
            if found == len(self._states):
                self._states.append(state)
        return found


def _asks_content(live: Live) -> bool:
    return live.rule.effect is Effect.CONTENT and not live.rule.monitor


def _rules(profile: Profile) -> _Rules:
    return profile.lives, bool(profile.hiding), profile.lost, profile.top, profile.can_fill
