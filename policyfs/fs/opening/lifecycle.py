"""How long what is open lives: a handle, from the decision to its release, and the state that all handles
of a node share, from the first open to the last release.

An open is begin(), its byte path and finish(), whichever byte path it is. Each enter() has one
leave(): when the open fails after it, else when the file is released.
"""

from __future__ import annotations

import contextlib
import os

from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Caller, Handle, Mode, OpenState
from policyfs.fs.inodes.node import BytePath, Node, SizeForgotten
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.kernel.bridge import FH_KEEP_CACHE, FH_NOFLUSH, FH_PASSTHROUGH, pack_fh
from policyfs.linux.statx import Stat
from policyfs.store.frozen import Version


class Lifecycle:
    """Handles and open states of one mount, as they come and go."""

    def __init__(
        self,
        fs: FsContext,
        *,
        passthrough: Passthrough,
        leased: LeasedFiles,
        forget_size: SizeForgotten,
        remote: bool = False,
    ) -> None:
        """remote: the store tells some errors of writing only when a file is closed."""
        self._nodes = fs.nodes
        self._handles = fs.handles
        self._gate = fs.gate
        self._passthrough = passthrough
        self._leased = leased
        self._forget_size = forget_size
        self._remote = remote

    def new_handle(self, node: Node, caller: Caller, flags: int, stat: Stat) -> Handle:
        """A handle that is not connected yet, right after the decision that allows it."""
        handle = Handle(self._handles.new_index(caller), node, caller, flags, -1)
        handle.before = version_of(stat)
        handle.generation = self._gate.generation
        return handle

    def begin(self, opening: OpenContext) -> None:
        """Make the handle of an open that meets its conditions, and enter the node's open state for it."""
        request = opening.request
        handle = self.new_handle(request.node, request.caller, request.flags, opening.stat)
        handle.emptied, handle.by_kind = opening.emptied, opening.by_kind
        opening.handle = handle
        opening.state = self.enter(request.node, writing=handle.writable)

    def enter(self, node: Node, *, writing: bool) -> OpenState:
        """Reserve the node's open state: it lives until as many leave()s.

        INVARIANT: all open nodes of an inode through which the daemon writes have one lock, so that
        what was judged in one view is still so when it is written, whatever other views do meanwhile.
        Nobody waits for one such lock while holding another. Copies and leases have locks of their
        own: what takes long there must not hold up a writer.
        """
        if node.open is None:
            node.open = OpenState()
            if _is_written(node):
                for other in self._nodes.same_inode(node.ino):
                    if other is not node and other.open is not None and _is_written(other):
                        node.open.lock = other.open.lock
                        break
        node.open.handles += 1
        node.open.writers += writing
        return node.open

    async def show_size(self, handle: Handle, version: Version) -> None:
        """What is read here was changed elsewhere since the kernel was told its size: it must ask
        again, for it reads no further than the size it knows. (In passthrough it goes by the file.)
        """
        node = handle.node
        if handle.mode is Mode.MEDIATED and node.was_told_another(version):
            await self._forget_size(node.nodeid)
            node.tell(version)

    def finish(self, handle: Handle, state: OpenState, stat: Stat) -> None:
        """Number the handle and put it into the table, if the policy still is the one that allowed it."""
        self._gate.unchanged(handle.generation)
        node = handle.node
        state.stat = stat
        if handle.mode is Mode.PASSTHROUGH:
            flags = 0 if self._remote and handle.writable else FH_NOFLUSH
            handle.fh = pack_fh(handle.index, FH_PASSTHROUGH | flags, state.backing_id)
        else:
            # A writer's close is always heard: a reload may come to ask something of what it writes.
            flags = 0 if handle.writable else FH_NOFLUSH
            version = state.version or version_of(stat)
            keeps = node.byte_path in {BytePath.COPY, BytePath.RAW} and not handle.by_kind
            if keeps and node.cached == version:
                flags |= FH_KEEP_CACHE
            node.cached = version
            handle.fh = pack_fh(handle.index, flags)
        self._handles.add(handle)

    def leave(self, handle: Handle, state: OpenState) -> None:
        """Take back one enter(); the last one gives everything up."""
        node = handle.node
        if handle.fd >= 0:
            with contextlib.suppress(OSError):  # nobody is left to hear it: FLUSH has asked before
                os.close(handle.fd)
            handle.fd = -1
        self._handles.pop(handle.fh)
        if handle.copy is not None:
            handle.copy.unpin(handle.payer)
            handle.copy = None
        state.handles -= 1
        state.writers -= handle.writable
        if state.handles:
            return
        self._passthrough.release(node, state)
        self._leased.disconnect(state)
        if state.copy is not None:
            state.copy.unpin()
        if state.fd >= 0:
            os.close(state.fd)
        if state.draft is not None:
            state.draft.close()
        node.open = None
        self._nodes.closed(node)


def _is_written(node: Node) -> bool:
    """Return True if bytes of the store change through the node."""
    return not node.byte_path.finds_kind
