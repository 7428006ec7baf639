"""Answers that differ between two policies, and the best sample request for each sort of difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction
from policyfs.policy.analysis.samples import Sample
from policyfs.policy.analysis.tracks import Callers

Rank = tuple[int, ...]
RuleRef = tuple[str, str]
"""``+`` only in the new policy, ``-`` only in the old, ``~`` changed, ``=`` the same; and a rule's id.
Or DEFAULT and a key of ``defaults`` that has changed."""

DEFAULT: Final = "defaults"


class Finding(NamedTuple):
    """One answer that differs, for some callers. rank: rank_of() and the path; ordinary ones come first."""

    change: Change
    op: Op
    rules: frozenset[RuleRef]
    sample: Sample
    callers: Callers
    rank: Rank


def rank_of(change: Change, op: Op, ftype: FileType, facts: Facts, odd: int) -> Rank:
    """Return a sort key: ordinary requests come first. odd: directories above with a special owner."""
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
"""Findings for each sort of difference and each operation. The best one for each caller is among them."""


def best_of(findings: Iterable[Finding], confirmed: Callable[[Finding, int], bool]) -> Best:
    """Return the best findings of each sort, for each operation and caller.

    confirmed: a function that asks both policies again for a caller, by the caller's index.
    """
    best: Best = {}
    for finding in findings:
        key = (finding.change.direction, finding.change.aspect, finding.rules)
        known = best.setdefault(key, {}).setdefault(finding.op, [])
        left = finding.callers
        for other in known:
            if other.rank <= finding.rank:
                left &= ~other.callers
        if left and confirmed(finding, (left & -left).bit_length() - 1):
            known.append(finding)
    return best


def best_for(findings: Iterable[Finding], caller: int) -> Finding:
    """Return the best finding for one caller, by the caller's index."""
    own = (finding for finding in findings if finding.callers >> caller & 1)
    return min(own, key=lambda finding: finding.rank)
