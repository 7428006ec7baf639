"""Decisions on rename and link.

The caller needs rights on both paths, and no caller may get more rights by the move ("No gain by moving" in
docs/policy-language.md). Both paths are compared for every caller and all facts; for directories also every
possible name below. With too many names the answer is EXDEV, and mv copies (but see losses.py).
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from policyfs.domain import (
    NO_FACTS,
    Audit,
    Decision,
    Facts,
    FileType,
    Need,
    Op,
    Principal,
    RuleMatch,
    banned,
    only_forbidden,
    to_clean,
)
from policyfs.errors import CONTENT_REFUSED
from policyfs.policy.globs.classes import Known, TooHardError, name_classes
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect
from policyfs.policy.moves.comparison import Budget, Comparison, Worse
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.facts import FILE_TYPES, Truth, content_met
from policyfs.policy.rules.profile import Profiles
from policyfs.policy.rules.rights_map import asks_more, differs, gains, keeps_less
from policyfs.policy.rules.sample_callers import callers_at, sample_uids
from policyfs.policy.rules.states import Paths, PathState
from policyfs.policy.rules.table import Situated, Table
from policyfs.policy.rules.tally import least
from policyfs.policy.rules.visibility import Sight

MAX_PAIRS: Final = 500
"""Maximum number of pairs of paths below two directories. With more, the answer is EXDEV."""


class End(NamedTuple):
    """One end of a rename or link: a path, and the file that is there or will be there."""

    state: PathState
    ftype: FileType
    facts: Facts


_Rename = tuple[object, End, End, End | None, bool, bool]
"""The arguments of a rename, with the caller's key."""


