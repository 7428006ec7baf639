"""Comparison of two policies for one group of callers: every answer that differs, with a sample request."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.domain import Decision, Facts, FileType, Op
from policyfs.policy.analysis.files import GONE, FileClasses
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction, changes, view_change
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.walk import Place, Walk
from policyfs.policy.facts import FILE_TYPES
from policyfs.policy.model import SELF, Effect

_HIDDEN: Final = Decision(False, errno.ENOENT)
_SEE_WORDS: Final = (Effect.ALLOW, Effect.DENY)
_FILL: Final = int(Op.WRITE | Op.CREATE)
_CAUSES: Final = {
    Aspect.ACCESS: (Effect.DENY, Effect.ALLOW),
    Aspect.ERRNO: (Effect.DENY, Effect.DENY),
    Aspect.REDACTION: (Effect.REDACT, Effect.REDACT),
    Aspect.CONTENT: (Effect.CONTENT, Effect.CONTENT),
    Aspect.QUARANTINE: (Effect.CONTENT, Effect.CONTENT),
    Aspect.RECORD: tuple(Effect)[:2],
}
"""The effects of the rules that make a difference of this sort, in the old policy and in the new."""

RuleRef = tuple[str, str]
"""``+``, ``-``, ``~`` or ``=`` (only in the new policy, only in the old, changed, the same), and a rule's id.

A rule that is the same is behind a difference if it is now about other callers: its app has other grants.
"""


class Sample(NamedTuple):
    """A request at a place, not yet in a person's words. way: which sides the directories above hide."""

    place: Place
    op: Op
    ftype: FileType
    facts: Facts
    way: tuple[bool, ...]
    files: FileClasses


class Finding(NamedTuple):
    """One answer that differs. rules: the rules behind it."""

    change: Change
    op: Op
    rules: frozenset[RuleRef]
    sample: Sample


class Comparison:
    """The answers of two policies to one group of callers."""

    def __init__(self, group: Group) -> None:
        self._group: Final = group
        self._sides: Final = group.sides
        self._walk: Final = Walk(group.sides)
        self._watched: Final = _watched(group.sides)
        self._nodes: Final = [
            side.compiled.nodes_of(watched) for side, watched in zip(self._sides, self._watched, strict=True)
        ]
        self._everywhere: Final = any(
            number in watched
            for side, watched in zip(self._sides, self._watched, strict=True)
            for number in side.compiled.table.everywhere()
        )
        self._see: Final = [
            frozenset(number for number in watched if _is_about_seeing(side, number))
            for side, watched in zip(self._sides, self._watched, strict=True)
        ]
        self._rules: Final = [side.compiled.by_id for side in self._sides]
        self._leading: Final[dict[tuple[int, int], frozenset[int]]] = {}

    def findings(self) -> Iterator[Finding]:
        """Yield all differences; each change of one operation by the same rules may come several times.

        Raises TooHardError.
        """
        if not any(self._watched):
            return
        for place in self._walk.places(self._differs_at_or_below):
            if self._differs_at_or_below(place):
                yield from _At(self, place).findings()

    def _differs_at_or_below(self, place: Place) -> bool:
        return (
            self._everywhere
            or any(len(set(way)) > 1 for way in place.hidden)
            or any(
                not nodes.isdisjoint(position.free)
                for nodes, position in zip(self._nodes, place.positions, strict=True)
            )
        )

    # ---- parts for _At

    @property
    def sides(self) -> tuple[Side, ...]:
        """Both sides."""
        return self._sides

    def watched(self, index: int, number: int) -> bool:
        """True if the other policy has no such rule for these callers."""
        return number in self._watched[index]

    def any_about_seeing(self) -> bool:
        """True if some rule that differs can change which directories are bare."""
        return any(self._see)

    def ref(self, index: int, number: int) -> RuleRef:
        """Return the name of a rule of one side, and how the policies differ in it."""
        rules = self._rules[index]
        name = self._sides[index].compiled.table.rules[number].id
        before = self._rules[1 - index].get(name)
        if before is None:
            return "-+"[index], name
        return "=" if before == rules[name] else "~", name

    def leading_refs(self, place: Place) -> frozenset[RuleRef]:
        """Return the rules that differ in what can be seen below a place."""
        found = set()
        for index, position in enumerate(place.positions):
            for number in self._see[index]:
                key = (index, number)
                if key not in self._leading:
                    self._leading[key] = self._sides[index].compiled.nodes_of(frozenset({number}))
                everywhere = number in self._sides[index].compiled.table.everywhere()
                if everywhere or not self._leading[key].isdisjoint(position.free):
                    found.add(self.ref(index, number))
        return frozenset(found)

    def hiding_refs(self, place: Place) -> frozenset[RuleRef]:
        """Return the rules by which directories above hide a place; those that differ, if any does."""
        found: set[RuleRef] = set()
        differing: set[RuleRef] = set()
        at = tuple(side.root for side in self._sides)
        top = True
        for name in place.names:
            for index, (side, position) in enumerate(zip(self._sides, at, strict=True)):
                for live in side.hiding(position, top=top):
                    into = differing if self.watched(index, live.number) else found
                    into.add(self.ref(index, live.number))
            at = tuple(side.step(position, name) for side, position in zip(self._sides, at, strict=True))
            top = False
        return frozenset(differing or found)

    def request(self, sample: Sample) -> Request:
        """Return a sample request in the words of a person."""
        subject, place = self._group.subjects[0], sample.place
        apps = {app.name for side in self._sides for app in side.compiled.engine.policy.apps}
        facts = sample.files.spelled(sample.facts, apps - set(subject.apps))
        owners = place.hidden[sample.way] if place.may_be_hidden else ()
        owners = tuple(GONE if owner == "\0app" else owner for owner in owners)
        path = b"/" + b"/".join(self._walk.spelled(place))
        return Request(subject, sample.op, path, sample.ftype, facts, owners)


