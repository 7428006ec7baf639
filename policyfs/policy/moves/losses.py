"""Data that would be lost if a caller moved a file by a copy and a deletion, as mv does after EXDEV.

A caller that reads a file redacted copies it without the hidden data. So such a rename ends in EACCES, and mv
changes nothing. See "No loss by moving" in docs/policy-language.md.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final, NamedTuple

from policyfs.domain import (
    OWNER_NONE,
    Decision,
    Facts,
    FileType,
    Op,
    Principal,
    RuleMatch,
    banned,
    hides_at_least,
    to_clean,
)
from policyfs.policy.globs.classes import Known, TooHardError
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect
from policyfs.policy.moves.comparison import Budget
from policyfs.policy.moves.moves import Decider, End, children
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.facts import Truth
from policyfs.policy.rules.profile import Profiles
from policyfs.policy.rules.states import Paths, PathState
from policyfs.policy.rules.table import Live, Table, sample_facts_of

MAX_PAIRS: Final = 500
"""Maximum number of pairs of paths to try below a directory. With more, a copy counts as a loss."""

MAX_FACTS: Final = 5000
"""Maximum number of facts to try below a directory. With more, a copy counts as a loss."""

_READ: Final = Op.SEE | Op.READ
_REPLACE: Final = Op.SEE | Op.READ | Op.DELETE
_REDACT: Final = Effect.REDACT.value

Matches = tuple[RuleMatch, ...]


class _Cause(NamedTuple):
    """All that decides, with a file's facts, if copies of files at one path lose data: each is tried once."""

    here: tuple[Live, ...]
    hidden: bool
    there: tuple[Live, ...]
    can_fill: bool

    def redacts(self) -> bool:
        return any(live.rule.effect is Effect.REDACT for live in self.here)


class Losses:
    """Decisions on renames that only a copy could carry out, for one engine (compiled policy)."""

    def __init__(self, table: Table, paths: Paths, profiles: Profiles, remembered: int) -> None:
        self._table: Final = table
        self._paths: Final = paths
        self._profiles: Final = profiles
        self._redacting: Final = [
            (number, rule) for number, rule in enumerate(table.rules) if rule.effect is Effect.REDACT
        ]
        self._below: Final[Memo[tuple[PathState, PathState, int], Matches]] = Memo(remembered)

    def refusal(self, engine: Decider, who: Principal, moves: Sequence[tuple[End, PathState]]) -> Decision:
        """Return the refusal of a rename that only a copy could carry out.

        moves: each file or directory, and its new path. EACCES with the redact rules if the copy would lose
        data that are hidden from the caller, else EXDEV.
        """
        found: dict[str, RuleMatch] = {}
        for old, to in moves:
            for match in self._rules(engine, who, old, to):
                found.setdefault(match.rule, match)
        rules = tuple(found[name] for name in sorted(found))
        audit = [rule.audit for _, rule in self._redacting if rule.id in found and rule.audit is not None]
        return Decision(
            allowed=False,
            errno=errno.EACCES if rules else errno.EXDEV,
            rules=rules,
            audit=max([self._table.policy.audit_denied, *audit]),
        )

    def _rules(self, engine: Decider, who: Principal, old: End, to: PathState) -> Matches:
        caller = engine.caller(who)
        fitting = [rule for number, rule in self._redacting if caller.fits(number, rule)]
        if not fitting or old.ftype not in (FileType.REGULAR, FileType.DIRECTORY):
            return ()
        if old.ftype is FileType.REGULAR:
            return self._of_file(engine, who, _READ, old.state, to, old.facts)
        key = (old.state, to, who.key)
        found = self._below.get(key)
        if found is None:
            try:
                found = self._of_directory(engine, who, old.state, to)
            except TooHardError:
                found = tuple(RuleMatch(rule.id, _REDACT, Op.READ, certain=False) for rule in fitting)
            self._below.keep(key, found, old.state.units + to.units)
        return found

    def _of_file(
        self, engine: Decider, who: Principal, ops: Op, old: PathState, to: PathState, facts: Facts
    ) -> Matches:
        read = engine.decide(who, ops, old, FileType.REGULAR, facts)
        hidden = frozenset(word for word in read.redact if " " not in word)
        if not hidden or hides_at_least(self._cleaned(engine.caller(who), to, facts.kind), hidden):
            return ()
        return tuple(match for match in read.rules if match.effect == _REDACT)

    def _cleaned(self, caller: Caller, to: PathState, kind: str | None) -> frozenset[str]:
        """Return the words that are certainly cleaned from a copy: a new file, or one without owner."""
        profile = self._profiles.of(to, caller)

        def by(owner: str) -> frozenset[str]:
            facts = Facts(kind, owner)
            lives = [live for live in profile.content(facts) if live.match(facts) is Truth.YES]
            return to_clean(banned(live.rule.content for live in lives))

        return by(caller.app or OWNER_NONE) & by(OWNER_NONE)

    def _of_directory(self, engine: Decider, who: Principal, old: PathState, to: PathState) -> Matches:
        """Return the rules that hide data of a file below that the caller may delete. Raise TooHardError."""
        caller = engine.caller(who)
        seen: set[tuple[PathState, PathState]] = set()
        tried: set[_Cause] = set()
        known: Known = {}
        budget = Budget()
        todo, left = [(old, to)], MAX_FACTS
        while todo:
            for child in children(self._table, self._paths, todo.pop(), caller, known, budget):
                if child in seen:
                    continue
                seen.add(child)
                todo.append(child)
                if len(seen) > MAX_PAIRS:
                    raise TooHardError
                cause = self._cause(*child, caller)
                if cause in tried or not cause.redacts():
                    continue
                tried.add(cause)
                some_facts = sample_facts_of((*cause.here, *cause.there), FileType.REGULAR, unknown=True)
                left -= len(some_facts)
                if left < 0:
                    raise TooHardError
                for facts in some_facts:
                    found = self._of_file(engine, who, _REPLACE, *child, facts)
                    if found:
                        return found
        return ()

    def _cause(self, old: PathState, to: PathState, caller: Caller) -> _Cause:
        here, there = self._profiles.of(old, caller), self._profiles.of(to, caller)
        return _Cause(
            tuple(live for live in here.lives if live.ops & _REPLACE),
            bool(here.hiding) or here.lost,
            tuple(live for live in there.lives if live.rule.effect is Effect.CONTENT),
            there.can_fill,
        )


def rules_that_hide(refusal: Decision) -> tuple[str, ...]:
    """Return the ids of the redact rules that refused a rename (Losses.refusal), if any."""
    if refusal.allowed:
        return ()
    return tuple(match.rule for match in refusal.rules if match.effect == _REDACT)
