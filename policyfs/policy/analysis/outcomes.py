"""Comparison of two answers to one request: the parts that changed, and whether more or less is allowed."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from policyfs.domain import DENY_UNKNOWN, Decision, Facts, Keep, View, banned, hides_at_least, to_clean
from policyfs.errors import errno_name
from policyfs.policy.rules.profile import Profile


class Direction(enum.Enum):
    """The direction of a change. OTHER: the new policy allows neither more nor less."""

    WIDER = "wider"
    NARROWER = "narrower"
    OTHER = "other"


class Aspect(enum.Enum):
    """The part of an answer that changed."""

    ACCESS = "access"
    REDACTION = "redaction"
    CONTENT = "content"
    RECORD = "record"
    ERRNO = "errno"
    QUARANTINE = "quarantine"
    KEEP = "keep"
    IO = "io"


class Change(NamedTuple):
    """One part of an answer that changed, as text in the old policy and in the new."""

    direction: Direction
    aspect: Aspect
    before: str
    after: str


def changes(before: Decision, after: Decision) -> Iterator[Change]:
    """Yield the differences between two answers."""
    if before.allowed != after.allowed:
        direction = Direction.WIDER if after.allowed else Direction.NARROWER
        yield Change(direction, Aspect.ACCESS, access(before), access(after))
        return
    if not before.allowed:
        if before.errno != after.errno:
            yield Change(Direction.OTHER, Aspect.ERRNO, access(before), access(after))
        if before.audit != after.audit:
            yield _record(before, after)
        return
    old, new = before.redact, after.redact
    redacts = _direction(hides_at_least(new, old), hides_at_least(old, new))
    if redacts is not None:
        yield Change(redacts, Aspect.REDACTION, redaction(old), redaction(new))
    yield from content_changes(frozenset(before.content), frozenset(after.content))
    if before.quarantine != after.quarantine:
        kept = ("refused files are lost", "refused files are kept")
        told = kept[before.quarantine], kept[after.quarantine]
        yield Change(Direction.OTHER, Aspect.QUARANTINE, *told)
    if before.keep != after.keep:
        old_s, new_s = (0 if one.keep is None else one.keep.age_s for one in (before, after))
        wider = new_s < old_s or (new_s == old_s and not (after.keep and after.keep.strict))
        direction = Direction.WIDER if wider else Direction.NARROWER
        yield Change(direction, Aspect.KEEP, keeping(before.keep), keeping(after.keep))
    # redaction itself raises the level, and its end lowers the level: that is no change of the record
    weaker = bool(after.redact) and after.audit < before.audit
    if weaker or (before.audit != after.audit and redacts is None):
        yield _record(before, after)


def content_changes(
    required: frozenset[frozenset[str]], requires: frozenset[frozenset[str]]
) -> Iterator[Change]:
    """Yield the difference between the old and the new content requirements, if there is one."""
    direction = _direction(_as_strict(requires, required), _as_strict(required, requires))
    if direction is not None:
        yield Change(direction, Aspect.CONTENT, content(required), content(requires))


def required(profile: Profile, facts: Facts) -> frozenset[frozenset[str]]:
    """Return what the bytes must be that a rename or link brings to a path."""
    return frozenset(live.rule.content for live in profile.content(facts))


def attribute_changes(banned: Collection[str], bans: Collection[str]) -> Iterator[Change]:
    """Yield the difference between the words that are forbidden in attributes: whether there are some."""
    if bool(banned) != bool(bans):
        direction = Direction.WIDER if banned else Direction.NARROWER
        texts = ("no user.* attributes" if one else "any user.* attributes" for one in (banned, bans))
        yield Change(direction, Aspect.CONTENT, *texts)


def _record(before: Decision, after: Decision) -> Change:
    direction = Direction.WIDER if after.audit < before.audit else Direction.NARROWER
    return Change(direction, Aspect.RECORD, *(f"audit: {one.audit.name.lower()}" for one in (before, after)))


def view_change(before: View, after: View) -> Change | None:
    """Return the difference between the views of a file in two policies, or None."""
    sides = [(view.redact, _of_no(view.bans), to_clean(view.bans)) for view in (before, after)]
    if before.checked == after.checked and all(
        hides_at_least(old, new) and hides_at_least(new, old) for old, new in zip(*sides, strict=True)
    ):
        return None
    return Change(Direction.OTHER, Aspect.IO, way_of(before), way_of(after))


def way_of(view: View) -> str:
    """Return a name for a view in reports: how the bytes of a file get to the app."""
    return "raw (passthrough)" if view.raw else view.label


def _direction(at_least: bool, at_most: bool) -> Direction | None:
    """Return the direction by two comparisons: whether the new policy asks at least, and at most, as much.
    None: it asks the same. If neither is certain, the direction is WIDER, to be safe."""
    if at_least:
        return None if at_most else Direction.NARROWER
    return Direction.WIDER


def _as_strict(ones: Iterable[frozenset[str]], others: Iterable[frozenset[str]]) -> bool:
    return all(any(_implies(one, other) for one in ones) for other in others)


def _implies(one: frozenset[str], other: frozenset[str]) -> bool:
    words, asked = banned((one,)), banned((other,))
    if bool(words) != bool(asked):
        return False
    if asked:
        kinds = frozenset(pattern for pattern in one if not banned((frozenset({pattern}),)))
        as_clean = hides_at_least(to_clean(words), to_clean(asked))
        return as_clean and hides_at_least(_of_no(words), _of_no(asked)) and kinds <= other
    return all(
        pattern in other or f"{pattern.partition('/')[0]}/*" in other or "*/*" in other for pattern in one
    )


def _of_no(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if word.removeprefix("clean ") == word)


def access(decision: Decision) -> str:
    """Return a text for a decision: the errno of a denial, or "allowed" and the redaction."""
    if not decision.allowed:
        return errno_name(decision.errno)
    return f"allowed, {redaction(decision.redact)}" if decision.redact else "allowed"


def redaction(words: frozenset[str]) -> str:
    """Return a text with the words of the metadata that redaction removes."""
    named = sorted(words - {DENY_UNKNOWN})
    told = f"{', '.join(named)} removed" if named else "unchanged bytes"
    return f"{told}, {DENY_UNKNOWN}" if DENY_UNKNOWN in words else told


def keeping(keep: Keep | None) -> str:
    """Return a text for the requirement to keep what is removed or overwritten."""
    return "what is removed or overwritten is lost" if keep is None else keep.words


def content(requirements: Iterable[frozenset[str]]) -> str:
    """Return a text with the content that written files must have."""
    told = sorted(" or ".join(sorted(kinds)) for kinds in requirements)
    return f"only {' and '.join(told)}" if told else "any content"
