"""Moves that are allowed for a file's kind: the kind must be proven, for its writers come along.

What may be moved because it is of one kind, and is then made another by somebody who had it open all the
while, would show at the new path what the old one hid. Within one path class nothing is gained.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from policyfs.domain import Audit, Decision, Principal
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.policy.decide import End, Engine, PathState

ELSEWHERE: Final = Decision(allowed=False, errno=errno.EXDEV, audit=Audit.REQUIRED)
"""What cannot be moved there, but may be copied."""


class Source(NamedTuple):
    """A file that is about to get another name. settled: its kind was found under a lease of its own, and
    who decides asks whether that holds (fs/checked/moved_file.py).
    """

    end: End
    evidence: KindEvidence
    settled: bool = False

    def without_kind(self, to: PathState) -> End | None:
        """The same with its kind unknown, if it gets other rules at *to* and nothing proves its kind."""
        proven = self.settled or not self.evidence.asked or self.evidence.holds()
        if proven or self.end.state is to:
            return None
        return End(self.end.state, self.end.ftype, self.end.facts._replace(kind=None))


def decide_rename(
    engine: Engine, who: Principal, moved: Source, to: PathState, there: Source | None,
    *, exchange: bool, same_directory: bool,
) -> Decision:  # fmt: skip
    """The answer to rename(2); EXDEV if it hangs on a kind that nothing proves. there: what has the new name.

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
    """The answer to link(2) by one of the file's names, likewise."""

    def decide(source: End) -> Decision:
        return engine.link(who, source, End(to, source.ftype, source.facts), same_directory=same_directory)

    decision = decide(linked.end)
    doubted = linked.without_kind(to)
    if not decision.allowed or doubted is None or decide(doubted).allowed:
        return decision
    return ELSEWHERE
