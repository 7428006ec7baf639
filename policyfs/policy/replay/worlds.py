"""Worlds: all possible combinations of the facts that a trail has not recorded of a request.

A change that is the same in every world is certain. Otherwise it depends on facts that are not on the trail.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final

from policyfs.domain import FIXED_KINDS, NO_FACTS, REDACTIONS, Facts, FileType, Need, Op, banned
from policyfs.policy.replay.party import Party, Place
from policyfs.policy.replay.recorded import ALL_TYPES, Demand, World
from policyfs.policy.rules.table import Live, sample_facts_of

MOST: Final = 20_000
"""Maximum number of worlds of one request. With more, the change of its answer counts as unknown."""


class TooManyError(Exception):
    """The error if a request has more than MOST worlds (combinations of unrecorded facts)."""


UNTOLD: Final = {
    "ops": "the access that was asked for",
    "ftype": "whether the path is a file or a directory",
    "kind": "the file's content kind",
    "owner": "the file's owner",
    "free_of": "which data the file contains",
    "replaced": "which file had the new name",
    "hidden": "the owner of a directory above",
    "empty": "whether the file was empty",
}
"""Words for the facts that a trail can lack, by the names of the fields of World and Facts."""


def worlds(
    demand: Demand, kind: str | None, *, empty: bool | None, parties: Sequence[Party], places: Sequence[Place]
) -> list[World]:
    """Return the worlds of a request. kind, empty: the recorded facts, or None. Raise TooManyError."""
    found: list[World] = []
    hidings = list(itertools.product(*(_hidings(*pair) for pair in zip(parties, places, strict=True))))
    emptiness: tuple[bool, ...] = (False,)
    if demand.opens and not demand.empties and demand.ops[0] & Op.WRITE:
        emptiness = (True, False) if empty is None else (empty,)
    lives = [live for pair in zip(parties, places, strict=True) for live in pair[0].lives(pair[1])]
    for ops, ftype in itertools.product(demand.ops, demand.types):
        need = _need(demand, ops, ftype, parties, places)
        known = list(_facts(demand, ftype, kind, need, lives))
        if need & Need.OWNER:  # perhaps the caller owns the file, even if no rule asks for owners
            own = {party.who.app for party in parties if party.who is not None and party.who.app}
            more = [facts._replace(owner=app) for facts in known for app in own]
            known = list(dict.fromkeys([*known, *more]))
        there = list(_replaced(demand, lives, parties, places))
        size = len(known) * len(there) * len(hidings) * len(emptiness)
        if len(found) + size > MOST:
            raise TooManyError
        found += [
            World(ops, ftype, *rest) for rest in itertools.product(known, there, hidings, emptiness)
        ]  # fmt: skip
    return found


def _hidings(party: Party, place: Place) -> tuple[bool, ...]:
    return (False, True) if party.owner_matters_above(place) else (False,)


def _need(
    demand: Demand, ops: Op, ftype: FileType, parties: Sequence[Party], places: Sequence[Place]
) -> Need:
    need = Need.NOTHING
    for party, place in zip(parties, places, strict=True):
        need |= party.need(demand, ops, ftype, place)
    return need


def _facts(
    demand: Demand, ftype: FileType, kind: str | None, need: Need, lives: Sequence[Live]
) -> Iterator[Facts]:
    if demand.creates:  # the file's owner is the caller, and the file's kind is not known yet
        yield Facts(FIXED_KINDS.get(ftype), None)
        return
    seen: dict[Facts, None] = {}
    words = _words(lives) if demand.move and ftype is FileType.REGULAR else frozenset()
    for facts in sample_facts_of(lives, ftype, unknown=True) if need else (NO_FACTS,):
        found = FIXED_KINDS.get(ftype) or (kind if kind is not None else facts.kind)
        if not need & Need.KIND and kind is None:
            found = FIXED_KINDS.get(ftype)
        owner = facts.owner if need & Need.OWNER else None
        for free_of in (frozenset(), words) if words else (frozenset(),):
            seen[Facts(found, owner, free_of)] = None
    yield from seen


def _words(lives: Iterable[Live]) -> frozenset[str]:
    """Return all words for data if a rule forbids data in written bytes, else none."""
    return REDACTIONS if any(banned((live.rule.content,)) for live in lives) else frozenset()


def _replaced(
    demand: Demand, lives: Sequence[Live], parties: Sequence[Party], places: Sequence[Place]
) -> Iterator[tuple[FileType, Facts] | None]:
    """Yield the possible objects at the new name of a rename, with their facts. None: no object."""
    if demand.move not in {"rename", "exchange"}:
        yield None
        return
    if demand.move == "rename":
        yield None
    for ftype in ALL_TYPES:
        need = _need(demand, Op.SEE | Op.DELETE, ftype, parties, places)
        plain = Demand((Op.SEE | Op.DELETE,), (ftype,))
        for facts in _facts(plain, ftype, None, need, lives):
            yield ftype, facts


def untold(found: Sequence[World], answers: Sequence[object]) -> tuple[str, ...]:
    """Return words for the facts that are not recorded, and on which the answers in the worlds depend."""
    fields: dict[str, list[Hashable]] = {
        "ops": [world.ops for world in found],
        "ftype": [world.ftype for world in found],
        "kind": [world.facts.kind if world.ftype is FileType.REGULAR else None for world in found],
        "owner": [world.facts.owner for world in found],
        "free_of": [world.facts.free_of for world in found],
        "replaced": [world.replaced for world in found],
        "hidden": [world.hidden for world in found],
        "empty": [world.empty for world in found],
    }
    columns = list(fields.values())
    named = [
        UNTOLD[name]
        for at, name in enumerate(fields)
        if _decides([column for number, column in enumerate(columns) if number != at], answers)
    ]
    return tuple(named or [UNTOLD[name] for name, column in fields.items() if len(set(column)) > 1])


def _decides(others: Sequence[Sequence[object]], answers: Sequence[object]) -> bool:
    known: dict[tuple[object, ...], object] = {}
    rows = zip(zip(*others, strict=True), answers, strict=True)
    return any(known.setdefault(row, answer) != answer for row, answer in rows)
