"""Answers of one policy to the caller of a recorded request, for a world (worlds.py)."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, OWNER_NONE, Decision, Facts, FileType, Need, Op, Principal, RuleMatch
from policyfs.policy.decide import End, Engine
from policyfs.policy.explain.explain import open_refusal
from policyfs.policy.moves.losses import rules_that_hide
from policyfs.policy.replay.recorded import Demand, World
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Live

REFUSED: Final = "refused"
"""The effect, in reports, of a redact rule that makes an open or a rename fail."""

_HIDDEN: Final = Decision(False, errno.ENOENT)
_OPS: Final = (Op.READ, Op.WRITE, Op.CREATE, Op.DELETE, Op.ATTR)


class Place(NamedTuple):
    """The path states of a request in one policy. new: of a rename or link. beside: True in one directory."""

    state: PathState
    new: PathState | None
    beside: bool


class Party:
    """A policy's engine, and the caller of a recorded request. who: None if the policy lacks the app."""

    def __init__(self, engine: Engine, who: Principal | None) -> None:
        self.engine: Final = engine
        self.who: Final = who

    def lives(self, place: Place) -> Iterator[Live]:
        """Yield the rules that can match at the paths of the request."""
        for state in filter(None, (place.state, place.new)):
            if self.who is not None:
                yield from self.engine.profile(self.who, state).lives

    def owner_matters_above(self, place: Place) -> bool:
        """Return True if the owners of directories above can hide one of the paths from this caller."""
        who = self.who
        return who is not None and any(
            self.engine.profile(who, state).hiding_maybe for state in filter(None, (place.state, place.new))
        )

    def is_free(self, place: Place) -> bool:
        """Return True if a mount with --posix lets the caller make fifos, sockets and devices at the path."""
        return self.who is not None and self.engine.unrestricted(self.who, place.state)

    def reasons(self, place: Place) -> tuple[object, ...]:
        """Return the properties of the paths by which a mount can refuse a request that the rules allow."""
        who, engine = self.who, self.engine
        if who is None:
            return ()
        states = [state for state in (place.state, place.new) if state is not None]
        found: list[object] = [
            (engine.view(who, state).label, engine.bans(who, state, ftype, NO_FACTS))
            for state in states
            for ftype in (FileType.REGULAR, FileType.DIRECTORY)
        ]
        if place.new is not None:
            beside = place.beside
            found.append(
                (
                    engine.gives_more(who, place.state, place.new, FileType.REGULAR, same_directory=beside),
                    engine.asks_more(place.state, place.new),
                    engine.asks_more(place.new, place.state),
                )
            )
        return tuple(found)

    def need(self, demand: Demand, ops: Op, ftype: FileType, place: Place) -> Need:
        """Return the facts on which the answer to the request can depend."""
        who, engine = self.who, self.engine
        if who is None:
            return Need.NOTHING
        if place.new is not None:
            need = engine.needs_move(who, place.state, place.new, ftype)
            for state in (place.state, place.new):
                for op in _OPS:
                    need |= engine.needs(who, Op.SEE | op, state, ftype)
            return need
        need = engine.needs(who, ops, place.state, ftype)
        if demand.opens and ftype is FileType.REGULAR and engine.view(who, place.state).redact:
            need |= engine.needs(who, Op.SEE | Op.READ, place.state, ftype) | Need.OWNER
        return need

    def answer(
        self, demand: Demand, world: World, place: Place, *, hidden: bool, told_kind: bool
    ) -> Decision:
        """Return the answer of this policy in a world, for an open with the conditions of redaction.

        hidden: True if a directory above hides the path. told_kind: True if the trail has the kind: otherwise
        the world's stands for many, of which policyfs can perhaps redact some.
        """
        if hidden or self.who is None:
            return _HIDDEN
        facts = world.facts
        if demand.creates:
            facts = facts._replace(owner=self.who.app or OWNER_NONE)
        if demand.move:
            return self._moved(self.who, demand, world, facts, place)
        if not demand.creates:  # as in a mount, facts that make no difference stay unknown
            need = self.engine.needs(self.who, world.ops, place.state, world.ftype)
            kind = facts.kind if need & Need.KIND else None
            facts = Facts(kind, facts.owner if need & Need.OWNER else None)
        decision = self.engine.decide(self.who, world.ops, place.state, world.ftype, facts)
        if decision.allowed and demand.opens:
            if told_kind and not demand.creates and open_refusal(decision, world.facts.kind) is not None:
                return _refused(decision)
            return self._opened(self.who, demand, world, decision, place)
        return decision

    def _moved(self, who: Principal, demand: Demand, world: World, facts: Facts, place: Place) -> Decision:
        if place.new is None:
            return _HIDDEN
        old, new = (End(state, world.ftype, facts) for state in (place.state, place.new))
        if demand.move == "link":
            return self.engine.link(who, old, new, same_directory=place.beside)
        replaced = None if world.replaced is None else End(place.new, *world.replaced)
        answer = self.engine.rename(
            who, old, new, replaced, demand.move == "exchange", same_directory=place.beside
        )
        return replace(answer, rules=_named(answer.rules)) if rules_that_hide(answer) else answer

    def _opened(
        self, who: Principal, demand: Demand, world: World, decision: Decision, place: Place
    ) -> Decision:
        """Return the answer to an open that the rules allow. A redacted file opens for writing if the open
        empties it, it is empty, or the caller owns it."""
        if not world.ops & Op.WRITE or demand.creates or demand.empties or world.empty:
            return decision
        owner = world.facts.owner
        if owner is not None and owner == who.app:
            return decision
        view = self.engine.view(who, place.state)
        if not view.redact:
            return decision
        asked = Facts(None, owner)
        read = self.engine.decide(who, Op.SEE | Op.READ, place.state, FileType.REGULAR, asked)
        return _refused(decision) if read.redact or not read.allowed else decision


def _refused(decision: Decision) -> Decision:
    """Return the refusal of an open that the rules allow, but that fails because of redaction."""
    rules = tuple(match for match in decision.rules if match.effect == "redact")
    return Decision(False, errno.EACCES, _named(rules), decision.audit)


def _named(rules: Sequence[RuleMatch]) -> tuple[RuleMatch, ...]:
    return tuple(replace(match, effect=REFUSED) if match.effect == "redact" else match for match in rules)
