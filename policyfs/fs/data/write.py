"""Writes of mediated handles. Each write is decided again under the policy in force."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import WRITE, PolicyChangedError
from policyfs.fs.checked.change_lock import Change, patiently
from policyfs.fs.context import FsContext, FsPart, refuse_unknown
from policyfs.fs.data.write_guard import WriteGuard
from policyfs.fs.data.write_paths import DirectWrites, DraftWrites, HeadCheckedWrites, WritePath
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.store import ranges

T = TypeVar("T")
_WRITING: Final = Call("write", "write")


class FileWriter(FsPart):
    """Changes through mediated handles: it decides on each, and chooses its path (write_paths.py)."""

    def __init__(
        self,
        fs: FsContext,
        *,
        guard: WriteGuard,
        direct: DirectWrites,
        head_checked: HeadCheckedWrites,
        draft: DraftWrites,
        cache: KernelCache,
        put_off: Callable[[Node], None],
    ) -> None:
        """put_off: notes that writes of a node wait for their check (LateWrites.note)."""
        super().__init__(fs)
        self._guard = guard
        self._direct = direct
        self._head_checked = head_checked
        self._draft = draft
        self._cache = cache
        self._put_off = put_off

    async def write(
        self, handle: Handle, offset: int, data: bytes, *, append: bool, kill_priv: bool, back: bool = False,
        unique: int = 0,
    ) -> int:  # fmt: skip
        """Write if the app may now, and return the number of bytes; with *back*, that of *data*. append: at
        the file's present end. kill_priv: clear suid and sgid.

        unique: an append's number of the request.
        back: the kernel writes back a mapped page, which never makes a file longer: bytes behind the end were
        cut off meanwhile. After a refusal the kernel must drop just these pages: others would see, and write
        back, bytes that the file never held. (Other pages may be in a long write-back, for which the
        notification, and those behind it, would wait.)"""

        async def put(change: Change) -> int:
            # The kernel permits an offset after fcntl(F_SETFL), and mappings; and a draft is stored whole.
            if (
                handle.flags & os.O_APPEND
                and ranges.only_appends(handle.fd)
                and (back or not append or self._path(change) is not self._direct)
            ):
                raise OSError(errno.EPERM, "the file can only grow (chattr +a)")
            if back:
                return await self._write_back(change, offset, data)
            if kill_priv:
                self._tree.clear_killpriv(handle.fd)
            if append and self._intents.are_kept:
                return await self._on_path(change, lambda path: self._append(path, change, data, unique))
            return await self._on_path(change, lambda path: path.write(change, offset, data, append=append))

        if back:
            open_state(handle).mapped = True
        else:
            self._handles.changed(handle)
        try:
            written = await self._decided(handle, put, back=back)
        except Exception:
            self._cache.drop_pages(handle.node.nodeid, offset, len(data))
            raise
        handle.bytes_written += written
        return len(data) if back else written

    async def _append(self, path: WritePath, change: Change, data: bytes, unique: int) -> int:
        """Append once, also if a killed daemon has begun to. Refuse (EIO) if nothing tells whether it has:
        another program has changed the file's end. (Nobody else changes the end of held bytes.)"""
        fd, state = change.handle.fd, change.state
        size = stored = self._tree.fstat(fd).size
        if path is not self._direct:
            size = state.draft.size if state.draft is not None else change.head.size(stored)
        if (found := self._intents.before(unique)) is None:
            self._intents.begin(Intent(unique, ChangeKind.APPEND, Side(change.handle.node.nodeid), size=size))
            return await path.write(change, size, data, append=True)
        at = found[0].size
        if not state.holds_back:
            there = os.pread(fd, min(len(data), max(0, stored - at)), at)
            if stored < at or there != data[: len(there)]:
                refuse_unknown(self._gate, change.handle.caller, _WRITING, change.handle.node.path())
            if there:  # a part was written, or all
                rest = data[len(there) :]
                return len(there) + (await path.write(change, stored, rest, append=False) if rest else 0)
        return await path.write(change, at, data, append=False)

    def give_up(self, nodeid: int, offset: int, length: int) -> None:
        """Refuse a write whose data the bridge dropped, as too many of the uid wait; drop its pages."""
        self._cache.drop_pages(nodeid, offset, length)
        raise OSError(errno.ENOMEM, "too many bytes of this user wait to be written")

    async def _write_back(self, change: Change, offset: int, data: bytes) -> int:
        """Write a mapped page, and return how many of its bytes are in the file. Without a time limit: the
        kernel does not send the page again."""
        async with change.state.lock:
            change.fence()
            try:
                with patiently():
                    return await self._path(change).write_back(change, offset, data)
            finally:
                self._note(change)

    async def truncate(self, handle: Handle, size: int, *, by_path: bool = False) -> None:
        """Set the size of an open file. by_path: True if the file was opened only for truncate(2)."""

        async def cut(change: Change) -> None:
            async def on(path: WritePath) -> None:
                if size == 0 and not by_path and path is not self._draft:
                    self._gate.require_writing_empty(handle, Call("truncate", "ftruncate"))
                await path.truncate(change, size, by_path=by_path)

            await self._on_path(change, on)

        self._handles.changed(handle)
        await self._decided(handle, cut, size)

    async def set_size(self, handle: Handle, size: int, call: Call) -> None:
        """Set the size of a raw file without a check: in passthrough the app may write any bytes anyway."""

        async def cut(change: Change) -> None:
            await self._direct.truncate(change, size, by_path=False)

        self._handles.changed(handle)
        await self._decided(handle, cut, size, call)

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """Reserve space or make zeros, as fallocate(2). In passthrough without a check, as set_size(): the
        app's writes go into the store's file, and a draft would lack them."""

        async def allocate(change: Change) -> None:
            self._tree.clear_killpriv(handle.fd)
            if handle.mode is Mode.PASSTHROUGH:
                await self._direct.allocate(change, mode, offset, length)
            else:
                await self._on_path(change, lambda path: path.allocate(change, mode, offset, length))

        self._handles.changed(handle)
        await self._decided(handle, allocate, call=Call("write", "fallocate"))

    async def copy_into(
        self, handle: Handle, fd: int, source_at: int, target_at: int, length: int, *, by_kernel: bool = False
    ) -> int:
        """Copy a range of *fd* into a raw handle's file. Return the number of bytes. by_kernel: raise OSError
        (ENOSYS) after the decision, so that the kernel copies."""

        async def copy(change: Change) -> int:
            # After a reload, writes to the open file may be checked, or a part of the file may be hidden.
            # Then the app must use write(2): its guard runs right before each change, with no await between.
            if change.decision.content or self._guard.may_hide(handle):
                raise OSError(errno.EOPNOTSUPP, "writes are checked here: use write")
            if by_kernel:
                raise OSError(errno.ENOSYS, "the kernel reads and writes both files without the daemon")
            self._tree.clear_killpriv(handle.fd)
            return await change.in_thread(ranges.copy, fd, source_at, handle.fd, target_at, length)

        self._handles.changed(handle)
        copied = await self._decided(handle, copy, call=Call("write", "copy_file_range"))
        self._guard.wrote(handle, counts=False)
        handle.bytes_written += copied
        return copied

    async def _decided(
        self, handle: Handle, make: Callable[[Change], Awaitable[T]], size: int | None = None,
        call: Call = _WRITING, *, back: bool = False,
    ) -> T:  # fmt: skip
        """Call *make* with the change once it is allowed; after a reload its fence raises: again."""
        while True:
            try:
                return await make(await self._allowed(handle, size, call, back=back))
            except PolicyChangedError:
                continue

    async def _allowed(
        self, handle: Handle, size: int | None = None, call: Call = _WRITING, *, back: bool = False
    ) -> Change:
        """Return the change, or refuse it. INVARIANT: no await between the decision and the return."""
        decision = await self._gate.handle(handle, WRITE)
        if not decision.allowed:
            self._gate.refuse(handle.caller, call, handle.node.path(), decision)
        unchanged = functools.partial(self._gate.unchanged, self._gate.generation)
        fence = self._guard.fence(handle, size, back=back)
        fence()
        return Change(handle, open_state(handle), decision, fence, unchanged)

    async def _on_path(self, change: Change, make: Callable[[WritePath], Awaitable[T]]) -> T:
        """Call *make* with a change's path. INVARIANT: if bytes may be held, path and fence are looked at
        under the node's lock: another change may begin a draft meanwhile."""
        path = self._path(change)
        if path is self._direct:
            return await make(path)
        async with change.state.lock:
            change.fence()
            try:
                return await make(self._path(change))
            finally:
                self._note(change)

    def _note(self, change: Change) -> None:
        self._note_held(change.handle, change.state)
        if change.state.is_late:
            self._put_off(change.handle.node)

    def _path(self, change: Change) -> WritePath:
        state, decision = change.state, change.decision
        if state.draft is not None or decision.in_draft:
            return self._draft
        if state.head is None and decision.content:
            state.head = Head(self._tree.fstat(change.handle.fd).size)
        if state.head is not None and (decision.content or state.head.held):
            return self._head_checked
        return self._direct