def _watched(sides: tuple[Side, ...]) -> tuple[frozenset[int], ...]:
    """Return for each side the rules that the other does not have for these callers."""
    alike = sides[0].caller.app == sides[1].caller.app and sides[0].caller.uid == sides[1].caller.uid
    contents = [{side.compiled.contents[number] for number in side.rules} for side in sides]
    return tuple(
        frozenset(
            number
            for number in side.rules
            if side.compiled.contents[number] not in contents[1 - index]
            or not (alike or _says_the_same_of_all(side.compiled, number))
        )
        for index, side in enumerate(sides)
    )


def _says_the_same_of_all(policy: Compiled, number: int) -> bool:
    """True if a rule means the same whatever the caller's name is."""
    return not policy.captures[number] and SELF not in policy.owners[number]


def _is_about_seeing(side: Side, number: int) -> bool:
    rule = side.compiled.table.rules[number]
    return rule.effect in _SEE_WORDS and bool(rule.ops & Op.SEE) and not rule.monitor


class _At:
    """The comparison at one place."""

    def __init__(self, of: Comparison, place: Place) -> None:
        self._of: Final = of
        self._place: Final = place
        self._profiles: Final = [
            side.profile(position, top=place.top)
            for side, position in zip(of.sides, place.positions, strict=True)
        ]
        self._differing: Final = [
            [live for live in profile.lives if of.watched(index, live.number)]
            for index, profile in enumerate(self._profiles)
        ]
        self._files: Final = FileClasses(live for profile in self._profiles for live in profile.lives)
        self._ways: Final = [way for way in place.hidden if not all(way)]
        self._mixed: Final = any(len(set(way)) > 1 for way in self._ways)
        self._touched: Final = self._operations()

    def findings(self) -> Iterator[Finding]:
        """Yield the differences at this place."""
        here = any(self._differing) or self._mixed
        if not here and (self._place.top or not self._of.any_about_seeing()):
            return
        types = FILE_TYPES if here and not self._place.top else (FileType.DIRECTORY,)
        for ftype in types:
            for facts in self._files.samples(ftype):
                for way in self._ways:
                    yield from self._of_file(ftype, facts, way)
        if self._may_differ_in_view() and not self._place.top:
            yield from self._of_view()

    def _of_file(self, ftype: FileType, facts: Facts, way: tuple[bool, ...]) -> Iterator[Finding]:
        """Yield the differences for one class of files."""
        seen = [self._answer(index, Op.SEE, ftype, facts, way) for index in (0, 1)]
        appears = seen[0].allowed != seen[1].allowed
        for op in Op:
            if not (appears or op is Op.SEE or int(op | Op.SEE) & self._touched):
                continue
            before, after = (self._answer(index, op, ftype, facts, way) for index in (0, 1))
            if before == after:
                continue
            for change in changes(before, after):
                if appears and change.aspect is Aspect.ERRNO:
                    continue  # that follows from what is seen
                rules = self._refs(op, change, before, after, hidden=any(way))
                yield Finding(change, op, rules, Sample(self._place, op, ftype, facts, way, self._files))

    def _operations(self) -> int:
        """Return the operations of the rules that differ here."""
        touched = 0
        for live in (live for lives in self._differing for live in lives):
            touched |= live.ops | (int(Op.WRITE) if live.ops & _FILL else 0)
        return touched

    def _answer(
        self, index: int, op: Op, ftype: FileType, facts: Facts, way: tuple[bool, ...]
    ) -> Decision:
        if way[index]:
            return _HIDDEN
        side, position = self._of.sides[index], self._place.positions[index]
        return self._profiles[index].answer(int(op), ftype, facts, below=lambda: side.below(position))

    def _refs(
        self, op: Op, change: Change, before: Decision, after: Decision, *, hidden: bool
    ) -> frozenset[RuleRef]:
        """Return the rules behind a difference."""
        if hidden:
            return self._of.hiding_refs(self._place)
        spoke = {
            match.rule for decision in (before, after) for match in decision.rules if match.op & (op | Op.SEE)
        }
        effects = _CAUSES[change.aspect]
        if change.aspect is Aspect.ACCESS:
            wider = change.direction is Direction.WIDER
            effects = (Effect.DENY, Effect.ALLOW) if wider else (Effect.ALLOW, Effect.DENY)
        found: frozenset[RuleRef] = frozenset()
        for causes in (((effects[0],), (effects[1],)), (effects, effects), (tuple(Effect), tuple(Effect))):
            found = frozenset(
                self._of.ref(index, live.number)
                for index, lives in enumerate(self._differing)
                for live in lives
                if live.rule.id in spoke and live.rule.effect in causes[index]
            )
            if found:
                return found
        if before.bare or after.bare:
            found = self._of.leading_refs(self._place)
        return found or frozenset(
            self._of.ref(index, live.number) for index, lives in enumerate(self._differing) for live in lives
        )

    def _may_differ_in_view(self) -> bool:
        return any(
            live.rule.effect in (Effect.REDACT, Effect.CONTENT)
            or (live.rule.effect is Effect.ALLOW and live.ops & _FILL)
            for lives in self._differing
            for live in lives
        )

    def _of_view(self) -> Iterator[Finding]:
        views = [
            side.compiled.views.view(profile)
            for side, profile in zip(self._of.sides, self._profiles, strict=True)
        ]
        change = view_change(*views)
        way = next((way for way in self._ways if not any(way)), None)
        if change is None or way is None:
            return
        rules = frozenset(
            self._of.ref(index, live.number)
            for index, lives in enumerate(self._differing)
            for live in lives
            if live.rule.effect in (Effect.REDACT, Effect.CONTENT) or live.ops & _FILL
        )
        samples = self._files.samples(FileType.REGULAR)
        for op in (Op.READ, Op.WRITE):
            facts = next((facts for facts in samples if self._both(op, facts, way)), None)
            if facts is not None:
                sample = Sample(self._place, op, FileType.REGULAR, facts, way, self._files)
                yield Finding(change, op, rules, sample)
                return

    def _both(self, op: Op, facts: Facts, way: tuple[bool, ...]) -> bool:
        return all(self._answer(index, op, FileType.REGULAR, facts, way).allowed for index in (0, 1))
