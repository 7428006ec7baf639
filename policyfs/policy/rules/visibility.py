"""Bare directories: a caller sees such a directory only as the way to a path below that it could see.

That is: for some file there an allow of ``see`` matches and no deny, and no rule certainly hides a directory
on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from policyfs.domain import FileType
from policyfs.policy.globs.automaton import Node, Position
from policyfs.policy.globs.classes import TooHardError, name_classes
from policyfs.policy.globs.paths import Variant, Wild
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect
from policyfs.policy.rules.callers import Caller, CallerClass
from policyfs.policy.rules.facts import FILE_TYPES
from policyfs.policy.rules.table import Live, Table, decides_sight, sample_facts_of

MAX_POSITIONS: Final = 1000
"""Maximum number of positions to try below a directory. With more, it is hidden, not bare."""

_MAX_TRIES: Final = 32
_MAX_NODES: Final = 5000
_ANY_CHAR: Final = "\uf8ff"


class _Goal:
    """The paths that some allow rules match. accepts: their glob sets. nodes: those that lead there.
    everywhere: True if one of the rules has no globs."""

    __slots__ = ("accepts", "everywhere", "nodes")

    def __init__(self, accepts: frozenset[int], nodes: frozenset[int], *, everywhere: bool) -> None:
        self.accepts = accepts
        self.nodes = nodes
        self.everywhere = everywhere


class Sight:
    """The search for visible paths below a directory, for one table of rules. Its results are remembered."""

    def __init__(self, table: Table, remembered: int) -> None:
        self._table: Final = table
        self._automaton: Final = table.automaton
        self._goals: Final[dict[frozenset[int], _Goal]] = {}
        self._class_goals: Final[dict[int, _Goal]] = {}
        self._answers: Final[Memo[tuple[Position, int, int | None], bool]] = Memo(remembered)
        self._some_file: Final[Memo[tuple[Live, ...], bool]] = Memo(remembered)
        seeing = {
            number
            for number, rule in enumerate(table.rules)
            if rule.effect is Effect.ALLOW and decides_sight(rule)
        }
        self._seeing: Final = [(a, number) for a, number in table.first_accepts().items() if number in seeing]
        self._seeing_everywhere: Final = [number for number in table.everywhere() if number in seeing]

    def below(self, position: Position, caller: Caller) -> bool:
        """Return True if this caller could see some path below the position."""
        uid = caller.uid if self._table.uses_uid and caller.app is not None else None
        # INVARIANT: the key has the position resolved for the caller, because one caller has few resolved
        # positions. With directories named by numbers, an app can make any number of unresolved positions.
        # Each unresolved position would need its own search.
        own = self._automaton.resolved(position, caller.app, caller.uid)
        key = (own, caller.of.number, uid)
        found = self._answers.get(key)
        if found is None:
            found = self._answers.keep(key, self._look(own, caller))
        return found

    def _look(self, position: Position, caller: Caller) -> bool:
        goal = self._goal(caller.of)
        if not self._leads(position, goal):
            return False
        return self._direct(position, caller, goal) or self._explore(position, caller, goal)

    def _leads(self, position: Position, goal: _Goal) -> bool:
        if position.lost:
            return False
        if goal.everywhere:
            return True
        return not goal.nodes.isdisjoint(position.reached)

    def _could(self, position: Position, caller: Caller) -> bool:
        if position.lost:
            return False
        lives = tuple(self._about_see(position, caller))
        if all(live.fixed is not None for live in lives):
            return {live.rule.effect for live in lives} == {Effect.ALLOW}
        found = self._some_file.get(lives)
        if found is None:
            found = self._some_file.keep(lives, any(_shows_some(lives, ftype) for ftype in FILE_TYPES))
        return found

    def _is_open(self, position: Position, caller: Caller) -> bool:
        return not any(
            live.rule.effect is Effect.DENY and live.must_match(FileType.DIRECTORY)
            for live in self._about_see(position, caller)
        )

    def _about_see(self, position: Position, caller: Caller) -> Iterator[Live]:
        for situated in self._table.situated(position):
            live = self._table.live(situated, caller)
            if live is not None and decides_sight(live.rule):
                yield live

    def _goal(self, of: CallerClass) -> _Goal:
        goal = self._class_goals.get(of.number)
        if goal is None:
            goal = self._class_goals[of.number] = self._find_goal(of)
        return goal

    def _find_goal(self, of: CallerClass) -> _Goal:
        rules = self._table.rules
        accepts = frozenset(a for a, number in self._seeing if of.fits(number, rules[number]))
        everywhere = any(of.fits(number, rules[number]) for number in self._seeing_everywhere)
        known = self._goals.get(accepts)
        if known is not None and known.everywhere == everywhere:
            return known
        nodes = self._automaton.leading_to(accepts)
        goal = self._goals[accepts] = _Goal(accepts, nodes, everywhere=everywhere)
        return goal

    def _direct(self, position: Position, caller: Caller, goal: _Goal) -> bool:
        if goal.everywhere and self._could(self._automaton.step(position, _ANY_CHAR), caller):
            return True
        for tries, path in enumerate(self._spelled(position, caller, goal)):
            if tries == _MAX_TRIES:
                return False
            at = self._automaton.step(position, path[0])
            for name in path[1:]:
                if not self._is_open(at, caller):
                    break
                at = self._automaton.step(at, name)
            else:
                if self._could(at, caller):
                    return True
        return False

    def _spelled(self, position: Position, caller: Caller, goal: _Goal) -> Iterator[tuple[str, ...]]:
        seen: set[int] = set()
        todo: deque[tuple[int, tuple[str, ...]]] = deque((n, ()) for n in position.reached if n in goal.nodes)
        while todo and len(seen) < _MAX_NODES:
            number, path = todo.popleft()
            for name, targets in _exits(self._automaton.nodes[number], caller):
                for target in targets:
                    if target in seen:
                        continue
                    seen.add(target)
                    if not goal.accepts.isdisjoint(self._automaton.nodes[target].accepts):
                        yield (*path, name)
                    if target in goal.nodes:
                        todo.append((target, (*path, name)))

    def _explore(self, start: Position, caller: Caller, goal: _Goal) -> bool:
        apps = () if caller.app is None else (caller.app,)
        uids = () if caller.uid is None else (caller.uid,)
        seen: set[Position] = set()
        todo = [start]
        while todo:
            position = todo.pop()
            try:
                names = name_classes(self._automaton, (position,), apps, uids)
            except TooHardError:
                return False
            for name in names:
                child = self._automaton.step(position, name)
                if child in seen:
                    continue
                if self._could(child, caller):
                    return True
                seen.add(child)
                if self._leads(child, goal) and self._is_open(child, caller):
                    todo.append(child)
            if len(seen) > MAX_POSITIONS:
                return False
        return False


def _shows_some(lives: tuple[Live, ...], ftype: FileType) -> bool:
    if not any(live.rule.effect is Effect.ALLOW and live.may_match(ftype) for live in lives):
        return False
    return any(
        {live.rule.effect for live in lives if live.match(facts)} == {Effect.ALLOW}
        for facts in sample_facts_of(lives, ftype, unknown=False)
    )


def _exits(node: Node, caller: Caller) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from node.literals.items()
    yield from node.folded.items()
    for pattern, targets in node.patterns.items():
        yield _spell(pattern.tokens), targets
    if caller.app is not None and caller.uid is not None:
        for captured, targets in node.captures.items():
            yield _spell(captured.filled(caller.bind()).tokens), targets
    if node.anything:
        yield _ANY_CHAR, node.anything


def _spell(tokens: Variant) -> str:
    return "".join(_ANY_CHAR if token in (Wild.ONE, Wild.RUN) else str(token) for token in tokens)
