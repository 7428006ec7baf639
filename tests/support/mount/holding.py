"""`policyfs` whose first daemon never answers the look-up of the name `held`.

    python -m tests.support.mount.holding mount --foreground ...

Meanwhile the app that asks has the lock of the directory."""

from __future__ import annotations

import sys
from typing import Any

import trio

from policyfs.cli.main import main
from policyfs.fs.inodes.saved_nodes import SavedNodes
from policyfs.fs.namespace.lookup import Lookup

_lookup, _read = Lookup.lookup, SavedNodes.read
followers: list[SavedNodes] = []
"""The state that this process follows: empty in the first daemon."""


async def _held(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
    if name == b"held" and not followers:
        await trio.sleep_forever()
    return await _lookup(self, parent, name, caller)


def _nodes(self: SavedNodes) -> Any:
    followers.append(self)
    return _read(self)


def note_followers() -> None:
    """Note in this process if it follows a killed daemon."""
    setattr(SavedNodes, "read", _nodes)  # noqa: B010 - for this process only


if __name__ == "__main__":
    setattr(Lookup, "lookup", _held)  # noqa: B010 - for this process only
    note_followers()
    sys.exit(main(sys.argv[1:]))
