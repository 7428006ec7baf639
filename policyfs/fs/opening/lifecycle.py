"""The lifecycle of handles (decision on an open to release) and of open states (first open to last release).

Every open calls begin(), prepares its byte path, calls finish(), and ends with succeed() or fail(). Each
enter() needs one leave(), at the release or when the open fails."""

from __future__ import annotations

import contextlib
import errno
from typing import Final

import trio

from policyfs.fs.access.views import version_of
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, CachedPages, Node
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.kernel.bridge import FH_KEEP_CACHE, FH_NOFLUSH, FH_PASSTHROUGH, pack_fh
from policyfs.linux.statx import Stat
from policyfs.store import freeing
from policyfs.store.frozen import Version
from policyfs.store.locking.leases import LeaseKeeper

_RELEASE_S: Final = 1.0
"""The longest wait of an open for the release of a writer."""


class Lifecycle(FsPart):
    """The part of a mount that begins and ends handles and open states."""

    def __init__(
        self,
        fs: FsContext,
        *,
        passthrough: Passthrough,
        leased: LeasedFiles,
        drafts: Drafts,
        withheld_names: WithheldNames,
        cache: KernelCache,
        keeper: LeaseKeeper | None,
    ) -> None:
        """keeper: None if leases prove nothing."""
        super().__init__(fs)
        self._passthrough = passthrough
        self._leased = leased
        self._drafts = drafts
        self._withheld_names = withheld_names
        self._cache = cache
        self._keeper = keeper

    def new_handle(self, node: Node, caller: Caller, flags: int, stat: Stat) -> Handle:
        """Make a handle right after the decision that allows the open. The handle has no byte path yet."""
        self._gate.recorder.program_of(caller)  # for the handle's later events
        handle = Handle(self._handles.new_index(caller), node, caller, flags, -1)
        handle.before = version_of(stat)
        handle.generation = self._gate.generation
        return handle

    def begin(self, opening: OpenContext) -> None:
        """Make the handle of an open that meets its preconditions, and call enter() for it."""
        request = opening.request
        handle = self.new_handle(request.node, request.caller, request.flags, opening.stat)
        handle.emptied, handle.by_kind = opening.emptied, opening.by_kind
        opening.handle = handle
        opening.state = self.enter(request.node, writing=handle.writable)
        opening.state.opening += handle.writable
        if handle.writable:
            opening.state.writer_uids |= {request.caller.uid}

    def succeed(self, opening: OpenContext) -> None:
        """Note the success of an open: a released writer now leaves its held bytes to this handle.

        INVARIANT: no await since the open's last change of held bytes (O_TRUNC), and none until its end."""
        opening.shared.opening -= opening.handle.writable

    def fail(self, opening: OpenContext) -> None:
        """End the handle of an open that has failed, if begin() has made it."""
        if opening.state is None:
            return
        self._kept.released(opening.handle)
        opening.handle.pages = None  # the kernel has not seen this open, and keeps older pages
        opening.state.opening -= opening.handle.writable
        self.leave(opening.handle, opening.state)

    def enter(self, node: Node, *, writing: bool) -> OpenState:
        """Return the node's open state, which lives until each enter() is undone by leave() or let_go().

        INVARIANT: all open nodes through which an inode is written share one lock, so that a check in one
        view still holds when the bytes are stored. No task waits for such a lock while it holds another.
        Copies and leases have own locks, since their steps are long."""
        if writing:  # the vectors keep attributes, and copies
            self._nodes.vectors.drop_nodes(self._nodes.same_inode(node.ino))
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

    async def emptied(self, node: Node) -> None:
        """Wait for the release of a writer that has emptied and closed the file in another view, at most
        _RELEASE_S. Later, or of another daemon's writer, the open shows the old bytes."""
        for each in self._nodes.same_inode(node.ino):
            if each is not node and each.open is not None and each.open.emptying:
                await _release_of(each.open)

    async def released(self, node: Node) -> bool:
        """Wait for RELEASEs of the file's writers under way, at most _RELEASE_S each; False if there is none.
        close(2) does not wait for RELEASE, so an app can open the file again before."""
        states = [each.open for each in self._nodes.same_inode(node.ino) if each.open is not None]
        under_way = [state for state in states if state.releases]
        for state in under_way:
            await _release_of(state)
        return bool(under_way)

    def show_size(self, handle: Handle, version: Version) -> None:
        """Make the kernel ask for the file's size again if the file has changed: it reads no further than the
        size that it knows, and uses it for lseek(SEEK_END) in passthrough. For a passthrough writer it
        forgets in any case: stores into a mapping are seen by nobody.

        INVARIANT: nothing here waits for the kernel, which holds the directory's lock during a CREATE."""
        node = handle.node
        if handle.mode is Mode.MEDIATED:
            self._nodes.vectors.drop(node)
            told = [node] if node.was_told_another(version) else []
        else:
            same = self._nodes.same_inode(node.ino) if handle.writable else ()
            told = [each for each in same if each.is_told and (each is node or not each.byte_path.finds_kind)]
        for each in told:
            in_use = each.open is not None and not handle.created  # the kernel does not know a new node yet
            (self._cache.forget_attributes_now if in_use else self._cache.forget_attributes)(each.nodeid)
            if each is node:
                node.tell(version)

    def finish(self, opening: OpenContext) -> None:
        """Number the handle, and put it into the table. Raise PolicyChangedError after a reload."""
        handle, state = opening.handle, opening.shared
        self._gate.unchanged(handle.generation)
        node = handle.node
        state.stat = opening.stat
        if handle.mode is Mode.PASSTHROUGH:
            pays = handle.created and self._gate.recorder.owes(handle.caller.holder)  # at its close
            flags = 0 if pays or (self._remote and handle.writable) else FH_NOFLUSH
            handle.fh = pack_fh(handle.index, FH_PASSTHROUGH | flags, state.backing_id)
        else:
            # A writer's FLUSH is always needed: after a reload its bytes may have to be checked.
            flags = 0 if handle.writable else FH_NOFLUSH
            if self._keeps_pages(opening):
                shown = 0 if handle.copy is None else handle.copy.serial
                handle.pages = CachedPages(state.version or version_of(opening.stat), shown)
                if node.cached == handle.pages:
                    flags |= FH_KEEP_CACHE
            else:
                node.cached = None
            writer = handle.caller.uid if handle.writable else 0
            handle.fh = pack_fh(handle.index, flags, writer=writer)
        self._handles.add(handle)

    def _keeps_pages(self, opening: OpenContext) -> bool:
        """Return True if pages read through this handle may stay for a later open. INVARIANT: a raw file must
        have no writer: stores into a mapping of a dirty page change no times."""
        handle, state = opening.handle, opening.shared
        if handle.by_kind or state.holds_back:
            return False
        if handle.node.byte_path is not BytePath.RAW or self._keeper is None:
            return handle.node.byte_path in {BytePath.COPY, BytePath.RAW}
        lease = None
        if not handle.writable and opening.fd >= 0:
            lease = self._keeper.grant(opening.fd)
        if lease is not None:
            lease.release()
        return lease is not None

    def leave(self, handle: Handle, state: OpenState) -> None:
        """End a handle, and undo the enter() of its open; the last one releases the node's resources.
        INVARIANT: bytes are held only while the node has a writer."""
        try:
            if handle.writable and state.writers == 1:
                self._drop_left(handle, state)
        finally:
            self._leave(handle, state)

    def _drop_left(self, handle: Handle, state: OpenState) -> None:
        """Drop, on record, bytes of the last writer left by an error (else FileSync.finish() took them)."""
        if state.draft is None and not state.unsaved:
            return
        try:
            self._drafts.lose(
                handle, state, OSError(errno.EIO, "the release, or the open, ended with an error")
            )
        finally:
            self._note_held(handle, state)
            self._withheld_names.show(handle.node)

    def _leave(self, handle: Handle, state: OpenState) -> None:
        node = handle.node
        # Not yet at the open: the kernel drops its pages of older bytes only after the reply to OPEN.
        if handle.pages is not None:
            node.cached = handle.pages
        if self._handles.saved is not None:
            self._handles.saved.closed(handle.fh)
        if handle.fd >= 0:
            with contextlib.suppress(OSError):  # no process gets this error: FLUSH has already reported it
                freeing.close(handle.fd)
            handle.fd = -1
        self._handles.pop(handle.fh)
        self._handles.left(node)
        if handle.copy is not None:
            handle.copy.unpin(handle.payer)
            handle.copy = None
        state.writers -= handle.writable
        self.let_go(node, state)

    def let_go(self, node: Node, state: OpenState) -> None:
        """Undo one enter(), whose handle, if any, leave() has closed."""
        state.handles -= 1
        if state.handles:
            return
        self._passthrough.release(node, state)
        self._leased.disconnect(state)
        if state.copy is not None:
            state.copy.unpin()
        if state.fd >= 0:
            if self._handles.saved is not None:
                self._handles.saved.let_go(node.nodeid)
            freeing.close(state.fd)
            state.fd_closed()
        if state.mark is not None:
            self._held.unmark(state.mark)
        if self._nodes.saved is not None:
            self._nodes.saved.held.drop(node.nodeid)
        if state.head is not None:  # without bytes: leave() has dropped those of the last writer
            state.drop_held()
            self._withheld_names.show(node)
        node.open = None
        self._nodes.closed(node)


async def _release_of(state: OpenState) -> None:
    with trio.move_on_after(_RELEASE_S):
        async with state.lock:
            pass


def _is_written(node: Node) -> bool:
    """Return True if writes through the node change bytes of the store."""
    return not node.byte_path.finds_kind
