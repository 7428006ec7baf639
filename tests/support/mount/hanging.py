"""`policyfs` whose first daemon never comes back from the look-up of the name `hang`.

    python -m tests.support.mount.hanging mount --foreground ...

The loop is looked at many times a second."""

from __future__ import annotations

import sys
from typing import Any

from policyfs.cli.main import main
from policyfs.daemon import lock_circle, pace
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.namespace.lookup import Lookup

LOOK_S = 0.25
_lookup, _restored = Lookup.lookup, SavedState.nodes
_followers: list[SavedState] = []


async def _hung(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
    while name == b"hang" and not _followers:
        pass
    return await _lookup(self, parent, name, caller)


def _nodes(self: SavedState) -> Any:
    _followers.append(self)
    return _restored(self)


if __name__ == "__main__":
    setattr(Lookup, "lookup", _hung)  # noqa: B010 - for this process only
    setattr(SavedState, "nodes", _nodes)  # noqa: B010
    setattr(lock_circle, "LOOK_S", LOOK_S)  # noqa: B010
    setattr(pace, "REST_S", LOOK_S)  # noqa: B010
    sys.exit(main(sys.argv[1:]))
