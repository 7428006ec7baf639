"""Canaries: sample requests of one caller, with the policy's answers. A mount is tested with these requests.

The test of a mount waits for this search. So it tries MOST_PLACES classes of paths and only some rules of a
large policy, and can miss canaries. The answers are always those of the whole policy.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Decision, Facts, FileType, Op, Principal
from policyfs.policy.analysis.samples import is_made_up, spelled
from policyfs.policy.analysis.sides import Compiled, Side, bits
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import Spot, Walk
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Effect, Rule

MOST_PLACES: Final = 150
"""Maximum number of classes of paths that one search for canaries tries."""

MOST_RULES: Final = 15
"""Maximum number of rules of each sort of canaries in a large policy that the search uses."""

_EACH: Final = 2
"""Number of canaries of one sort for one caller that end the search."""

_DIRECTORY: Final = Facts(KIND_DIRECTORY, OWNER_NONE)


class Sort(enum.Enum):
    """The answer that the request of a canary must get."""

    HIDING = "hiding"
    DENIAL = "denial"
    REDACTION = "redaction"
    PASSTHROUGH = "passthrough"


class Canary(NamedTuple):
    """A sample request and its answer. op: SEE if it is hidden. words: data that reads must not have."""

    sort: Sort
    path: bytes
    op: Op
    errno: int = 0
    words: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()
    inode: int = 0


class Answers:
    """The answers of a policy to one caller, for files in directories that no app owns."""

    def __init__(self, engine: Engine, who: Principal) -> None:
        self._engine: Final = engine
        self._who: Final = who

    def decide(self, names: Sequence[bytes], op: Op, ftype: FileType, facts: Facts) -> Decision:
        """Return the decision on one operation. names: the names of the path, from the root down."""
        state, chain = self._engine.root, []
        for name in names:
            chain.append((state, _DIRECTORY))
            state = self._engine.child(state, name)
        hidden = self._engine.hidden_above(self._who, chain)
        return hidden or self._engine.decide(self._who, Op.SEE | op, state, ftype, facts)

    def canary(self, names: Sequence[bytes], facts: Facts) -> Iterator[Canary]:
        """Yield the canaries for a regular file with these facts at the path of these names."""
        path = b"/" + b"/".join(names)
        seen = self.decide(names, Op.SEE, FileType.REGULAR, facts)
        if not seen.allowed:
            # Below a hidden directory, a test would prove nothing. Another canary may need a directory at
            # this path, so the path must also be hidden if it is a directory.
            above = self.decide(names[:-1], Op.SEE, FileType.DIRECTORY, _DIRECTORY)
            if above.allowed and not self.decide(names, Op.SEE, FileType.DIRECTORY, _DIRECTORY).allowed:
                yield Canary(Sort.HIDING, path, Op.SEE, seen.errno, rules=_rules(seen))
            return
        for op in (Op.READ, Op.WRITE, Op.DELETE):
            answer = self.decide(names, op, FileType.REGULAR, facts)
            if not answer.allowed:
                yield Canary(Sort.DENIAL, path, op, answer.errno, rules=_rules(answer))
            elif op is Op.READ:
                yield from self._readable(path, answer)

    def _readable(self, path: bytes, answer: Decision) -> Iterator[Canary]:
        if answer.redact:
            yield Canary(Sort.REDACTION, path, Op.READ, words=answer.redact, rules=_rules(answer))
        elif self._engine.view(self._who, self._engine.state_of(path)).raw:
            yield Canary(Sort.PASSTHROUGH, path, Op.READ, rules=_rules(answer))


class Nest:
    """Maker of canaries of a policy."""

    def __init__(self, engine: Engine) -> None:
        policy, most = engine.policy, MOST_RULES * len(Sort)
        if len(policy.rules) > most:
            policy = replace(policy, rules=_some(policy.rules), invariants=())
        self._engine: Final = engine
        self._walked: Final = Compiled(engine if policy is engine.policy else compile_policy(policy))

    def canaries(self, who: Callable[[Engine], Principal], facts: Facts) -> list[Canary]:
        """Return canaries of one caller, as a principal of an engine (who), for files with these facts."""
        track = Track([Side(self._walked, self._walked.engine.caller(who(self._walked.engine)))])
        answers = Answers(self._engine, who(self._engine))
        found: dict[tuple[Sort, bytes, Op], Canary] = {}
        for sort in Sort:
            some = 0
            for names in _paths(track, sort):
                for canary in answers.canary(names, facts):
                    if canary.sort is sort and (sort, canary.path, canary.op) not in found:
                        found[sort, canary.path, canary.op] = canary
                        some += 1
                if some >= _EACH:
                    break
        return list(found.values())


def undated(found: Sequence[Canary], engine: Engine, who: Principal, facts: Facts) -> list[Canary]:
    """Return the canaries that stay right when exceptions end. engine: the policy without exceptions."""
    answers = Answers(engine, who)
    kept = []
    for one in found:
        others = answers.canary([name for name in one.path.split(b"/") if name], facts)
        if any((one.sort, one.op, one.errno, one.words) == (o.sort, o.op, o.errno, o.words) for o in others):
            kept.append(one)
    return kept


def _some(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    kept: dict[str, Rule] = {}
    for wanted in _WANTED.values():
        fitting = [rule for rule in rules if wanted(rule)]
        step = max(1, len(fitting) // MOST_RULES)
        kept |= {rule.id: rule for rule in fitting[::step][:MOST_RULES]}
    return tuple(kept.values())


_WANTED: Final[dict[Sort, Callable[[Rule], bool]]] = {
    Sort.HIDING: lambda rule: rule.effect is Effect.DENY and Op.SEE in rule.ops,
    Sort.DENIAL: lambda rule: rule.effect is Effect.ALLOW and Op.SEE in rule.ops,
    Sort.REDACTION: lambda rule: rule.effect is Effect.REDACT,
    Sort.PASSTHROUGH: lambda rule: rule.effect is Effect.ALLOW and Op.READ in rule.ops,
}
"""For each sort of canaries, a function that returns True for rules that can cause its answer."""


def _paths(track: Track, sort: Sort) -> Iterator[tuple[bytes, ...]]:
    (side,), compiled = track.sides, track.compiled
    rules = bits(n for n in side.rules if _WANTED[sort](compiled.table.rules[n]))

    everywhere = bool(rules & compiled.everywhere)

    def leads(spot: Spot) -> bool:
        return any(compiled.reach[number] & rules for number, _ in spot.nodes[0]) or everywhere

    # also paths that are hidden because no rule allows the caller to see them
    searches = [leads, *([lambda spot: len(spot.names) < 2] if sort is Sort.HIDING else [])]
    found: list[tuple[str, ...]] = []
    with contextlib.suppress(TooHardError):
        for search in searches:
            found += (spot.names for spot in itertools.islice(Walk([track], search).spots(), MOST_PLACES))
    # Made-up names first: a name that a glob contains is often the name of a directory.
    found.sort(key=lambda names: not is_made_up(names[-1]) if names else True)
    return (spelled((side,), names) for names in found if names)


def _rules(decision: Decision) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match.rule for match in decision.rules if not match.monitor))
