"""Answers that differ between two policies, and the best sample request for each sort of difference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction
from policyfs.policy.analysis.samples import Sample
from policyfs.policy.analysis.tracks import Callers

Rank = tuple[int, ...]
RuleRef = tuple[str, str]
"""The id of a rule, with a sign before it: ``+`` only in the new policy, ``-`` only in the old, ``~``
changed, ``=`` the same in both. An unchanged rule can cause a difference if it now matches other callers,
because an app has other grants."""


class Finding(NamedTuple):
    """One answer that differs between two policies, for some callers.

    rules: the rules that cause the difference. rank: a sort key, made of rank_of() and of the path. Ordinary
    requests come first; among equally ordinary requests, those with short paths.
    """

    change: Change
    op: Op
    rules: frozenset[RuleRef]
    sample: Sample
    callers: Callers
    rank: Rank


def rank_of(change: Change, op: Op, ftype: FileType, facts: Facts, odd: int) -> Rank:
    """Return a sort key for a request; its path does not count. Ordinary requests get small keys.

    odd: the number of directories above that must have a special owner.
    """
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
"""Findings (different answers) for each sort of difference and each operation. For each caller, the best
finding is among them."""


def best_of(findings: Iterable[Finding]) -> Best:
    """Return the best finding (sample request with different answers) of each sort, for each operation and
    caller.
    """
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
    """Return the best finding (sample request with different answers) for one caller.

    caller: the caller's index.
    """
    own = (finding for finding in findings if finding.callers >> caller & 1)
    return min(own, key=lambda finding: finding.rank)
