"""Sample requests at a class of paths, and their form in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.files import GONE, OWN, FileClasses
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.sides import Side
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.analysis.walk import Spot
from policyfs.policy.globs.names import bytes_of

_NICE: Final = ("x", "y", "other", "q", "Z", "xyz", "new-name")


class Sample(NamedTuple):
    """A sample request at a class of paths. way: for each policy, True if directories above hide the path."""

    spot: Spot
    op: Op
    ftype: FileType
    facts: Facts
    way: tuple[bool, ...]
    files: FileClasses


class Samples:
    """Converter of sample requests to the form for messages. groups: the callers of the requests."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups: Final = groups
        policies = {side.compiled for group in groups for side in group.sides}
        self._apps: Final = {app.name for one in policies for app in one.engine.policy.apps}
        self._spelled: Final[dict[tuple[int, tuple[str, ...]], bytes]] = {}

    def request(self, sample: Sample, caller: int) -> Request:
        """Return a sample request in the form for messages. caller: the index of the caller's group."""
        group, spot = self._groups[caller], sample.spot
        subject = group.subjects[0]
        own = next((app for app in subject.apps if app is not None), None)
        facts = sample.files.spelled(sample.facts, self._apps - set(subject.apps), own)
        owners = spot.hidden[sample.way] if spot.may_be_hidden else ()
        owners = tuple({"\0app": GONE, OWN: own}.get(owner or "", owner) for owner in owners)
        key = caller, spot.names
        path = self._spelled.get(key)
        if path is None:
            path = b"/" + b"/".join(spelled(group.sides, spot.names))
            self._spelled[key] = path
        return Request(subject, sample.op, path, sample.ftype, facts, owners)


def spelled(sides: Sequence[Side], names: Iterable[str]) -> tuple[bytes, ...]:
    """Return the names of a path as a person would write them. sides: one caller, in each policy."""
    at = [side.root for side in sides]
    found = []
    for name in names:
        child = [side.step(position, name) for side, position in zip(sides, at, strict=True)]
        if is_made_up(name):
            nice = (name.translate({ord(char): one for char in name if _odd(char)}) for one in _NICE)
            alike = (
                one
                for one in nice
                if [side.step(position, one) for side, position in zip(sides, at, strict=True)] == child
            )
            name = next(alike, name)
        found.append(bytes_of(name))
        at = child
    return tuple(found)


def _odd(char: str) -> bool:
    return "\ue000" <= char <= "\uf8ff"


def is_made_up(name: str) -> bool:
    """Return True if a sample name is made up: it stands for names that no glob contains literally."""
    return any(map(_odd, name))
