"""Names for which a new policy gives the same answer as the old one."""

from __future__ import annotations

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.attributes import Timeouts
from policyfs.policy.decide import PathState
from policyfs.policy.model import Policy


class StayingNames:
    """A check that finds the names that the kernel may use after a reload until it has looked them up again.

    An answer to a LOOKUP under the old policy may arrive late. It does no harm if it let the kernel keep
    nothing, or the new policy gives the same."""

    def __init__(self, timeouts: Timeouts, gate: Gate) -> None:
        self._timeouts = timeouts
        self._engine = gate.engine
        self._asker = gate.principal(_uid_that_asks(gate.engine.policy))
        self._known: dict[tuple[PathState, FileType], bool] = {}

    def stays(self, node: Node) -> bool:
        """Return True if an old answer about a name does no harm. Once for each node and reload: clears
        node.kept."""
        kept, node.kept = node.kept, False
        if not kept:
            return True
        if node.links is not None or node.parent is None or node.out_of_reach:
            return False
        if node.ftype is FileType.REGULAR and not node.view.raw:
            return False
        key = node.last_state, node.ftype
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._shown_to_all(*key)
        return found

    def _shown_to_all(self, state: PathState, ftype: FileType) -> bool:
        """Return True if the kernel may keep such a name, and one caller (so every caller) sees the object as
        it is."""
        engine = self._engine
        if not self._timeouts.entry(state, ftype) or ftype is FileType.SPECIAL:
            return False
        if engine.table.uses_uid or engine.owner_matters_above(state):
            return False
        if ftype is FileType.REGULAR and not engine.view(self._asker, state).raw:
            return False
        return engine.decide(self._asker, Op.SEE, state, ftype, NO_FACTS).allowed


def _uid_that_asks(policy: Policy) -> int:
    """Return the uid of one caller that can use the mount. It fits an app mount and a shared mount."""
    return next((app.uids[0][0] for app in policy.apps if app.uids), 0)
