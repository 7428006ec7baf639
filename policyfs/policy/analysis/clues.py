"""Differences between the answers of two policies at a place: a class of paths that all rules treat alike."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.domain import Decision, Facts, FileType, Op, banned
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.findings import Rank, rank_of
from policyfs.policy.analysis.outcomes import (
    Aspect,
    Change,
    Direction,
    attribute_changes,
    changes,
    content_changes,
    required,
    view_change,
)
from policyfs.policy.analysis.partition import Lives
from policyfs.policy.analysis.shapes import Shapes
from policyfs.policy.analysis.subjects import NOTHING
from policyfs.policy.model import Effect, Policy
from policyfs.policy.rules.facts import FILE_TYPES, fixed_facts
from policyfs.policy.rules.profile import Profile, bans
from policyfs.policy.rules.views import Views

Way = tuple[bool, ...]
"""For each of the two policies (old, new), True if the directories above a place hide the place."""

Cause = tuple[int, int]
"""A rule: its policy (0: old, 1: new), and its index among the rules that match at the place."""

HIDERS: Final[Cause] = (-1, 0)
"""The cause that stands for the rules that hide a directory above."""

LEADERS: Final[Cause] = (-1, 1)
"""The cause that stands for the differing rules that decide if a path below, or here, is seen."""

DEFAULTS: Final[Mapping[Cause, str]] = {(-1, 2): "audit", (-1, 3): "audit_denied"}
"""The causes that stand for a changed default of the level of record, each with the key of the default."""

_HIDDEN: Final = Decision(False, errno.ENOENT)
_FILL: Final = int(Op.WRITE | Op.CREATE)
_CAUSES: Final = {
    Aspect.ACCESS: (Effect.DENY, Effect.ALLOW),
    Aspect.ERRNO: (Effect.DENY, Effect.DENY),
    Aspect.REDACTION: (Effect.REDACT, Effect.REDACT),
    Aspect.CONTENT: (Effect.CONTENT, Effect.CONTENT),
    Aspect.QUARANTINE: (Effect.CONTENT, Effect.CONTENT),
    Aspect.KEEP: (Effect.KEEP, Effect.KEEP),
    Aspect.RECORD: tuple(Effect)[:2],
}
"""For each aspect, the effects of the rules that can cause the change: in the old policy, and in the new."""


class Clue(NamedTuple):
    """A difference at every place where rules of the same shapes match. rank: see findings.rank_of."""

    change: Change
    op: Op
    causes: frozenset[Cause]
    ftype: FileType
    facts: Facts
    way: Way
    files: FileClasses
    rank: Rank


class Clues:
    """The differences between two policies at places. Places with rules of equal shapes are compared once.

    A third policy is the new one with the old defaults: it tells which changes of records the defaults cause.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies: Final = (*policies, *_with_old_defaults(*policies))
        self._views: Final = Views()
        self._shapes: Final = Shapes()
        self._known: Final[dict[tuple[object, ...], list[Clue]]] = {}

    @property
    def everywhere(self) -> bool:
        """True if a default has changed, so that any answer can differ."""
        return len(self._policies) > 2

    def between(
        self, lives: tuple[Lives, ...], below: tuple[bool, ...], odd: Mapping[Way, int], *, top: bool
    ) -> list[Clue]:
        """Return the best clue for each sort of difference and each operation.

        lives: the rules at the place, in each policy. below: for each policy, True if the caller could see
        some path below. odd: for each way, how many directories above must have a special owner. top: True
        for the root.
        """
        key = (self._shapes.of(lives), below, tuple(odd.items()), top)
        found = self._known.get(key)
        if found is None:
            look = _Look(self._policies, self._views, lives, below, odd, top=top)
            best: dict[tuple[object, ...], Clue] = {}
            for clue in look.clues():
                sort = (clue.change.direction, clue.change.aspect, clue.causes, clue.op)
                if sort not in best or clue.rank < best[sort].rank:
                    best[sort] = clue
            found = self._known[key] = list(best.values())
        return found


def _with_old_defaults(old: Policy, new: Policy) -> tuple[Policy, ...]:
    """Return the new policy with the old defaults; nothing if these are the same, or an app is absent."""
    alike = replace(new, audit_allowed=old.audit_allowed, audit_denied=old.audit_denied)
    return () if alike == new or NOTHING in (old, new) else (alike,)


