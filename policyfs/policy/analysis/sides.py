"""A policy as it applies to one caller (a side), whose values stand for ``{app}`` and ``{uid}`` in globs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from policyfs.policy.decide import Engine
from policyfs.policy.globs.automaton import Position
from policyfs.policy.globs.classes import Known
from policyfs.policy.globs.paths import parse_glob
from policyfs.policy.model import Rule, Who
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.profile import Profile, profile_at
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import hides
from policyfs.policy.rules.views import Views
from policyfs.policy.rules.visibility import Sight

_REMEMBERED: Final = 1 << 16
_SMALL: Final = 256
"""Sets of numbers below this limit are quick to handle bit by bit."""


class Compiled:
    """A compiled policy, with data that callers share. Sets of rules are ints: bit N stands for rule N."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Final = engine
        self.table: Final = engine.table
        self.sight: Final = Sight(self.table, _REMEMBERED)
        self.views: Final = Views()
        self.accepts: Final = [self.table.accepts_of(number) for number in range(len(self.table.rules))]
        self.captures: Final = list(map(_captures, self.table.rules))
        self.owners: Final = list(map(_owners, self.table.rules))
        self.name_classes: Final[Known] = {}
        self.targets: Final = [node.targets() for node in self.table.automaton.nodes]
        """For each node of the automaton, the nodes to which some name leads."""
        self.reach: Final = self.reached(
            {accept: number for number, some in enumerate(self.accepts) for accept in some}
        )
        """For each node of the automaton, the rules with a glob that matches there or below."""
        self.everywhere: Final = bits(self.table.everywhere())
        self.hiding: Final = bits(number for number, rule in enumerate(self.table.rules) if hides(rule))
        """The rules that hide everything below a directory."""
        self.by_capture: Final = _by_word(self.captures)
        """For each capture (``app`` or ``uid``), the rules with this capture in a glob."""
        self.by_owner: Final = _by_word(self.owners)
        """For each owner that conditions name, the rules with such a condition."""
        whos: dict[Who | None, list[int]] = {}
        for number, rule in enumerate(self.table.rules):
            whos.setdefault(rule.who, []).append(number)
        self._who: Final = {who: bits(numbers) for who, numbers in whos.items()}

    @functools.cached_property
    def contents(self) -> list[tuple[object, ...]]:
        """For each rule a value that is equal for rules that differ only in id, ``who`` and place."""
        return [content_of(rule) for rule in self.table.rules]

    @functools.cached_property
    def by_id(self) -> dict[str, tuple[tuple[object, ...], Who | None]]:
        """A dictionary from the id of each rule to its content and its ``who``."""
        pairs = zip(self.table.rules, self.contents, strict=True)
        return {rule.id: (content, rule.who) for rule, content in pairs}

    def reached(self, rule_of: Mapping[int, int]) -> list[int]:
        """Return, for each node of the automaton, the rules with a glob that matches there or below. rule_of:
        a dictionary from glob sets to rules."""
        nodes, targets = self.table.automaton.nodes, self.targets
        if not rule_of:
            return [0] * len(nodes)
        reach = [bits(rule_of[accept] for accept in node.accepts if accept in rule_of) for node in nodes]
        changed = True
        while changed:  # few rounds are needed: most nodes have one parent, with a lower number
            changed = False
            for number in range(len(nodes) - 1, -1, -1):
                found = reach[number]
                for target in targets[number]:
                    found |= reach[target]
                if found != reach[number]:
                    reach[number], changed = found, True
        return reach

    def callers_by_rule(self, callers: Sequence[Caller]) -> list[int]:
        """Return, for each rule, the callers who match its ``who``, as bits of an int."""
        found = [0] * len(self.table.rules)
        for who, numbers in self._who.items():
            fitting = bits(at for at, caller in enumerate(callers) if who is None or caller.of.within(who))
            for number in numbers_of(numbers):
                found[number] = fitting
        return found

    def fitting(self, caller: Caller) -> int:
        """Return the rules whose ``who`` the caller matches."""
        found = 0
        for who, numbers in self._who.items():
            if who is None or caller.of.within(who):
                found |= numbers
        return found

    @functools.cached_property
    def _needed(self) -> list[tuple[list[int], int]]:
        """For ``paths`` and ``when``: the rules at or below each node, and the rules without such globs."""
        needed = [self.table.needed_accepts(number) for number in range(len(self.table.rules))]
        return [
            (
                self.reached({a: n for n, pair in enumerate(needed) if (a := pair[key]) is not None}),
                bits(n for n, pair in enumerate(needed) if pair[key] is None),
            )
            for key in (0, 1)
        ]

    def alive(self, nodes: Collection[int]) -> int:
        """Return the rules that can match at one of these nodes or below it."""
        alive = -1
        for reach, found in self._needed:
            for number in nodes:
                found |= reach[number]
            alive &= found
        return alive


