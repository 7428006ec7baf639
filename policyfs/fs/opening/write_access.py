"""Write access to a file: break leases, clear set-id bits and capabilities, and empty it for O_TRUNC last."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio

from policyfs.domain import OWNER_NONE
from policyfs.fs.access.views import Views, version_of
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle, looks_empty
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.linux.statx import Stat, is_append_only
from policyfs.store.locking.leases import break_foreign

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LEASE_WAIT_S: Final = 50.0
"""The longest wait for another program's lease: longer than the kernel's lease-break-time."""


class WriteAccess(FsPart):
    """The part of a mount that opens the store's files for writing."""

    def __init__(
        self, fs: FsContext, *, views: Views, leased: LeasedFiles, change_lock: ChangeLock, drafts: Drafts,
        cache: KernelCache,
    ) -> None:  # fmt: skip
        super().__init__(fs)
        self._views = views
        self._leased = leased
        self._change_lock = change_lock
        self._drafts = drafts
        self._cache = cache

    async def grant(self, opening: OpenContext) -> None:
        """Give the handle a descriptor for writing, if the open may change the file."""
        handle, node = opening.handle, opening.request.node
        if opening.request.writing:
            handle.fd = await self.writer(node, opening.fd, appends=self._may_only_append(opening))
            request, decision = opening.request, opening.decision
            await self._kept.before_writing(handle, request.call, decision, opening.stat, opening.owner)
            await self.before_writing(node, handle, opening.stat)

    @staticmethod
    def _may_only_append(opening: OpenContext) -> bool:
        """True if the file can only grow (chattr +a), and the open may append: bytes go there at once."""
        appends = bool(opening.request.flags & os.O_APPEND) and not opening.decision.content
        return appends and is_append_only(opening.fd)

    async def writer(self, node: Node, fd: int, *, appends: bool = False) -> int:
        """Break every lease on the file behind *fd*, and return a descriptor for writing, which keeps leases
        away until the kernel has opened the backing file. appends: each write goes to the file's end. Raise
        OSError: EBUSY if a program keeps its lease too long, or the mount ends; EPERM if the file can only
        grow, and not *appends*."""
        self._leased.give_way(node.ino)
        probe = await self._called(break_foreign, fd)
        with trio.move_on_after(_LEASE_WAIT_S):
            while probe is None and not self._cache.is_over():
                await trio.sleep(0.005)
                probe = await self._called(break_foreign, fd)
        if probe is None:
            raise OSError(errno.EBUSY, "a program does not give up its lease on the file")
        try:
            return await self._called(self._tree.reopen, fd, os.O_RDWR | (os.O_APPEND if appends else 0))
        finally:
            os.close(probe)

    async def before_writing(self, node: Node, handle: Handle, stat: Stat) -> None:
        """Clear set-id bits, capabilities, and another app's ownership (on a thread: it can wait for an app's
        write, which can wait for the loop). Note the version before the first write. Raise StaleNodeError if
        the file has lost its last name since *stat* (not for replaced files)."""
        if self._tree.clear_killpriv(handle.fd):
            self._cache.forget_names(node)  # the kernel may keep the old mode
        # INVARIANT: read the owner after the file is open for writing. From then on, `policyfs owner set`
        # refuses to make an app the owner.
        owner = self._gate.facts.owners.get(handle.fd, stat)
        if owner not in {OWNER_NONE, handle.caller.principal.app}:
            await trio.to_thread.run_sync(self._gate.facts.owners.set, handle.fd, stat, OWNER_NONE)
            self._cache.forget_names(node)  # the owner may decide who sees these names
        self._views.writer_came(node.ino, node.view)
        now = self._tree.fstat(handle.fd)
        # INVARIANT: this comes after Lifecycle.begin(). From then on, no refused file is removed while this
        # writer has it open (Rejections.remove); but before, it may have been.
        if stat.nlink and not now.nlink and self._replaced_files.find(node) < 0:
            raise StaleNodeError
        if not handle.flags & os.O_TRUNC:
            self._see(handle, now)

    def _see(self, handle: Handle, stat: Stat) -> None:
        """Note the version at which the handle begins to write. Raise StaleNodeError if the app may write
        only because the file is empty, and another writer has written since."""
        if handle.emptied and not looks_empty(handle.node, stat):
            raise StaleNodeError
        handle.seen = version_of(stat)

    def still_empty(self, opening: OpenContext) -> None:
        """Raise StaleNodeError if the app may write only because its draft had emptied the file, and that
        draft is gone.

        INVARIANT: no await before Lifecycle.succeed(): then no writer's release drops the draft."""
        if opening.handle.emptied and opening.stat.size and not opening.request.empties:
            self._see(opening.handle, self._tree.fstat(opening.handle.fd))

    async def empty(self, opening: OpenContext, check: Callable[[OpenContext], None]) -> None:
        """Empty the file for O_TRUNC, after every step that could refuse. check: Preconditions.check_emptied,
        called again, since the draft that kept the bytes may have ended.

        INVARIANT: a thread empties the file. During an app's passthrough write the kernel holds the file's
        lock while it reads the app's pages, maybe of a mediated file: the loop must be free to send them."""
        handle, state = opening.handle, opening.shared
        if not opening.request.empties:
            return
        self._handles.changed(handle)

        def cut() -> None:
            self._gate.unchanged(handle.generation)  # again: this call may have waited for a free thread
            self._tree.truncate_fd(handle.fd, 0)

        async with state.lock:  # a draft may have begun during the wait for the lock
            # A reader's O_TRUNC empties the file itself: a reader has no draft, and an empty file shows
            # nothing.
            if state.draft is not None or (opening.decision.in_draft and handle.writable):
                try:
                    await self._drafts.empty(handle, state)
                finally:
                    self._note_held(handle, state)
                return
            check(opening)
            if opening.decision.content and handle.writable and await self._drafts.keep_old(handle, state):
                self._note_held(handle, state)
                return
            await self._change_lock.in_thread(
                handle.fd, partial(self._gate.unchanged, handle.generation), cut
            )
            if state.head is not None:
                state.head = Head(0, created=state.head.created)
                self._note_held(handle, state)
            self._see(handle, self._tree.fstat(handle.fd))
            self._gate.unchanged(handle.generation)  # if it has changed, the kernel opens again

    async def _called(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self._remote:
            return await trio.to_thread.run_sync(function, *arguments)
        return function(*arguments)