class Decider(Protocol):
    """The methods of the engine that this module uses."""

    def decide(self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        """See Engine.decide."""
        ...

    def needs(self, who: Principal, ops: Op, state: PathState, ftype: FileType) -> Need:
        """See Engine.needs."""
        ...

    def caller(self, who: Principal) -> Caller:
        """See Engine.caller."""
        ...

    def unrestricted(self, who: Principal, state: PathState) -> bool:
        """See Engine.unrestricted."""
        ...


class Mover:
    """Decisions on renames and links, for one engine (compiled policy)."""

    def __init__(
        self,
        table: Table,
        paths: Paths,
        sight: Sight,
        profiles: Profiles,
        remembered: int,
    ) -> None:
        self._table: Final = table
        self._free: Final = {app.name for app in table.policy.apps if app.moves_freely}
        self._paths: Final = paths
        self._sight: Final = sight
        self._profiles: Final = profiles
        self._gains: Final[Memo[tuple[PathState, PathState, FileType, bool], bool]] = Memo(remembered)
        self._same_below: Final[Memo[tuple[PathState, PathState, int, bool], bool]] = Memo(remembered)
        self._asking: Final[Memo[tuple[PathState, PathState], bool]] = Memo(remembered)
        self._free_below: Final[Memo[tuple[PathState, PathState, int], bool]] = Memo(remembered)
        self._keeps: Final = any(rule.keep is not None for rule in table.rules)
        rules = enumerate(table.rules)
        self._limiting: Final = frozenset(number for number, rule in rules if rule.effect is Effect.LIMIT)
        self._limits_below: Final[Memo[tuple[PathState, PathState, int], bool]] = Memo(remembered)
        self._needs: Final[Memo[tuple[object, PathState, PathState, FileType], Need]] = Memo(remembered)
        self._renames: Final[Memo[_Rename, Decision]] = Memo(remembered)

    # ---- requests

    def rename(
        self,
        engine: Decider,
        who: Principal,
        old: End,
        new: End,
        replaced: End | None,
        *,
        exchange: bool,
        same_directory: bool,
    ) -> Decision:
        """See Engine.rename."""
        key = (who.key, old, new, replaced, exchange, same_directory)
        found = self._renames.get(key)
        if found is None:
            found = self._rename(engine, who, key)
            units = sum(end.state.units for end in (old, new, replaced) if end is not None)
            self._renames.keep(key, found, units)
        return found

    def _rename(self, engine: Decider, who: Principal, asked: _Rename) -> Decision:
        _, old, new, replaced, exchange, same_directory = asked
        if exchange and replaced is None:
            raise ValueError("an exchange needs *replaced*, the file at the new path")
        parts = self._half(engine, who, old, new)
        moves = [(old, new)]
        if replaced is not None and exchange:
            back = End(old.state, replaced.ftype, replaced.facts)
            parts += self._half(engine, who, replaced, back)
            moves.append((replaced, back))
        elif replaced is not None:
            parts.append(
                engine.decide(who, Op.SEE | Op.DELETE, replaced.state, replaced.ftype, replaced.facts)
            )
        if all(part.allowed for part in parts):
            for source, target in moves:
                if not self._may_rename(engine, who, source, target, same_directory=same_directory):
                    parts.append(self._cross_device())
        return combined(parts)

    def link(self, engine: Decider, who: Principal, old: End, new: End, *, same_directory: bool) -> Decision:
        """See Engine.link."""
        parts = [
            engine.decide(who, Op.SEE | Op.READ | Op.WRITE, old.state, old.ftype, old.facts),
            engine.decide(who, Op.SEE | Op.CREATE, new.state, new.ftype, new.facts),
            *self._content(engine, who, old, new),
        ]
        if all(part.allowed for part in parts) and (
            not set(self._limits(old.state)) <= set(self._limits(new.state))
            or (
                self.gain(old.state, new.state, old.ftype, same_directory=same_directory)
                and not self.moves_freely(engine, who, old.state, new.state)
            )
        ):
            parts.append(self._cross_device())
        return combined(parts)

    def needs(self, engine: Decider, who: Principal, old: PathState, new: PathState, ftype: FileType) -> Need:
        """Return the facts on which the answer to a rename or link can depend (Engine.needs_move)."""
        key = (who.key, old, new, ftype)
        found = self._needs.get(key)
        if found is None:
            found = self._needs.keep(key, self._need(engine, who, old, new, ftype), old.units + new.units)
        return found

    def _need(self, engine: Decider, who: Principal, old: PathState, new: PathState, ftype: FileType) -> Need:
        ops = Op.CREATE | Op.DELETE
        if ftype is FileType.DIRECTORY or self.gain(old, new, ftype, same_directory=False):
            ops |= Op.READ | Op.WRITE  # the answer depends on the right to copy
        need = Need.NOTHING
        for state in (old, new):
            for op in ops:
                need |= engine.needs(who, op, state, ftype)
        caller = engine.caller(who)
        if ftype is FileType.REGULAR and self._judges_content(old, new, caller):
            need |= Need.KIND | Need.OWNER
        return need

    def _judges_content(self, old: PathState, new: PathState, caller: Caller) -> bool:
        if not self._profiles.of(new, caller).content_possible():
            return False
        return self.asks_more(old, new) or bool(self._new_monitors(old, new, caller))

    def _new_monitors(self, old: PathState, new: PathState, caller: Caller) -> frozenset[str]:
        here, there = self._profiles.of(old, caller), self._profiles.of(new, caller)
        return there.content_monitors() - here.content_monitors()

    def asks_more(self, old: PathState, new: PathState) -> bool:
        """See Engine.asks_more."""
        found = self._asking.get((old, new))
        if found is None:
            try:
                comparison = self._compared(asks_more)
                found = comparison.is_worse(old, new, FileType.REGULAR) or comparison.unchecked(old, new)
            except TooHardError:
                found = True
            self._asking.keep((old, new), found, old.units + new.units)
        return found

    # ---- parts of a request

    def _half(self, engine: Decider, who: Principal, old: End, new: End) -> list[Decision]:
        return [
            engine.decide(who, Op.SEE | Op.DELETE, old.state, old.ftype, old.facts),
            engine.decide(who, Op.SEE | Op.CREATE, new.state, new.ftype, new.facts),
            *self._content(engine, who, old, new),
        ]

    def _content(self, engine: Decider, who: Principal, old: End, new: End) -> list[Decision]:
        """Return one decision for each content requirement of the new path that must be met.

        One in monitor mode that is not met is allowed, with the rule in *would_deny*. If asks_more() is
        False, none must be met, and nobody waits for a worker.
        """
        if new.ftype is not FileType.REGULAR:
            return []
        caller = engine.caller(who)
        facts = new.facts
        there = self._profiles.of(new.state, caller)
        # the mover's rules tell nothing about the bytes of another writer: asks_more compares all callers
        asked = there.content(facts) if self.asks_more(old.state, new.state) else ()
        monitors = self._new_monitors(old.state, new.state, caller)
        cleaned = to_clean(banned(live.rule.content for live in asked))
        usual, denied = self._table.policy.audit_allowed, self._table.policy.audit_denied
        found = [
            Decision(True, 0, audit=max(usual, Audit.BEST_EFFORT), would_deny=(live.rule.id,))
            for live in there.monitored_content(facts)
            if live.rule.id in monitors and not content_met((live.rule.content,), facts)
        ]
        for live in asked:
            content = live.rule.content
            words = banned((content,))
            met = content_met((content,), facts)
            certain = live.match(facts) is Truth.YES
            match = RuleMatch(live.rule.id, live.rule.effect.value, Op.CREATE, certain)
            audit = live.rule.audit_or(usual if met else denied)
            # after EXDEV, mv copies the file: the copy is cleaned, so the copy meets the requirement
            code = errno.EXDEV if words and not only_forbidden(words, cleaned) else CONTENT_REFUSED
            found.append(Decision(met, 0 if met else code, (match,), audit))
        return found

    def _cross_device(self) -> Decision:
        return Decision(False, errno.EXDEV, (), self._table.policy.audit_denied)

    def _may_rename(
        self, engine: Decider, who: Principal, old: End, new: End, *, same_directory: bool
    ) -> bool:
        if old.ftype is FileType.DIRECTORY:
            caller = engine.caller(who)
            return self._counts_alike(old.state, new.state, who, caller) and (
                self._alike_below(old.state, new.state, who, caller, same_directory=same_directory)
                or self._moves_all_freely(engine, who, old.state, new.state)
            )
        if not self.gain(old.state, new.state, old.ftype, same_directory=same_directory):
            return True
        if self._keeps_less(old.state, new.state, old.ftype):
            return False  # mv copies, and what it deletes is kept
        return self._could_copy(engine, who, old, new)

    def _keeps_less(self, old: PathState, new: PathState, ftype: FileType) -> bool:
        if not self._keeps:
            return False
        try:
            return self._compared(keeps_less).is_worse(old, new, ftype)
        except TooHardError:
            return True

    def _could_copy(self, engine: Decider, who: Principal, old: End, new: End) -> bool:
        """Return True if the caller could get the same by a copy and a deletion."""
        caller = engine.caller(who)
        source = self._answer(Op.SEE | Op.READ | Op.WRITE | Op.DELETE, old, caller)
        target = self._answer(Op.SEE | Op.CREATE | Op.WRITE, new, caller)
        return source.allowed and not source.redact and target.allowed

    def _answer(self, ops: Op, end: End, caller: Caller) -> Decision:
        profile, position = self._profiles.of(end.state, caller), end.state.position
        below = functools.partial(self._sight.below, position, caller)
        return profile.answer(int(ops), end.ftype, end.facts, below=below)

    def moves_freely(self, engine: Decider, who: Principal, old: PathState, new: PathState) -> bool:
        """Return True if an app with ``moves: free`` may decide who else has rights to a file: it may do
        everything at both paths, and no content requirement and no owner of a directory can be in the way.
        """
        return (
            who.app in self._free
            and all(engine.unrestricted(who, state) for state in (old, new))
            and not any(self._maybe_hidden(state) for state in (old, new))
            and not any(self.asks_more(*pair) for pair in ((old, new), (new, old)))
        )

    def _moves_all_freely(self, engine: Decider, who: Principal, old: PathState, new: PathState) -> bool:
        """Return True if moves_freely() is at and below two directories."""
        if who.app not in self._free:
            return False
        key = (old, new, who.key)
        found = self._free_below.get(key)
        if found is None:
            try:
                found = all(
                    self.moves_freely(engine, who, *pair)
                    and all(
                        engine.decide(who, Op.ALL, state, ftype, NO_FACTS).allowed
                        for state in pair
                        for ftype in (FileType.DIRECTORY, FileType.SYMLINK)
                    )
                    for pair in self._pairs_below(old, new, engine.caller(who))
                )
            except TooHardError:
                found = False
            self._free_below.keep(key, found, old.units + new.units)
        return found

    def _counts_alike(self, old: PathState, new: PathState, who: Principal, caller: Caller) -> bool:
        """Return True if no limit on changes counts below only one of two directories, whose rename is one
        change: else the files could be changed uncounted at the new path."""
        if not self._limiting:
            return True
        key = (old, new, who.key)
        found = self._limits_below.get(key)
        if found is None:
            try:
                found = all(
                    self._limits(one) == self._limits(other)
                    for one, other in self._pairs_below(old, new, caller)
                )
            except TooHardError:
                found = False
            self._limits_below.keep(key, found, old.units + new.units)
        return found

    def _limits(self, state: PathState) -> list[Situated]:
        """Return the limits that can count at a path, for any caller."""
        return [one for one in state.situated(self._table) if one.rule in self._limiting]

    def _pairs_below(
        self, old: PathState, new: PathState, caller: Caller
    ) -> Iterator[tuple[PathState, PathState]]:
        """Yield both paths, and those of one name of each class below them. Raise TooHardError."""
        budget = Budget()
        known: Known = {}
        seen = {(old, new)}
        todo = [(old, new)]
        while todo:
            pair = todo.pop()
            yield pair
            fresh = {*children(self._table, self._paths, pair, caller, known, budget)} - seen
            seen |= fresh
            if len(seen) > MAX_PAIRS:
                raise TooHardError
            todo += fresh

    # ---- comparing paths

    def gain(self, old: PathState, new: PathState, ftype: FileType, *, same_directory: bool) -> bool:
        """Return True if some caller would gain rights, or get other content requirements."""
        key = (old, new, ftype, same_directory)
        found = self._gains.get(key)
        if found is None:
            try:
                found = (
                    (not same_directory and self._maybe_hidden(old))
                    or self._compared(gains).is_worse(old, new, ftype)
                    or (ftype is FileType.REGULAR and self.asks_more(old, new))
                )
            except TooHardError:
                found = True
            self._gains.keep(key, found, old.units + new.units)
        return found

    def _maybe_hidden(self, state: PathState) -> bool:
        """Return True if the owner of a directory above, which the state does not tell, can hide the path."""
        return bool(state.hides) and any(
            profile.hiding_maybe and not profile.hiding
            for caller in callers_at(self._table, (state,))
            for profile in (self._profiles.of(state, caller),)
        )

    def _compared(self, worse: Worse, budget: Budget | None = None) -> Comparison:
        return Comparison(self._table, self._sight, self._profiles, worse, budget)

    def _alike_below(
        self, old: PathState, new: PathState, who: Principal, caller: Caller, *, same_directory: bool
    ) -> bool:
        key = (old, new, who.key, same_directory)
        found = self._same_below.get(key)
        if found is None:
            try:
                apart = not same_directory and (self._maybe_hidden(old) or self._maybe_hidden(new))
                found = not apart and self._walk(old, new, caller)
            except TooHardError:
                found = False
            self._same_below.keep(key, found, old.units + new.units)
        return found

    def _walk(self, old: PathState, new: PathState, caller: Caller) -> bool:
        """Return True if rights are equal at and below both paths, and all below may be deleted."""
        budget = Budget()
        comparison = self._compared(differs, budget)
        if comparison.is_worse(old, new, FileType.DIRECTORY):
            return False
        known: Known = {}
        seen: set[tuple[PathState, PathState]] = set()
        todo = [(old, new)]
        while todo:
            pair = todo.pop()
            for child in children(self._table, self._paths, pair, caller, known, budget):
                if child in seen:
                    continue
                seen.add(child)
                if len(seen) > MAX_PAIRS:
                    return False
                for ftype in FILE_TYPES:
                    if comparison.is_worse(*child, ftype):
                        return False
                    if not comparison.always_deletes(child[0], caller, ftype):
                        return False
                todo.append(child)
        return True


def children(
    table: Table,
    paths: Paths,
    pair: tuple[PathState, PathState],
    caller: Caller,
    known: Known,
    budget: Budget,
) -> Iterator[tuple[PathState, PathState]]:
    """Yield the path states of one name of each class in two directories (*pair*). Raise TooHardError."""
    uids = sample_uids(table, pair, caller)
    apps = tuple(sorted(table.automaton.apps))
    positions = (pair[0].position, pair[1].position)
    for name in name_classes(table.automaton, positions, apps, uids, known, budget.spend_on_characters):
        budget.spend(2 + 2 * sum(len(state.position.bound) for state in pair))
        yield paths.step(pair[0], name), paths.step(pair[1], name)


def combined(parts: Sequence[Decision]) -> Decision:
    """Return one decision for the parts of a request. A denial names only rules of parts with its errno."""
    code = least(part.errno for part in parts if not part.allowed)
    rules: dict[tuple[str, bool], RuleMatch] = {}
    for match in (match for part in parts if part.errno == code for match in part.rules):
        key = (match.rule, match.monitor)
        before = rules.get(key, match)
        op, certain = match.op | before.op, match.certain and before.certain
        rules[key] = replace(match, op=op, certain=certain)
    denied = [part.audit for part in parts if not part.allowed]
    return Decision(
        allowed=code == 0,
        errno=code,
        rules=tuple(rules[key] for key in sorted(rules)),
        audit=max(denied or [part.audit for part in parts], default=Audit.BEST_EFFORT),
        would_deny=tuple(dict.fromkeys(rule for part in parts for rule in part.would_deny)),
        would_allow=tuple(dict.fromkeys(rule for part in parts for rule in part.would_allow)),
    )