class Side:
    """One caller in one policy. bits: the rules whose ``who`` the caller matches, as bits."""

    def __init__(self, compiled: Compiled, caller: Caller) -> None:
        self.compiled: Final = compiled
        self.caller: Final = caller
        self.bits: Final = compiled.fitting(caller)
        self._automaton: Final = compiled.table.automaton
        self._positions: Final[dict[frozenset[int], Position]] = {}
        self.root: Final = self._own(self._automaton.root)

    @functools.cached_property
    def rules(self) -> frozenset[int]:
        """The numbers of the rules whose ``who`` the caller matches."""
        return frozenset(numbers_of(self.bits))

    def _own(self, position: Position) -> Position:
        return self.pruned(self._automaton.resolved(position, self.caller.app, self.caller.uid).free)

    def pruned(self, nodes: Iterable[int]) -> Position:
        """Return the position of these nodes, without those that lead to no rule about the caller."""
        reach, own = self.compiled.reach, self.bits
        return self.position_at(frozenset(number for number in nodes if reach[number] & own))

    def position_at(self, free: frozenset[int]) -> Position:
        """Return the position that consists of these nodes of the automaton."""
        found = self._positions.get(free)
        if found is None:
            accepts = frozenset(a for number in free for a in self._automaton.nodes[number].accepts)
            found = Position(free, frozenset(), accepts, {}, lost=False)
            self._positions[free] = found
        return found

    def step(self, position: Position, name: str) -> Position:
        """Return the position (set of nodes) of the name *name* in the directory at this position."""
        automaton, found = self._automaton, set[int]()
        for number in position.free:
            if automaton.nodes[number].captures:
                return self._own(automaton.step(position, name))
            found |= automaton.targets(number, name)
        return self.pruned(found)

    def profile(self, position: Position, *, top: bool) -> Profile:
        """Return the rules that can match at a position, without those that hide a directory above."""
        state = PathState(position, frozenset(), top=top)
        return profile_at(self.compiled.table, state, self.caller, lenient=False)

    def below(self, position: Position) -> bool:
        """Return True if the caller could see some path below, and so sees an undenied directory here."""
        return self.compiled.sight.below(position, self.caller)


def _by_word(words: Iterable[Iterable[str]]) -> dict[str, int]:
    found: dict[str, list[int]] = {}
    for number, some in enumerate(words):
        for word in some:
            found.setdefault(word, []).append(number)
    return {word: bits(numbers) for word, numbers in found.items()}


def bits(numbers: Iterable[int]) -> int:
    """Return a set of small numbers as an int: bit N is set if N is in the set."""
    found, many = 0, bytearray()
    for number in numbers:
        if number < _SMALL:
            found |= 1 << number
        else:
            at = number >> 3
            if at >= len(many):
                many += bytes(at + 1 - len(many))
            many[at] |= 1 << (number & 7)
    return found | int.from_bytes(many, "little")


def numbers_of(found: int) -> Iterator[int]:
    """Yield the numbers of a set that is an int (see bits)."""
    if found >> _SMALL:  # the loop below would copy a large number in each step
        digits = f"{found:b}"[::-1]
        at = digits.find("1")
        while at >= 0:
            yield at
            at = digits.find("1", at + 1)
        return
    while found:
        low = found & -found
        yield low.bit_length() - 1
        found ^= low


def content_of(rule: Rule) -> tuple[object, ...]:
    """Return the effect and conditions of a rule, without ``who``. Rules that act alike have equal values."""
    return (
        rule.effect,
        rule.ops,
        None if rule.paths is None else frozenset(rule.paths),
        rule.ignore_case,
        rule.when,
        frozenset(rule.unless),
        rule.errno,
        rule.redact,
        rule.content,
        rule.raw_types,
        rule.audit,
        rule.monitor,
        rule.quarantine,
        *(() if rule.keep is None else (rule.keep,)),
    )


def _captures(rule: Rule) -> frozenset[str]:
    globs = (glob for paths in (rule.paths, *(block.paths for block in rule.blocks)) for glob in paths or ())
    return frozenset(name for glob in globs if "{" in glob for name in parse_glob(glob).captures)


def _owners(rule: Rule) -> frozenset[str]:
    return frozenset(owner for block in rule.blocks for owner in block.owners or ())
