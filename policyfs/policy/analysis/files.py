"""Classes of files that rules treat alike, each with a sample: the facts of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from policyfs.domain import FIXED_KINDS, OWNER_NONE, Facts, FileType
from policyfs.policy.rules.facts import Kinds, sample_facts
from policyfs.policy.rules.table import Live

_REAL_KINDS: Final = ("image/jpeg", "video/mp4", "audio/mpeg", "text/plain", "application/octet-stream")
_OTHERS: Final = ("x-other", "x-another")
OWN: Final = "\0self"
"""Placeholder for an owner: the calling app itself. So one sample serves callers with different names."""

GONE: Final = "former-app"
"""The name of an owner that is no app of the policy, for samples."""


class FileClasses:
    """The classes of files (kinds and owners) that the conditions of some rules distinguish."""

    def __init__(self, lives: Iterable[Live]) -> None:
        kinds: dict[frozenset[str], Kinds] = {}
        owners: dict[frozenset[str], None] = {}
        for live in lives:
            asked = [condition.kinds for condition in live.conditions()]
            for one in (live.raw if live.raw.names else None, *asked):
                if one is not None:
                    kinds.setdefault(one.names, one)
            owners |= dict.fromkeys(c.owners for c in live.conditions() if c.owners is not None)
        self._kinds: Final = tuple(kinds.values())
        self._owners: Final = tuple(owners)

    @property
    def one(self) -> bool:
        return not self._kinds and not self._owners

    def kind_class(self, kind: str | None) -> tuple[object, ...]:
        """Return a value that is equal for kinds that no condition distinguishes."""
        return tuple(kinds.hold(kind) for kinds in self._kinds)

    def owner_class(self, owner: str | None) -> object:
        """Return a value that is equal for owners that no condition distinguishes."""
        if owner is None:
            return None if self._owners else ()
        return tuple(owner in owners for owners in self._owners)

    def samples(self, ftype: FileType, *, unknown: bool = True) -> list[Facts]:
        """Return the facts of one file of each class, ordinary ones first. unknown: with unknown facts."""
        kinds: dict[object, str | None] = {}
        for kind in self._kind_samples(ftype, unknown=unknown):
            kinds.setdefault(self.kind_class(kind), kind)
        owners: dict[object, str | None] = {}
        for owner in self._owner_samples(unknown=unknown):
            owners.setdefault(self.owner_class(owner), owner)
        return [Facts(kind, owner) for kind in kinds.values() for owner in owners.values()]

    def _kind_samples(self, ftype: FileType, *, unknown: bool) -> list[str | None]:
        fixed = FIXED_KINDS.get(ftype)
        if fixed is not None:
            return [fixed]
        if not self._kinds:
            return [_REAL_KINDS[0]]
        found = [facts.kind for facts in sample_facts(self._kinds, (), ftype, unknown=unknown)]
        return [*_REAL_KINDS, *(kind for kind in found if kind is not None), *([None] if unknown else [])]

    def _owner_samples(self, *, unknown: bool) -> list[str | None]:
        named = sorted({owner for owners in self._owners for owner in owners} - {OWNER_NONE})
        return [OWNER_NONE, *named, "\0app", *([None] if unknown else [])]

    def spelled(self, facts: Facts, apps: Iterable[str], own: str | None = None) -> Facts:
        """Return facts to show in a message, which the rules treat like *facts*.

        A fact that no rule asks about becomes None. A made-up kind or owner becomes a real name of its class,
        if there is one. apps: names for made-up owners. own: the name that replaces OWN.
        """
        kind = facts.kind if self._kinds else None
        owner = facts.owner if self._owners else None
        if kind is not None and "\0" in kind:
            major = kind.partition("/")[0]
            tries = [f"{'application' if chr(0) in major else major}/{name}" for name in _OTHERS]
            kind = _first(tries, lambda one: self.kind_class(one) == self.kind_class(facts.kind), kind)
        if owner == OWN:
            owner = own
        elif owner is not None and "\0" in owner:
            tries = [*sorted(apps), GONE]
            owner = _first(tries, lambda one: self.owner_class(one) == self.owner_class(facts.owner), owner)
        return Facts(kind, owner)


def _first(tries: Iterable[str], fits: Callable[[str], bool], otherwise: str) -> str:
    return next((one for one in tries if fits(one)), otherwise)
