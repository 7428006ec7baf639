"""Answers that differ between two policies, and the best sample of each sort."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction
from policyfs.policy.analysis.walk import Place, is_made_up

Rank = tuple[int, ...]
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

    @property
    def rank(self) -> Rank:
        """A key by which ordinary requests come first, and of those the ones that show most."""
        sample, facts, new = self.sample, self.sample.facts, self.op is Op.CREATE
        known = facts.kind is None if new else facts.kind is not None
        at = 2 if facts.owner is None else int(facts.owner != OWNER_NONE)
        types = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
        if new:
            types = (FileType.DIRECTORY, FileType.REGULAR, FileType.SYMLINK)
        hidden = sample.place.hidden[sample.way]
        odd = sum(owner != OWNER_NONE for owner in hidden) if sample.place.may_be_hidden else 0
        partly = "removed" in self.change.after
        names = sample.place.names
        special = bool(names) and not is_made_up(names[-1])
        return types.index(sample.ftype), not known, partly, at, odd, special, len(names)


Best = dict[tuple[Direction, Aspect, frozenset[RuleRef]], dict[Op, tuple[Rank, Finding]]]
"""The best finding for each operation, of each sort of findings."""


def best_of(findings: Iterable[Finding]) -> Best:
    """Return the best finding for each operation of each sort."""
    best: Best = {}
    for finding in findings:
        key = (finding.change.direction, finding.change.aspect, finding.rules)
        found, rank = best.setdefault(key, {}), finding.rank
        if finding.op not in found or rank < found[finding.op][0]:
            found[finding.op] = (rank, finding)
    return best
