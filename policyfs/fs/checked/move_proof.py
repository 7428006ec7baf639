"""Moves that depend on a file's kind: the kind must be proven, since a writer may have the file open.

Otherwise a file could be moved because of its kind, and then be made another kind by a process that had it
open all the time. Then the new path would show data that the old one hid. Between paths of one state no
proof is needed: the same rules hold at both.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from policyfs.domain import Audit, Decision, Principal
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.policy.decide import End, Engine, PathState

ELSEWHERE: Final = Decision(allowed=False, errno=errno.EXDEV, audit=Audit.REQUIRED)
"""The decision for a file that cannot be moved there, but may be copied."""


class Source(NamedTuple):
    """A file that is about to get another name.

    settled: True if its kind was found under a lease of its own. The caller checks whether that lease holds
    (fs/checked/moved_file.py).
    """

    end: End
    evidence: KindEvidence
    settled: bool = False

    def without_kind(self, to: PathState) -> End | None:
        """Return the end with an unknown kind if *to* has other rules and the kind is unproven, else None."""
        proven = self.settled or not self.evidence.asked or self.evidence.holds()
        if proven or self.end.state is to:
            return None
        return End(self.end.state, self.end.ftype, self.end.facts._replace(kind=None))


def decide_rename(
    engine: Engine, who: Principal, moved: Source, to: PathState, there: Source | None,
    *, exchange: bool, same_directory: bool,
) -> Decision:  # fmt: skip
    """Decide a rename(2); EXDEV if it depends on a kind that nothing proves. there: the file that has the new
    name.

    INVARIANT: no await between this and the rename.
    """

    def decide(source: End, replaced: End | None) -> Decision:
        target = End(to, source.ftype, source.facts)
        return engine.rename(who, source, target, replaced, exchange, same_directory=same_directory)

    replaced = None if there is None else there.end
    decision = decide(moved.end, replaced)
    source = moved.without_kind(to)
    back = there.without_kind(moved.end.state) if there is not None and exchange else None
    if not decision.allowed or (source is None and back is None):
        return decision
    return decision if decide(source or moved.end, back or replaced).allowed else ELSEWHERE


def decide_link(
    engine: Engine, who: Principal, linked: Source, to: PathState, *, same_directory: bool
) -> Decision:
    """Decide a link(2) by one of the file's names, as decide_rename() does."""

    def decide(source: End) -> Decision:
        return engine.link(who, source, End(to, source.ftype, source.facts), same_directory=same_directory)

    decision = decide(linked.end)
    doubted = linked.without_kind(to)
    if not decision.allowed or doubted is None or decide(doubted).allowed:
        return decision
    return ELSEWHERE
