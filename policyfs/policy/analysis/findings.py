"""Answers that differ between two policies, and the best sample of each sort."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction
from policyfs.policy.analysis.samples import Sample
from policyfs.policy.analysis.tracks import Callers

Rank = tuple[int, ...]
RuleRef = tuple[str, str]
"""``+``, ``-``, ``~`` or ``=`` (only in the new policy, only in the old, changed, the same), and a rule's id.

An unchanged rule causes a difference if it now matches other callers, because an app has other grants.
"""


class Finding(NamedTuple):
    """One answer that differs, for some callers. rules: the rules behind it.

    rank: a sort key. Ordinary requests come first, and among these the requests that show most.
    """

    change: Change
    op: Op
    rules: frozenset[RuleRef]
    sample: Sample
    callers: Callers
    rank: Rank


def rank_of(change: Change, op: Op, ftype: FileType, facts: Facts, odd: int) -> Rank:
    """Return the rank of a request without its path. odd: number of directories above with special owners."""
    new = op is Op.CREATE
    known = facts.kind is None if new else facts.kind is not None
    at = 2 if facts.owner is None else int(facts.owner != OWNER_NONE)
    types = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
    if new:
        types = (FileType.DIRECTORY, FileType.REGULAR, FileType.SYMLINK)
    partly = "removed" in change.after
    return types.index(ftype), not known, partly, at, odd


Sort = tuple[Direction, Aspect, frozenset[RuleRef]]

Best = dict[Sort, dict[Op, list[Finding]]]
"""Findings of each sort for each operation. They include the best finding for each caller."""


def best_of(findings: Iterable[Finding]) -> Best:
    """Return the best finding of each sort for each operation and caller."""
    best: Best = {}
    for finding in findings:
        key = (finding.change.direction, finding.change.aspect, finding.rules)
        known = best.setdefault(key, {}).setdefault(finding.op, [])
        left = finding.callers
        for other in known:
            if other.rank <= finding.rank:
                left &= ~other.callers
        if left:
            known.append(finding)
    return best


def best_for(findings: Iterable[Finding], caller: int) -> Finding:
    """Return the best finding that concerns a caller. caller: the index of its group."""
    own = (finding for finding in findings if finding.callers >> caller & 1)
    return min(own, key=lambda finding: finding.rank)
