"""All nodes of a saved state at once."""

from __future__ import annotations

from policyfs.fs.inodes.saved_nodes import SavedNode
from policyfs.fs.inodes.saved_state import SavedState


def all_in(state: SavedState) -> dict[int, SavedNode]:
    """Return the nodes by number, those that are read late, too."""
    found = state.nodes.read()
    late = {nodeid: found.take(nodeid) for nodeid in list(found.parents)}
    return found.early | {nodeid: one for nodeid, one in late.items() if one is not None}
