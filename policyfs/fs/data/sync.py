"""FLUSH, fsync and the last release: held bytes are checked, stored, and made durable."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Awaitable, Callable

import trio

from policyfs.domain import Need, Op
from policyfs.errors import CONTENT_REFUSED
from policyfs.fs.access.gate import WRITE, PolicyChangedError
from policyfs.fs.checked.change_lock import Change, patiently
from policyfs.fs.checked.head_writes import Checker
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.data.write_guard import WriteGuard
from policyfs.fs.data.write_paths import DraftWrites, HeadCheckedWrites
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.operations import Work
from policyfs.linux.statx import Stat


class FileSync(FsPart):
    """The handler of FLUSH, fsync and the last release."""

    def __init__(
        self,
        fs: FsContext,
        *,
        guard: WriteGuard,
        head_checked: HeadCheckedWrites,
        draft: DraftWrites,
        checker: Checker,
        withheld_names: WithheldNames,
        open_files: OpenFiles,
        cache: KernelCache,
    ) -> None:
        super().__init__(fs)
        self._guard = guard
        self._head_checked = head_checked
        self._draft = draft
        self._checker = checker
        self._withheld_names = withheld_names
        self._open_files = open_files
        self._cache = cache

    async def flush(self, handle: Handle, *, empties: bool = False) -> None:
        """Store held bytes when a descriptor is closed, or raise EPERM. A file that was only emptied keeps
        its bytes until new ones are stored, or its last writer is released, but not with *empties*.

        A handle that changed nothing leaves held bytes to their writers: their file is not finished, and a
        refusal would be on record as this app's. A network store may report errors only at a close, so a
        duplicate is closed while the app waits."""
        if handle.changed or open_state(handle).mapped:
            await self._settle_at_close(handle, empties=empties)
        if self._remote and handle.writable and handle.fd >= 0:
            await _on_thread(os.close, os.dup(handle.fd))

    async def _settle_at_close(self, handle: Handle, *, empties: bool) -> None:
        """Store or refuse held bytes. A refused new file is hidden before the app gets the answer."""
        try:
            await (self.settle(handle) if empties else self.settle(handle, self._waits))
        finally:
            if self._is_doomed(handle):
                await self._withheld_names.hide(handle.node)
                self._note_held(handle, open_state(handle))

    async def fsync(self, handle: Handle, *, datasync: bool) -> None:
        """Make the file durable, with the writes of all handles and views, but not bytes held for other lanes
        (_spares_others)."""
        while True:
            writer = self._writer_of(handle)
            if self._spares_others(handle, writer) or await self.settle(writer, self._keeps_old):
                break  # else the writer's handle was released meanwhile: try the next writer, if any
        try:
            fd = await self._open_files.backing_fd_apart(handle)
        except OSError as error:
            if _matters(error, handle):
                raise
            return
        await _on_thread(self._sync, fd, datasync)

    def fsync_now(self, handle: Handle, *, datasync: bool) -> Work | None:
        """Return work that makes the file durable; None for a remote store, or if there may be held bytes."""
        if self._remote or self._may_hold(handle, open_state(handle)):
            return None
        try:
            fd = self._open_files.backing_fd(handle)
        except OSError as error:
            if _matters(error, handle):
                raise
            return Work(_nothing)
        return self.sync_file(fd, datasync=datasync)

    def sync_file(self, fd: int, *, datasync: bool) -> Work:
        """Return work that makes a file durable, and then closes the descriptor."""
        return Work(functools.partial(self._sync, fd, datasync), functools.partial(os.close, fd))

    async def settle(self, handle: Handle, spares: Callable[[Change], bool] = lambda _: False) -> bool:
        """Check the file's held bytes, and store them. Raise FUSEError(EPERM) for a refusal, and OSError of
        the store. spares: called under the node's lock; if True, nothing changes.

        Return False if the handle was released meanwhile. INVARIANT: the handle of another process (a rename,
        a reader's fsync) is used only under the node's lock, for which its release waits (finish)."""
        state = handle.node.open
        if not handle.writable:
            return True
        if state is None:
            return False
        if not self._may_hold(handle, state):
            return True

        async def make(change: Change) -> None:
            if not spares(change):
                await self._held_by(state).settle(change)

        async with state.lock:
            if handle.fd < 0:
                return False
            try:
                change = await self._decided(handle, state, make)
            finally:
                self._note_held(handle, state)
            await self._checker.note_monitored(change)
            if self._withheld_names and not self._is_doomed(handle):
                self._withheld_names.show(handle.node)
        return True

    async def settle_late(self, node: Node) -> None:
        """Store a node's late writes (Head.late) if allowed, else leave them to the next FLUSH or fsync."""
        state = node.open
        if state is None:
            return

        async def make(change: Change) -> None:
            head = state.head
            if head is None or not head.late or not change.decision.allowed:
                return
            if await self._checker.accepts(change):
                await self._head_checked.settle(change)

        async with state.lock:
            writers = (one for one in self._handles.of_node(node) if one.writable and one.fd >= 0)
            if state.is_late and (writer := next(writers, None)) is not None:
                await self._decided(writer, state, make)

    async def settle_late_of(self, node: Node, caller: Caller | None = None) -> None:
        """Store late writes through all nodes of a file; with a *caller*, those through other nodes that its
        app writes: after a reload the same app gets another node. Errors wait for the next FLUSH."""
        for each in list(self._nodes.same_inode(node.ino)):
            if each.open is None or not each.open.is_late:
                continue
            if caller is None or (each is not node and self._is_written_by(each, caller)):
                with contextlib.suppress(OSError, pyfuse3.FUSEError):
                    await self.settle_late(each)

    def _is_written_by(self, node: Node, caller: Caller) -> bool:
        lane, handles = caller.principal.lane, self._handles.of_node(node)
        return any(one.writable and one.caller.principal.lane == lane for one in handles)

    def holding(self, ino_key: int, spared: Stat | None = None) -> Handle | None:
        """Return a writable handle of a file with held bytes, or None. spared: the file's attributes, if a
        draft that only empties it does not count."""
        for node in self._nodes.same_inode(ino_key):
            state = node.open
            if state is None or not state.unsaved:
                continue
            if spared is None or state.draft is None or not state.draft.only_empties(spared):
                return next((handle for handle in self._handles.of_node(node) if handle.writable), None)
        return None

    async def finish(self, handle: Handle, *, patient: bool = True) -> None:
        """Store or drop held bytes at the last writer's release; no cancellation stops this. patient: wait
        for another daemon without a time limit.

        INVARIANT: no await before the node's lock is taken, for which later opens may wait
        (Lifecycle.emptied, released), nor by the caller between this and the handle's end: nobody else uses
        its descriptor."""
        try:
            await self._store_or_drop(handle, patient=patient)
        finally:
            if handle.changed or open_state(handle).mapped:
                self._forget_kind(handle)

    def _forget_kind(self, handle: Handle) -> None:
        """Make the kernel forget a changed file's names if its kind decides who sees them."""
        with contextlib.suppress(OSError):  # the path is too long: no caller sees the file
            if self._gate.need(handle.caller.principal, Op.SEE, handle.node) & Need.KIND:
                self._cache.forget_entries(handle.node)

    async def _store_or_drop(self, handle: Handle, *, patient: bool) -> None:
        state = open_state(handle)
        if not handle.writable or not self._may_hold(handle, state):
            return
        # Count this release even if there are other writers: all writers may be released at the same time.
        empties = False
        with contextlib.suppress(OSError):  # if the disk fails, the bytes are given up under the lock
            empties = state.draft is not None and state.draft.only_empties(self._tree.fstat(handle.fd))
        state.releases += 1
        state.emptying += empties
        try:
            with trio.CancelScope(shield=True), patiently() if patient else contextlib.nullcontext():
                await self._finish(handle, state)
        finally:
            state.releases -= 1
            state.emptying -= empties

    async def _finish(self, handle: Handle, state: OpenState) -> None:
        """Store or drop the held bytes for finish(). INVARIANT: only a writer whose open has succeeded may
        inherit them."""

        def is_last() -> bool:
            if state.writers > 1 or self._guard.written_elsewhere(handle.node):
                return False
            return not self._held.is_held_elsewhere(self._tree.fstat(handle.fd))

        async with state.lock:
            if state.has_other_writers:  # the other writer goes on with the held bytes
                return
            failed: OSError | None = None
            try:
                change = await self._decided(
                    handle, state, lambda change: self._held_by(state).finish(change, is_last)
                )
                await self._checker.note_monitored(change)
            except OSError as error:
                failed = error
                raise
            finally:
                try:
                    if not state.has_other_writers:
                        self._drop(handle, state, failed)
                finally:
                    self._note_held(handle, state)

    def _drop(self, handle: Handle, state: OpenState, error: OSError | None) -> None:
        self._withheld_names.show(handle.node)
        if state.holds_back:
            self._guard.dropped(handle.node)
        self._draft.lose(handle, state, error)

    @staticmethod
    def _may_hold(handle: Handle, state: OpenState) -> bool:
        """Return True if bytes of the file may be held, now or once the node's lock is free."""
        return state.head is not None or state.draft is not None or handle.node.view.checked

    async def _decided(
        self, handle: Handle, state: OpenState, make: Callable[[Change], Awaitable[None]]
    ) -> Change:
        """Decide on the change that stores held bytes, and make it; after a reload again. Return it."""
        while True:
            decision = await self._gate.handle(handle, WRITE)
            unchanged = functools.partial(self._gate.unchanged, self._gate.generation)
            change = Change(handle, state, decision, self._guard.fence(handle), unchanged)
            with contextlib.suppress(PolicyChangedError):
                await make(change)
                return change

    def _held_by(self, state: OpenState) -> HeadCheckedWrites | DraftWrites:
        return self._head_checked if state.draft is None else self._draft

    def _sync(self, fd: int, datasync: bool) -> None:
        try:
            self._tree.fsync(fd, datasync)
        finally:
            os.close(fd)

    def _writer_of(self, handle: Handle) -> Handle:
        """Return a handle that may write held bytes, or *handle*. (`sync FILE` opens for reading.)"""
        if handle.writable:
            return handle
        writers = (other for other in self._handles.of_node(handle.node) if other.writable)
        return next(writers, None) or self.holding(handle.node.ino) or handle

    def _waits(self, change: Change) -> bool:
        """Return True if a FLUSH must not store the draft, because it would only empty the file: a shell
        closes a copy of the descriptor before its program writes. Raise OSError (EPERM) as _keeps_old() does.
        """
        draft, stored = change.state.draft, self._tree.fstat(change.handle.fd)
        if draft is None or not change.decision.allowed or not draft.only_empties(stored):
            return False
        self._keeps_old(change)
        draft.put_off(stored)
        # From this close on, opens in other views must wait for the release (Lifecycle.emptied).
        self._nodes.vectors.drop_nodes(self._nodes.same_inode(change.handle.node.ino))
        return True

    def _keeps_old(self, change: Change) -> bool:
        """Raise OSError (EPERM) if all written bytes were refused: an emptied file keeps its old ones."""
        draft = change.state.draft
        if draft is not None and draft.refused and draft.only_empties(self._tree.fstat(change.handle.fd)):
            told = "bytes of this file were refused, and no new bytes were written since"
            raise OSError(CONTENT_REFUSED, told)
        return False

    def _spares_others(self, handle: Handle, writer: Handle) -> bool:
        """Return True if a reader's fsync must not store what only other lanes (of *writer*) write: a check
        would judge a file that its writer has not finished, and could destroy old bytes. Raise OSError
        (EBUSY) if the reader sees the held bytes: success would promise that they are kept."""
        state = writer.node.open
        if state is None or not writer.writable or state.is_late:
            return False
        writers = {self._gate.principal(uid).lane for uid in state.writer_uids}
        if handle.caller.principal.lane in writers:
            return False
        if state.unsaved and handle.node is writer.node:
            raise OSError(
                errno.EBUSY, "another app writes the file, and the written bytes are not checked yet"
            )
        return True

    def _is_doomed(self, handle: Handle) -> bool:
        """Return True for a new file with only refused content so far: its last release removes the file."""
        state = open_state(handle)
        held = state.draft or state.head
        return bool(held and held.refused and held.created and not self._tree.fstat(handle.fd).size)


async def _on_thread(call: Callable[..., None], fd: int, *args: object) -> None:
    """Call *call* on a thread. *call* closes *fd*. Raise RuntimeError if no thread can be started."""
    try:
        await trio.to_thread.run_sync(call, fd, *args)
    except RuntimeError:  # no thread can be started
        os.close(fd)
        raise


def _matters(error: OSError, handle: Handle) -> bool:
    """Return True if the app must hear of the error. A reader's file that is gone has nothing to sync."""
    return handle.writable or error.errno != errno.ESTALE


def _nothing() -> None:
    """Do nothing. fsync_now() returns this function for a file that is gone."""
