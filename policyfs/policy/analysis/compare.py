"""Comparison of two policies for one group of callers: every answer that differs, with a sample request."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from policyfs.domain import Decision, Facts, FileType, Op
from policyfs.policy.analysis.files import GONE, FileClasses
from policyfs.policy.analysis.findings import Finding, RuleRef, Sample, best_of
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction, changes, view_change
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.sides import Compiled, Side, bits, numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.walk import Place, Walk
from policyfs.policy.automaton import Position
from policyfs.policy.facts import FILE_TYPES
from policyfs.policy.model import SELF, Effect
from policyfs.policy.table import Live

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

Branch = tuple[tuple[object, ...], ...]
"""What the answers in a branch below the root depend on, for each side."""


Known = dict[tuple[object, ...], list[Finding]]
"""Differences at a place by all that they depend on. Their samples name the first such place."""


class Comparison:
    """The answers of two policies to one group of callers."""

    def __init__(self, group: Group, known: Known | None = None) -> None:
        """known: the differences at places that look alike, found for any group of the same policies."""
        self._group: Final = group
        self.known: Final[Known] = {} if known is None else known
        self._sides: Final = group.sides
        self._walk: Final = Walk(group.sides)
        self._watched: Final = _watched(group.sides)
        self._bits: Final = [bits(watched) for watched in self._watched]
        self._everywhere: Final = any(
            number in watched
            for side, watched in zip(self._sides, self._watched, strict=True)
            for number in side.compiled.table.everywhere()
        )
        self._see: Final = [
            bits(number for number in watched if _is_about_seeing(side, number))
            for side, watched in zip(self._sides, self._watched, strict=True)
        ]
        self._rules: Final = [side.compiled.by_id for side in self._sides]

    def findings(self, start: Place | None = None) -> Iterator[Finding]:
        """Yield all differences; each change of one operation by the same rules may come several times.

        start: only those at this place and below. Raises TooHardError.
        """
        if not any(self._watched):
            return
        for place in self._walk.places(self._differs_at_or_below, start):
            if self._differs_at_or_below(place):
                yield from _At(self, place).findings()

    def at_root(self) -> Iterator[Finding]:
        """Yield the differences at the root itself."""
        if any(self._watched):
            yield from _At(self, self._walk.root()).findings()

    def branches(self) -> dict[Branch, Place]:
        """Return the places below the root, each with a value that is equal for callers whom the rules treat
        alike there and below. Both policies then answer them alike in that branch.
        """
        root = self._walk.root()
        if not any(self._watched) or not self._differs_at_or_below(root):
            return {}
        found: dict[Branch, Place] = {}
        for place in self._walk.children(root):
            found.setdefault(tuple(map(self._branch, (0, 1), place.positions)), place)
        return found

    def _branch(self, index: int, position: Position) -> tuple[object, ...]:
        """Return all of the caller and the position that answers there and below depend on, on one side."""
        side = self._sides[index]
        alive = side.alive(position)
        policy, caller = side.compiled, side.caller
        numbers = list(numbers_of(alive))
        captures = {name for number in numbers for name in policy.captures[number]}
        owners = {owner for number in numbers for owner in policy.owners[number]}
        named = "app" in captures or SELF in owners or caller.app in owners
        return (
            id(policy),
            position.free,
            alive,
            alive & self._bits[index],
            caller.app is None,
            caller.app if named else None,
            caller.uid if "uid" in captures else None,
        )

    def _differs_at_or_below(self, place: Place) -> bool:
        return (
            self._everywhere
            or any(len(set(way)) > 1 for way in place.hidden)
            or any(
                side.alive(position) & watched
                for side, position, watched in zip(self._sides, place.positions, self._bits, strict=True)
            )
        )

    # ---- parts for _At

    def watched_among(self, index: int, lives: tuple[Live, ...]) -> int:
        """Return those of some live rules that the other policy does not have, as bits."""
        return bits(live.number for live in lives) & self._bits[index]

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
        return frozenset(
            self.ref(index, number)
            for index, position in enumerate(place.positions)
            for number in numbers_of(self._sides[index].alive(position) & self._see[index])
        )

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
        """Yield the differences at this place; where another place looked alike, the best of each sort."""
        if self._place.may_be_hidden:
            yield from self._findings()  # by names and owners of the directories above, too
            return
        key = self._key()
        known = self._of.known.get(key)
        if known is None:
            best = best_of(self._findings())
            known = self._of.known[key] = [one for by_op in best.values() for _, one in by_op.values()]
        for finding in known:
            yield finding._replace(sample=finding.sample._replace(place=self._place))

    def _key(self) -> tuple[object, ...]:
        """Return all that the differences depend on, at a place that nothing hides."""
        of, place, lives = self._of, self._place, [profile.lives for profile in self._profiles]
        below = [side.below(at) for side, at in zip(of.sides, place.positions, strict=True)]
        return (
            *(id(side.compiled) for side in of.sides),
            *lives,
            *(of.watched_among(index, some) for index, some in enumerate(lives)),
            *below,
            place.top,
            of.leading_refs(place) if of.any_about_seeing() and any(below) else None,
            of.any_about_seeing(),
        )

    def _findings(self) -> Iterator[Finding]:
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
