"""The parts of a mount that nearly every operation needs, in one object."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import HandleTable, OpenState
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.store.latches import HeldFiles
from policyfs.store.tree import Tree


@dataclass(frozen=True, slots=True)
class FsContext:
    """One mount: its store, the nodes that the kernel knows, the open files, and the policy's decisions.

    held: the marks by which the daemons of one store tell each other which files have held bytes.
    """

    tree: Tree
    nodes: NodeTable
    handles: HandleTable
    resolver: Resolver
    gate: Gate
    held: HeldFiles

    def note_held(self, state: OpenState, fd: int) -> None:
        """Mark a file whose bytes are held, or take the mark back. *fd*: of the store's file.

        INVARIANT: called after each change of a head or a draft, before its request is answered, with no
        await in between: once a writer has its answer, no other daemon replaces a file by this one. Raises
        OSError if the file cannot be marked.
        """
        if state.unsaved == (state.mark is not None):
            return
        if state.mark is None:
            state.mark = self.held.mark(fd)
        else:
            mark, state.mark = state.mark, None
            self.held.unmark(mark)
