"""Moves that depend on a file's kind: the kind must be proven, since a writer may have the file open.

Without a proof, a process that has the file open could give the file another kind after the move. Then the
new path would show data that the old path hid. Between paths of one state no proof is needed: the same rules
hold at both paths.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from policyfs.domain import Audit, Decision, Principal
from policyfs.fs.access.gate import stricter
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.policy.decide import End, Engine, PathState

ELSEWHERE: Final = Decision(allowed=False, errno=errno.EXDEV, audit=Audit.REQUIRED)
"""The decision for a file that cannot be moved to a path, but can be copied there without a loss."""


class Source(NamedTuple):
    """A file that is about to get another name. settled: True if the kind was found under the lease of a
    Settled file (fs/checked/moved_file.py), which the caller checks, and not by *evidence*."""

    end: End
    evidence: KindEvidence
    settled: bool = False

    def without_kind(self, to: PathState) -> End | None:
        """Return the file's End with an unknown kind if a move to *to* needs a proof that is missing; None if
        the kind is proven, or *to* is the state of the present path: the same rules hold."""
        doubted = self.doubted()
        return None if doubted is self.end or self.end.state is to else doubted

    def doubted(self) -> End:
        """Return the file's End, for the engine, with an unknown kind if nothing proves it."""
        if self.settled or not self.evidence.asked or self.evidence.holds():
            return self.end
        return End(self.end.state, self.end.ftype, self.end.facts._replace(kind=None))


def decide_rename(
    engine: Engine, who: Principal, moved: Source, to: PathState, there: Source | None,
    *, exchange: bool, same_directory: bool,
) -> Decision:  # fmt: skip
    """Return the decision on a rename(2), or elsewhere() if it depends on a kind that nothing proves. there:
    the file that has the new name, or None. INVARIANT: the caller does not await before the rename."""

    def decide(source: End, replaced: End | None) -> Decision:
        target = End(to, source.ftype, source.facts)
        return engine.rename(who, source, target, replaced, exchange, same_directory=same_directory)

    replaced = None if there is None else there.end
    decision = decide(moved.end, replaced)
    source = moved.without_kind(to)
    back = there.without_kind(moved.end.state) if there is not None and exchange else None
    if source is None and back is None:
        return decision
    doubted = decision.allowed and not decide(source or moved.end, back or replaced).allowed
    if not doubted and decision.errno != errno.EXDEV:
        return decision
    refusal = elsewhere(engine, who, moved, to, there, exchange=exchange)
    return refusal if doubted else stricter(decision, refusal)


def elsewhere(
    engine: Engine, who: Principal, moved: Source, to: PathState, there: Source | None, *, exchange: bool
) -> Decision:
    """Return the refusal of a rename(2) that the app can only replace by a copy: ELSEWHERE, or EACCES with
    the rules that redact if its copy would lose hidden data. moved, there: the files with the old and the new
    name. to: the state of the new path."""
    moves = [(moved.doubted(), to)]
    if there is not None and exchange:
        moves.append((there.doubted(), moved.end.state))
    refusal = engine.cross_device(who, moves)
    return ELSEWHERE if refusal.errno == errno.EXDEV else refusal


def decide_link(
    engine: Engine, who: Principal, linked: Source, to: PathState, *, same_directory: bool
) -> Decision:
    """Return the decision on a link(2), by one of the file's names; ELSEWHERE if it depends on an unproven
    kind."""

    def decide(source: End) -> Decision:
        return engine.link(who, source, End(to, source.ftype, source.facts), same_directory=same_directory)

    decision = decide(linked.end)
    doubted = linked.without_kind(to)
    if not decision.allowed or doubted is None or decide(doubted).allowed:
        return decision
    return ELSEWHERE
