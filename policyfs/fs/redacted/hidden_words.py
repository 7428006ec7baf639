"""The words for data that the policy hides from an app in an open file."""

from __future__ import annotations

from policyfs.fs.access.views import Views
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Handle


class HiddenWords:
    """A finder of the words hidden in open files, by the policy in force and each file's present owner."""

    def __init__(self, fs: FsContext) -> None:
        self._gate = fs.gate

    def of(self, handle: Handle) -> frozenset[str]:
        """Return the words that are now hidden from the handle's app, by any of the file's names."""
        who = handle.caller.principal
        owner = self._gate.facts.owner_of(handle.fd)
        hidden: frozenset[str] = frozenset()
        for state in handle.node.states():
            hidden |= Views.hidden_now(self._gate.engine, who, state, lambda: owner)
        return hidden
