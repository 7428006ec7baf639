"""Files without a name: open(2) with O_TMPFILE.

Whoever may create a file in the directory may create one there that has no name yet. It is decided
on, and stands on the trail, under the name UNNAMED in that directory; what it is called later is
decided when it is linked (names.py). Until then it is what an open file is whose name was removed.
"""

from __future__ import annotations

import os
from typing import Final

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.fs.entrance import describe, ops_of
from policyfs.fs.gate import Gate
from policyfs.fs.lookup import Seeing, child_path
from policyfs.fs.nodes import Flavor, Node, NodeTable
from policyfs.fs.openfile import Caller, Handle, HandleTable
from policyfs.fs.opening import Opener
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree

UNNAMED: Final = b"#unnamed"
"""What a rule's path must match for a file that has no name: ``*`` does, ``*.jpg`` does not."""


class Unnamed:
    """Makes files without a name, for one mount."""

    def __init__(
        self, *, tree: Tree, nodes: NodeTable, handles: HandleTable, places: Places, gate: Gate,
        seeing: Seeing, opener: Opener,
    ) -> None:  # fmt: skip
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._places = places
        self._gate = gate
        self._seeing = seeing
        self._opener = opener

    async def open(
        self, parent: Node, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, pyfuse3.EntryAttributes]:
        """A new file in a directory, open. EOPNOTSUPP where the store has no such files."""
        who, path = caller.principal, child_path(parent, UNNAMED)
        call = Call("create", describe(flags))
        state = self._gate.engine.child(parent.state, UNNAMED)
        ops = Op.CREATE | Op.WRITE | ops_of(flags & ~os.O_TRUNC)
        facts = Facts(None, who.app or OWNER_NONE)
        decision = self._gate.decide(who, ops, state, FileType.REGULAR, facts, parent)
        if not decision.allowed:
            self._gate.refuse(caller, call, path, decision)
        view = self._gate.engine.view(who, state)
        dirfd = self._places.dirfd(parent)
        suid = self._gate.free(who, state, parent)
        fd = self._tree.create_unnamed(dirfd, mode, caller.umask, caller.uid, caller.gid, suid=suid)
        within_reach, node = -1, None
        try:
            stat = self._owned(fd, caller)
            within_reach = self._tree.reopen(fd, os.O_RDONLY)
            flavor = Flavor.RAW if view.raw else Flavor.LIVE
            node = self._seeing.views.unnamed(stat, view, flavor, state, path, caller)
            handle = self._opener.created(node, fd, flags, caller, decision, stat, call)
        except BaseException:
            os.close(fd)
            if within_reach >= 0:
                os.close(within_reach)
            if node is not None:
                self._nodes.closed(node)
            raise
        if node.open is not None:  # it is: the handle has just opened it
            node.open.fd = within_reach
            self._handles.charge(node)
        return handle, self._seeing.entry_of(node, state, stat)

    def _owned(self, fd: int, caller: Caller) -> Stat:
        stat = self._tree.fstat(fd)
        app = caller.principal.app
        if app is not None:
            self._gate.facts.owners.set(fd, stat, app)
            stat = self._tree.fstat(fd)
        return stat
