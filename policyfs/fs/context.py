"""The parts of a mount that nearly every operation needs, in one object."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.handles import HandleTable, OpenState
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.inodes.resolver import Resolver
from policyfs.store.exact_names import ExactNames
from policyfs.store.latches import HeldFiles
from policyfs.store.tree import Tree


@dataclass(frozen=True, slots=True)
class FsContext:
    """One mount: its store, the nodes that the kernel knows, the open files, and the policy's decisions.

    held: marks files that have held bytes, so that the other daemons of the same store know these files.
    exact_names: removes names only of the files that were decided on.
    """

    tree: Tree
    nodes: NodeTable
    handles: HandleTable
    resolver: Resolver
    gate: Gate
    held: HeldFiles
    exact_names: ExactNames

    def note_held(self, state: OpenState, fd: int) -> None:
        """Mark a file that has held bytes; remove the mark from a file that has none. *fd*: of the store's
        file.

        INVARIANT: called after each change of a head or a draft, before the reply to its request, with no
        await in between. So before a writer gets its reply, every other daemon knows that this file has held
        bytes, and does not replace another file by it. Raises OSError if the file cannot be marked. Then the
        head or draft is discarded.
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
        """Discard all held bytes of a file. They are those of the last change alone: a file with older held
        bytes has a mark already.

        The app gets the error. It may write again, after the bytes that are in the store.
        """
        held = state.draft or state.head
        state.drop_held()
        if held is not None:
            state.head = Head(self.tree.fstat(fd).size, created=held.created, refused=held.refused)
