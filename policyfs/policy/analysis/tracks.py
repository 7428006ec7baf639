"""Steps through one policy's automaton for many callers at once: nodes with the callers that reach them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.policy.analysis.sides import Side, bits, numbers_of
from policyfs.policy.globs.automaton import Node, Position
from policyfs.policy.globs.names import Captured, NameMatcher, Pattern
from policyfs.policy.model import SELF, Effect
from policyfs.policy.rules.table import decides_sight

Callers = int
"""A set of callers, as an int. Bit N stands for the caller group with index N in a list."""

Nodes = tuple[tuple[int, Callers], ...]
"""The nodes of the automaton that a path reaches, each with the callers for whom it does."""


Edges = tuple[Node, tuple[str, ...], tuple[int, ...]]
"""A node of the automaton, with the apps and uids that ``{app}`` and ``{uid}`` can mean in globs there."""


class Match(NamedTuple):
    """A rule that matches at a class of paths for some callers. unless: its blocks that match for some."""

    rule: int
    callers: Callers
    unless: tuple[tuple[int, Callers], ...]


class Marks:
    """Marks on rules. by_rule: for each rule, the callers for whom it is marked."""

    def __init__(self, by_rule: Sequence[Callers]) -> None:
        self.by_rule: Final = by_rule
        self._known: Final[dict[int, Callers]] = {}

    def of_any(self, rules: int) -> Callers:
        """Return the callers for whom at least one of these rules (bits) is marked."""
        found = self._known.get(rules)
        if found is None:
            found = 0
            for number in numbers_of(rules):
                found |= self.by_rule[number]
            self._known[rules] = found
        return found


class Track:
    """The automaton of one policy, for many callers at once. step() reaches the same nodes as Side.step for
    each caller, without those that lead to no rule that can match."""

    def __init__(self, sides: Sequence[Side], watched: Sequence[frozenset[int]] = ()) -> None:
        """Take one caller of each group. watched: the rules to look for, for each group."""
        self.sides: Final = sides
        self.compiled: Final = sides[0].compiled
        table = self._table = self.compiled.table
        self._nodes: Final = table.automaton.nodes
        self.everyone: Final[Callers] = (1 << len(sides)) - 1
        self.about: Final = Marks(self.compiled.callers_by_rule([side.caller for side in sides]))
        self.watched: Final = Marks(_callers_by_rule(len(table.rules), watched))
        self.by_app: Final[dict[str | None, Callers]] = {}
        for at, side in enumerate(sides):
            self.by_app[side.caller.app] = self.by_app.get(side.caller.app, 0) | 1 << at
        self._steps: Final[dict[tuple[int, str], tuple[tuple[int, Callers], ...]]] = {}
        self._captured: Final[dict[Captured, tuple[NameMatcher, dict[Pattern, Callers]]]] = {}
        self._names: Final[dict[Callers, tuple[tuple[str, ...], tuple[int, ...]]]] = {}
        self._bare: Final[dict[tuple[Nodes, Callers], Callers]] = {}
        self._seeing: Final = [
            bits(
                number
                for number, rule in enumerate(table.rules)
                if rule.effect in effects and decides_sight(rule)
            )
            for effects in ((Effect.ALLOW,), (Effect.ALLOW, Effect.DENY))
        ]

    # ---- nodes

    def root(self, callers: Callers) -> Nodes:
        """Return the root's nodes for these callers."""
        return self._own(dict.fromkeys(self._table.automaton.root.free, callers))

    def step(self, nodes: Nodes, name: str, callers: Callers) -> Nodes:
        """Return the nodes of a name in the directory with these nodes, for some of the callers."""
        reached: dict[int, Callers] = {}
        for number, here in nodes:
            here &= callers
            if here:
                for target, who in self._step(number, name):
                    who &= here
                    if who:
                        reached[target] = reached.get(target, 0) | who
        return self._own(reached) if reached else ()

    def _step(self, number: int, name: str) -> tuple[tuple[int, Callers], ...]:
        found = self._steps.get((number, name))
        if found is None:
            reached = dict.fromkeys(self._table.automaton.targets(number, name), self.everyone)
            for captured, targets in self._nodes[number].captures.items():
                callers = self._capturing(captured, name)
                for target in targets if callers else ():
                    reached[target] = reached.get(target, 0) | callers
            found = self._steps[number, name] = tuple(reached.items())
        return found

    def _capturing(self, captured: Captured, name: str) -> Callers:
        if captured not in self._captured:
            by_pattern: dict[Pattern, Callers] = {}
            for at, side in enumerate(self.sides):
                if side.caller.app is not None:
                    pattern = captured.filled(side.caller.bind())
                    by_pattern[pattern] = by_pattern.get(pattern, 0) | 1 << at
            self._captured[captured] = NameMatcher(by_pattern), by_pattern
        matcher, by_pattern = self._captured[captured]
        found = 0
        for pattern in matcher.matching(name):
            found |= by_pattern[pattern]
        return found

    def _own(self, reached: Mapping[int, Callers]) -> Nodes:
        alive, reach = self.compiled.alive(reached), self.compiled.reach
        found = []
        for number in sorted(reached):
            who = reached[number] & self.about.of_any(reach[number] & alive)
            if who:
                found.append((number, who))
        return tuple(found)

    def edges(self, nodes: Nodes, callers: Callers) -> Iterator[Edges]:
        """Yield the arguments for names_out_of()."""
        for number, who in nodes:
            node = self._nodes[number]
            if who & callers and self.compiled.targets[number]:
                yield (node, *(self._values(who & callers) if node.captures else ((), ())))

    def _values(self, callers: Callers) -> tuple[tuple[str, ...], tuple[int, ...]]:
        found = self._names.get(callers)
        if found is None:
            own = [self.sides[at].caller for at in numbers_of(callers)]
            apps = dict.fromkeys(caller.app for caller in own if caller.app is not None)
            uids = dict.fromkeys(c.uid for c in own if c.app is not None and c.uid is not None)
            found = self._names[callers] = tuple(apps), tuple(uids)
        return found

    # ---- rules

    def leading(self, nodes: Nodes, marks: Marks) -> Callers:
        """Return the callers for whom a marked rule can match at these nodes or below them."""
        alive, reach = self.compiled.alive([number for number, _ in nodes]), self.compiled.reach
        found = marks.of_any(self.compiled.everywhere)
        for number, who in nodes:
            found |= who & marks.of_any(reach[number] & alive)
        return found

    def leading_to(self, nodes: Nodes, rule: int) -> Callers:
        """Return the callers for whom a rule can match at these nodes or below them."""
        bit, reach, found = 1 << rule, self.compiled.reach, 0
        if self.compiled.everywhere & bit:
            return self.about.by_rule[rule]
        if self.compiled.alive([number for number, _ in nodes]) & bit:
            for number, who in nodes:
                found |= who if reach[number] & bit else 0
        return found & self.about.by_rule[rule]

    def position(self, nodes: Nodes, caller: int) -> Position:
        """Return the position that consists of the nodes of one caller, by its index."""
        own = (number for number, who in nodes if who >> caller & 1)
        return self.sides[caller].position_at(frozenset(own))

    def matches(self, nodes: Nodes, callers: Callers) -> list[Match]:
        """Return the rules that match at these nodes for some of the callers, sorted by number."""
        table = self._table
        accepts: dict[int | None, Callers] = {None: callers}
        for number, who in nodes:
            who &= callers
            for accept in self._nodes[number].accepts if who else ():
                accepts[accept] = accepts.get(accept, 0) | who
        first = table.first_accepts()
        numbers = {first[accept] for accept in accepts if accept is not None and accept in first}
        found = []
        for number in sorted(numbers.union(table.everywhere())):
            paths, when = table.needed_accepts(number)
            who = self.about.by_rule[number] & accepts.get(paths, 0) & accepts.get(when, 0)
            if who:
                blocks = enumerate(table.unless_accepts(number))
                unless = ((block, accepts.get(accept, 0) & who) for block, accept in blocks)
                found.append(Match(number, who, tuple((block, some) for block, some in unless if some)))
        return found

    # ---- bare directories

    def below(self, nodes: Nodes, callers: Callers) -> Callers:
        """Return the callers who could see some path below these nodes (as Side.below)."""
        nodes = tuple((number, who & callers) for number, who in nodes if who & callers)
        found = self._bare.get((nodes, callers))
        if found is None:
            found = self._bare[nodes, callers] = self._find_below(nodes, callers)
        return found

    def _find_below(self, nodes: Nodes, callers: Callers) -> Callers:
        alive = self.compiled.alive([number for number, _ in nodes]) & self._seeing[1]
        named = self._named(alive)
        alike: dict[tuple[frozenset[int], object], tuple[Side, Callers]] = {}
        for at in numbers_of(callers & self.about.of_any(alive & self._seeing[0])):
            side, bit = self.sides[at], 1 << at
            own = frozenset(number for number, who in nodes if who & bit)
            app = side.caller.app
            name = app if named is None or app in named else app is None
            key = (own, (side.bits & alive, name, side.caller.uid if named is None else None))
            first, others = alike.get(key, (side, 0))
            alike[key] = first, others | bit
        found = 0
        for (own, _), (side, who) in alike.items():
            if side.below(side.position_at(own)):
                found |= who
        return found

    def _named(self, rules: int) -> frozenset[str] | None:
        """Return the apps that owner conditions of some rules name; None if captures tell apps apart."""
        owners: set[str] = set()
        for number in numbers_of(rules):
            if self.compiled.captures[number]:
                return None
            owners |= self.compiled.owners[number]
        return frozenset(owners - {SELF})


def _callers_by_rule(rules: int, sides: Iterable[Iterable[int]]) -> list[Callers]:
    found = [0] * rules
    for at, numbers in enumerate(sides):
        for number in numbers:
            found[number] |= 1 << at
    return found
