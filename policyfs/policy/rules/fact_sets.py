"""Sets of facts (pairs of kind and owner) as bits of one int: a few operations cover thousands of facts.

To try all kinds and owners that the rules at one path distinguish one by one takes seconds.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from policyfs.domain import FileType
from policyfs.policy.rules.facts import Kinds, sample_kinds, sample_owners
from policyfs.policy.rules.table import Condition, Live


def most_facts(kinds: AbstractSet[Kinds], owners: AbstractSet[str], ftype: FileType) -> int:
    """Return the maximum number of facts in a FactSpace with these kinds and owners."""
    some_kinds = 3 + sum(len(one.names) for one in kinds) if ftype is FileType.REGULAR else 1
    return some_kinds * (len(owners) + 3)


class Matches(NamedTuple):
    """The facts under which a condition or rule matches (certain), and those with perhaps (possible)."""

    certain: int
    possible: int


class FactSpace:
    """All facts that some conditions distinguish, for files of one type.

    The pairs of one kind are neighbours: with three owners, the first kind has the bits 0 to 2. Equal kinds
    and owners give equal spaces. size: the number of facts.
    """

    __slots__ = (
        "_by_kind", "_by_major", "_by_owner", "_kinds", "_lives", "_unknown_kind", "_unknown_owner",
        "everything", "ftype", "size",
    )  # fmt: skip

    def __init__(self, kinds: AbstractSet[Kinds], owners: AbstractSet[str], ftype: FileType) -> None:
        """Make the facts of the kinds and owners that conditions ask for (table.told_apart)."""
        self.ftype: Final = ftype
        some_kinds = sample_kinds(kinds, ftype, unknown=True)
        some_owners = sample_owners(owners, unknown=True)
        width = len(some_owners)
        one_kind = (1 << width) - 1
        self.size: Final = width * len(some_kinds)
        self.everything: Final = (1 << self.size) - 1
        one_owner = self.everything // one_kind  # the lowest bit of each kind
        by_kind = {kind: one_kind << (width * at) for at, kind in enumerate(some_kinds)}
        by_owner = {owner: one_owner << at for at, owner in enumerate(some_owners)}
        self._unknown_kind: Final = by_kind.pop(None, 0)
        self._unknown_owner: Final = by_owner.pop(None, 0)
        self._by_kind: Final = {kind: some for kind, some in by_kind.items() if kind is not None}
        self._by_owner: Final = {owner: some for owner, some in by_owner.items() if owner is not None}
        self._by_major: Final[dict[str, int]] = {}
        for kind, some in self._by_kind.items():
            major = kind[: kind.find("/") + 1]
            self._by_major[major] = self._by_major.get(major, 0) | some
        self._kinds: Final[dict[Kinds, Matches]] = {}
        self._lives: Final[dict[Live, Matches]] = {}

    def of(self, live: Live) -> Matches:
        """Return the facts under which the rule matches (Live.match)."""
        found = self._lives.get(live)
        if found is None:
            found = self._lives[live] = self._of_rule(live)
        return found

    def _of_rule(self, live: Live) -> Matches:
        certain, possible = self._of_condition(live.when)
        for condition in live.unless:
            excepted = self._of_condition(condition)
            certain &= ~excepted.possible
            possible &= ~excepted.certain
        return Matches(certain, possible)

    def raw(self, live: Live) -> int:
        """Return the facts under which a redact rule leaves the file unchanged (``raw_types``)."""
        return self._of_kinds(live.raw).certain

    def _of_condition(self, condition: Condition | None) -> Matches:
        """Return the facts under which the condition is true, and perhaps true. None is always true."""
        certain = possible = self.everything
        if condition is not None and condition.kinds is not None:
            certain, possible = self._of_kinds(condition.kinds)
        if condition is not None and condition.owners is not None:
            owned = 0
            for owner in condition.owners:
                owned |= self._by_owner.get(owner, 0)
            certain &= owned
            possible &= owned | (self._unknown_owner if condition.owners else 0)
        return Matches(certain, possible)

    def _of_kinds(self, kinds: Kinds) -> Matches:
        found = self._kinds.get(kinds)
        if found is None:
            if kinds.everything:
                certain = unknown = self.everything
            else:
                certain = kinds.union(self._by_kind, self._by_major)
                unknown = self._unknown_kind if kinds.for_files else 0
            found = self._kinds[kinds] = Matches(certain, certain | unknown)
        return found
