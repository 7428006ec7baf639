"""The parts of a mount that nearly every operation needs, in one object."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import HandleTable, OpenState
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.pending_writes import Head
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
        OSError if the file cannot be marked. Then nothing of the change is held.
        """
        if state.unsaved == (state.mark is not None):
            return
        if state.mark is None:
            try:
                state.mark = self.held.mark(fd)
            except OSError:
                self._take_back(state, fd)
                raise
        else:
            mark, state.mark = state.mark, None
            self.held.unmark(mark)

    def _take_back(self, state: OpenState, fd: int) -> None:
        """Drop what the last change has held: without a mark nothing was held before it.

        Its app is told that it failed, and may make it again, at the file's end.
        """
        held = state.draft or state.head
        state.drop_held()
        if held is not None:
            state.head = Head(self.tree.fstat(fd).size, created=held.created, refused=held.refused)