class _Look:
    def __init__(
        self,
        policies: Sequence[Policy],
        views: Views,
        lives: tuple[Lives, ...],
        below: tuple[bool, ...],
        odd: Mapping[Way, int],
        *,
        top: bool,
    ) -> None:
        self._views: Final = views
        self._absent: Final = any(policy is NOTHING for policy in policies)
        self._below: Final = below
        self._odd: Final = odd
        self._top: Final = top
        self._profiles: Final = [
            Profile(policy, tuple(live for live, _ in some), top=top)
            for policy, some in zip(policies, (*lives, *lives[1:]), strict=False)
        ]
        self._differing: Final = [
            ((index, at), live)
            for index, some in enumerate(lives)
            for at, (live, watched) in enumerate(some)
            if watched
        ]
        self._files: Final = FileClasses(live for some in lives for live, _ in some)
        self._ways: Final = [way for way in odd if not all(way)]
        self._touched: Final = self._operations()

    def clues(self) -> Iterator[Clue]:
        here = bool(self._differing) or any(len(set(way)) > 1 for way in self._ways)
        here |= len(self._profiles) > 2
        types = FILE_TYPES if here and not self._top else (FileType.DIRECTORY,)
        for ftype in types:
            for facts in self._files.samples(ftype):
                for way in self._ways:
                    yield from self._of_file(ftype, facts, way)
        if not self._top:
            yield from self._of_view()

    def _clue(
        self, change: Change, op: Op, causes: frozenset[Cause], ftype: FileType, facts: Facts, way: Way
    ) -> Clue:
        rank = rank_of(change, op, ftype, facts, self._odd[way])
        return Clue(change, op, causes, ftype, facts, way, self._files, rank)

    def _of_file(self, ftype: FileType, facts: Facts, way: Way) -> Iterator[Clue]:
        seen = [self._answer(index, Op.SEE, ftype, facts, way) for index in (0, 1)]
        appears = seen[0].allowed != seen[1].allowed
        for op in Op:
            if not (appears or op is Op.SEE or int(op | Op.SEE) & self._touched):
                continue
            before, after = (self._answer(index, op, ftype, facts, way) for index in (0, 1))
            for change in (*changes(before, after), *self._of_moved(op, ftype, facts, way)):
                if appears and change.aspect is Aspect.ERRNO:
                    continue  # the errno depends only on whether the path is seen
                if change.aspect is Aspect.RECORD and (any(way) or self._absent):
                    continue  # the rule that hides the directory decides; and without the app nothing does
                causes = self._default_behind(op, change, before, ftype, facts, way)
                causes = causes or self._causes(op, change, before, after, hidden=any(way))
                yield self._clue(change, op, causes, ftype, facts, way)

    def _of_moved(self, op: Op, ftype: FileType, facts: Facts, way: Way) -> Iterator[Change]:
        """Yield the change of requirements on bytes that come by rename, link or attributes."""
        if op not in (Op.CREATE, Op.ATTR) or not self._both(op, ftype, facts, way):
            return
        fills = ftype is FileType.REGULAR
        if self._both(Op.WRITE, ftype, facts, way):
            return  # the requirements are compared for WRITE
        profiles = self._profiles[:2]
        if op is Op.CREATE and fills:
            yield from content_changes(*(required(profile, facts) for profile in profiles))
        elif op is Op.ATTR and not (fills and self._both(Op.CREATE, ftype, facts, way)):
            known = fixed_facts(ftype, facts._replace(kind=None))
            yield from attribute_changes(
                *(
                    banned(live.rule.content for live in profile.lives if bans(live, known))
                    for profile in profiles
                )
            )

    def _operations(self) -> int:
        """Return the operations whose answers can differ because of rules that only one policy has here."""
        touched = int(Op.ALL) if len(self._profiles) > 2 else 0
        for _, live in self._differing:
            touched |= live.ops | (int(Op.WRITE) if live.ops & _FILL else 0)
            touched |= int(Op.CREATE | Op.ATTR) if live.rule.effect is Effect.CONTENT else 0
        return touched

    def _answer(self, index: int, op: Op, ftype: FileType, facts: Facts, way: Way) -> Decision:
        if way[min(index, 1)]:
            return _HIDDEN
        return self._profiles[index].answer(int(op), ftype, facts, below=lambda: self._below[min(index, 1)])

    def _default_behind(
        self, op: Op, change: Change, before: Decision, ftype: FileType, facts: Facts, way: Way
    ) -> frozenset[Cause]:
        """Return the default that changes a level of record; nothing if the rules alone would change it."""
        if change.aspect is not Aspect.RECORD or len(self._profiles) == 2:
            return frozenset()
        after = self._answer(2, op, ftype, facts, way)
        if any(one[:2] == change[:2] for one in changes(before, after)):
            return frozenset()
        key = "audit" if after.allowed and not after.redact else "audit_denied"
        return frozenset(cause for cause, name in DEFAULTS.items() if name == key)

    def _causes(
        self, op: Op, change: Change, before: Decision, after: Decision, *, hidden: bool
    ) -> frozenset[Cause]:
        if hidden:
            return frozenset({HIDERS})
        spoke = {
            match.rule for decision in (before, after) for match in decision.rules if match.op & (op | Op.SEE)
        }
        effects = _CAUSES[change.aspect]
        if change.aspect is Aspect.ACCESS:
            wider = change.direction is Direction.WIDER
            effects = (Effect.DENY, Effect.ALLOW) if wider else (Effect.ALLOW, Effect.DENY)
        for causes in (((effects[0],), (effects[1],)), (effects, effects), (tuple(Effect), tuple(Effect))):
            found = frozenset(
                cause
                for cause, live in self._differing
                if live.rule.id in spoke and live.rule.effect in causes[cause[0]]
            )
            if found:
                return found
        if before.bare or after.bare:
            return frozenset({LEADERS})
        return frozenset(cause for cause, _ in self._differing)

    def _of_view(self) -> Iterator[Clue]:
        change = view_change(*map(self._views.view, self._profiles[:2]))
        way = next((way for way in self._ways if not any(way)), None)
        if change is None or way is None:
            return
        causes = frozenset(
            cause
            for cause, live in self._differing
            if live.rule.effect in (Effect.REDACT, Effect.CONTENT) or live.ops & _FILL
        )
        samples = self._files.samples(FileType.REGULAR)
        for op in (Op.READ, Op.WRITE):
            facts = next((one for one in samples if self._both(op, FileType.REGULAR, one, way)), None)
            if facts is not None:
                yield self._clue(change, op, causes, FileType.REGULAR, facts, way)
                return

    def _both(self, op: Op, ftype: FileType, facts: Facts, way: Way) -> bool:
        return all(self._answer(index, op, ftype, facts, way).allowed for index in (0, 1))
