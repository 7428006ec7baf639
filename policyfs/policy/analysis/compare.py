"""Comparison of two policies for groups of callers. It finds each different answer, with a sample request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.domain import OWNER_NONE
from policyfs.policy.analysis.clues import DEFAULTS, HIDERS, LEADERS, Cause, Clue, Clues
from policyfs.policy.analysis.findings import DEFAULT, Finding, RuleRef
from policyfs.policy.analysis.partition import Part
from policyfs.policy.analysis.samples import Sample, Samples, is_made_up
from policyfs.policy.analysis.sides import Compiled, Side, numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.tracks import Callers, Track
from policyfs.policy.analysis.walk import MAX_JOINT_PLACES, Spot, Walk
from policyfs.policy.model import SELF
from policyfs.policy.rules.table import decides_sight


class Comparison:
    """The answers of two policies to groups of callers."""

    def __init__(self, groups: Sequence[Group], most: int = MAX_JOINT_PLACES) -> None:
        """Take groups of callers of the same pair of policies. most: see MAX_JOINT_PLACES."""
        self.groups: Final = groups
        self.samples: Final = Samples(groups)
        watched = _watched([group.sides for group in groups])
        self._tracks: Final = tuple(
            Track([group.sides[index] for group in groups], [some[index] for some in watched])
            for index in (0, 1)
        )
        self._compiled: Final = [track.compiled for track in self._tracks]
        self._walk: Final = Walk(self._tracks, self._differing, most)
        self._clues: Final = Clues([one.engine.policy for one in self._compiled])
        self._refs: Final[dict[tuple[int, int], RuleRef]] = {}

    def findings(self) -> Iterator[Finding]:
        """Yield all differences, some several times with other requests. Raise TooHardError."""
        for spot in self._walk.spots():
            for part in self._walk.parts(spot):
                yield from self._at(spot, part)

    def confirmed(self, finding: Finding, caller: int) -> bool:
        """Return True if the engines of both policies give answers to the sample that differ as it says."""
        request = self.samples.request(finding.sample, caller)
        return finding.change in request.changes(*(one.engine for one in self._compiled))

    def _differing(self, spot: Spot) -> Callers:
        if spot.mixed or self._clues.everywhere:
            return spot.callers
        found = 0
        for track, nodes in zip(self._tracks, spot.nodes, strict=True):
            found |= track.leading(nodes, track.watched)
        return found & spot.callers

    def _at(self, spot: Spot, part: Part) -> Iterator[Finding]:
        here = spot.mixed or self._clues.everywhere
        here = here or any(watched for lives in part.lives for _, watched in lives)
        if spot.top and not here:
            return
        below = [
            track.below(nodes, part.callers) for track, nodes in zip(self._tracks, spot.nodes, strict=True)
        ]
        odd = _odd(spot)
        for bare in ((True, True), (True, False), (False, True), (False, False)):
            callers = part.callers
            for seen, on in zip(below, bare, strict=True):
                callers &= seen if on else ~seen
            if callers and (here or bare[0] != bare[1]):
                for clue in self._clues.between(part.lives, bare, odd, top=spot.top):
                    yield from self._found(spot, part, callers, clue)

    def _found(self, spot: Spot, part: Part, callers: Callers, clue: Clue) -> Iterator[Finding]:
        """Yield findings for one clue: one for each set of rules that cause it."""
        sample = Sample(spot, clue.op, clue.ftype, clue.facts, clue.way, clue.files)
        names = spot.names
        special = [not is_made_up(name) for name in names]
        rank = (*clue.rank, any(special[-1:]), len(names), sum(special))
        by_refs: dict[frozenset[RuleRef], Callers] = {}
        if LEADERS in clue.causes:
            for caller in numbers_of(callers):
                refs = self._leading_refs(spot, caller) or self._differing_refs(part)
                by_refs[refs] = by_refs.get(refs, 0) | 1 << caller
        elif clue.causes <= DEFAULTS.keys():
            by_refs[frozenset((DEFAULT, DEFAULTS[cause]) for cause in clue.causes)] = callers
        elif HIDERS in clue.causes:
            by_refs[self._hiding_refs(spot, callers)] = callers
        else:
            by_refs[frozenset(self._ref_of(part, cause) for cause in clue.causes)] = callers
        for refs, who in by_refs.items():
            yield Finding(clue.change, clue.op, refs, sample, who, rank)

    # ---- rules behind a difference

    def _ref(self, index: int, number: int) -> RuleRef:
        """Return a rule's id with its sign (RuleRef). index: the policy (0: old, 1: new)."""
        found = self._refs.get((index, number))
        if found is None:
            name = self._compiled[index].table.rules[number].id
            own, other = self._compiled[index].by_id, self._compiled[1 - index].by_id
            sign = "-+"[index] if name not in other else "=" if own[name] == other[name] else "~"
            found = self._refs[index, number] = sign, name
        return found

    def _ref_of(self, part: Part, cause: Cause) -> RuleRef:
        index, at = cause
        return self._ref(index, part.lives[index][at][0].number)

    def _differing_refs(self, part: Part) -> frozenset[RuleRef]:
        return frozenset(
            self._ref(index, live.number)
            for index, lives in enumerate(part.lives)
            for live, watched in lives
            if watched
        )

    def _leading_refs(self, spot: Spot, caller: int) -> frozenset[RuleRef]:
        return frozenset(
            self._ref(index, number)
            for index, (track, nodes) in enumerate(zip(self._tracks, spot.nodes, strict=True))
            for number in numbers_of(track.compiled.alive([n for n, who in nodes if who >> caller & 1]))
            if track.watched.by_rule[number] >> caller & 1
            if decides_sight(track.compiled.table.rules[number])
        )

    def _hiding_refs(self, spot: Spot, callers: Callers) -> frozenset[RuleRef]:
        """Return the rules that hide a directory above: if some differ, only those."""
        marks = [track.watched.by_rule for track in self._tracks]
        differing = [(index, number) for index, number in spot.hiders if marks[index][number] & callers]
        return frozenset(self._ref(index, number) for index, number in differing or spot.hiders)


def _odd(spot: Spot) -> dict[tuple[bool, ...], int]:
    """Return, for each key of spot.hidden, how many directories above must have a special owner."""
    if not spot.may_be_hidden:
        return dict.fromkeys(spot.hidden, 0)
    return {way: sum(owner != OWNER_NONE for owner in owners) for way, owners in spot.hidden.items()}


def _watched(groups: Sequence[tuple[Side, ...]]) -> list[tuple[frozenset[int], ...]]:
    same: dict[tuple[object, ...], int] = {}
    contents = [
        [same.setdefault(content, len(same)) for content in side.compiled.contents] for side in groups[0]
    ]
    found = []
    for sides in groups:
        alike = sides[0].caller.app == sides[1].caller.app and sides[0].caller.uid == sides[1].caller.uid
        said = [{contents[index][number] for number in side.rules} for index, side in enumerate(sides)]
        found.append(
            tuple(
                frozenset(
                    number
                    for number in side.rules
                    if contents[index][number] not in said[1 - index]
                    or not (alike or _says_the_same_of_all(side.compiled, number))
                )
                for index, side in enumerate(sides)
            )
        )
    return found


def _says_the_same_of_all(policy: Compiled, number: int) -> bool:
    return not policy.captures[number] and SELF not in policy.owners[number]
