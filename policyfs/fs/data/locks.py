"""Locks of apps: flock(2) and fcntl(2), taken on the store's files (store/locking/locks.py), also for readers
of a copy.

Nothing is decided here: a lock tells nothing about bytes, and the kernel keeps exclusive ranges to writers.
The new holder must see the last one's changes, so before a grant the kernel forgets the node's size, and its
pages if the daemon serves them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

import trio

from policyfs.errors import PolicyfsError
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext
from policyfs.fs.error_boundary import guarded, guarded_now
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.saved.saved_locks import SavedLocks
from policyfs.kernel import requests
from policyfs.kernel.operations import BugLog, Handler, Quick, Request
from policyfs.kernel.protocol import Opcode
from policyfs.store.locking.locks import Holder, Inode, LockStats, LockTable
from policyfs.store.locking.ofd import UNLCK, WRLCK, Asked, Owner
from policyfs.store.spans import LAST_BYTE, Spans

_FIRST_S: Final = 0.001
_LAST_S: Final = 0.05
_SLOWER: Final = 1.5
"""The pause before another try grows from _FIRST_S by this factor to _LAST_S."""
_EACH_S: Final = 0.0005
"""The seconds that each waiting request adds to the pause, so that many cost no more than one."""

FindFile = Callable[[Handle], int]
"""Function that returns a descriptor of a handle's file, for the caller, or raises StaleNodeError."""


class Locks:
    """The handler of the lock requests of one mount."""

    def __init__(
        self,
        fs: FsContext,
        *,
        table: LockTable,
        find_file: FindFile,
        cache: KernelCache,
        bugs: BugLog,
    ) -> None:
        self._table = table
        self._tree = fs.tree
        self._handles = fs.handles
        self._find_file = find_file
        self._cache = cache
        self._somebody_waits = trio.Event()
        self._pause_s = _FIRST_S
        self.bugs = bugs
        self.policy_record = fs.gate.policy_record

    def save_to(self, saved: SavedLocks) -> None:
        """Save each change of locks from now on."""
        self._table.changed = saved.changed

    def restore(self, saved: SavedLocks, *, is_same: Callable[[int, Inode], bool]) -> None:
        """Continue the locks of the daemon before. Locks of lost handles are released: apps can change
        nothing through these. is_same: tells if a descriptor is of an inode. Raise PolicyfsError if a lock is
        lost: its app would go on as if it had it."""
        for one in saved.read():
            handles = {fh for fh in one.handles if not self._handles.is_lost(fh)}
            if not is_same(one.fd, one.inode) or _writes(one.fd) != one.writable:
                raise PolicyfsError("a lock of an app was lost")
            if not handles:
                saved.drop(one)
                os.close(one.fd)
                continue
            spans = Spans()
            for span in one.spans:
                spans.lock(span.start, span.end, exclusive=span.exclusive)
            app = self._handles.get(min(handles)).caller.holder
            holder = Holder(one.inode, one.owner, app, one.fd, one.writable, spans, one.pid, handles)
            if not self._table.restore(holder):
                raise PolicyfsError("a lock of an app was lost: another program has it")

    def requests(self) -> dict[Opcode, Handler]:
        """Return the handlers of the lock requests."""
        return {Opcode.GETLK: self.getlk, Opcode.SETLK: self.setlk, Opcode.SETLKW: self.setlk}

    def quick_requests(self) -> dict[Opcode, Quick]:
        """Return the handlers of lock requests that need not wait. Most requests need not wait."""
        return {Opcode.SETLK: self.setlk_now, Opcode.SETLKW: self.setlk_now}

    def stats(self) -> LockStats:
        """Return the present counts."""
        return self._table.stats()

    # -- requests -----------------------------------------------------------------------------------

    @guarded
    async def getlk(self, request: Request) -> bytes:
        """Answer GETLK: return the lock that conflicts, or UNLCK if there is none."""
        lock = requests.lock(request)
        asked = _asked(lock)
        handle = self._handles.get(lock.fh)
        inode, owner = _inode(handle.node), Owner(lock.owner, lock.flock)
        fd = -1
        if self._table.find(inode, owner) is None:
            fd = self._open(handle, os.O_RDONLY)
        try:
            found = self._table.blocker(inode, owner, asked, fd)
        finally:
            if fd >= 0:
                os.close(fd)
        if found is None:
            return requests.lock_reply(asked.start, asked.end, UNLCK, 0)
        return requests.lock_reply(*found)

    @guarded_now
    def setlk_now(self, request: Request) -> bytes | None:
        """Answer SETLK or SETLKW, or return None if it must wait, for a lock or for pages to be forgotten. (A
        database's commit needs nine locks.)"""
        lock = requests.lock(request)
        asked = _asked(lock)
        handle = self._handles.get(lock.fh)
        inode, owner = _inode(handle.node), Owner(lock.owner, lock.flock)
        if asked.kind == UNLCK:
            holder = self._table.find(inode, owner)
            if holder is not None:
                self._table.attempt(holder, asked, lock.fh)
            return b""
        if handle.mode is Mode.MEDIATED:
            return None
        holder = self._holder(handle, inode, owner, exclusive=asked.kind == WRLCK)
        if not self._table.attempt(holder, asked, lock.fh):
            if not lock.sleep:
                raise BlockingIOError(errno.EAGAIN, "another process or open file has the lock")
            return None
        if self._changed(handle, holder):
            self._cache.forget_attributes_now(handle.node.nodeid)
        return b""

    @guarded
    async def setlk(self, request: Request) -> bytes:
        """Answer SETLK or SETLKW after setlk_now() returned None. SETLKW waits until a signal comes."""
        lock = requests.lock(request)
        asked = _asked(lock)
        handle = self._handles.get(lock.fh)
        inode, owner = _inode(handle.node), Owner(lock.owner, lock.flock)
        holder = self._holder(handle, inode, owner, exclusive=asked.kind == WRLCK)
        if not self._table.attempt(holder, asked, lock.fh):
            if not lock.sleep:
                raise BlockingIOError(errno.EAGAIN, "another process or open file has the lock")
            await self._wait(request, holder, asked, lock.fh)
        if self._changed(handle, holder):
            await self._cache.forget_seen(handle.node.nodeid, pages=handle.mode is Mode.MEDIATED)
        return b""

    def _holder(self, handle: Handle, inode: Inode, owner: Owner, *, exclusive: bool) -> Holder:
        """Return a lock owner's holder, with a writable descriptor for an exclusive range. (Only of a
        writable handle: no lease is left that it could break. O_APPEND: else EPERM for a file that can only
        grow.)"""
        flags = os.O_RDWR | os.O_APPEND if handle.writable else os.O_RDONLY
        holder = self._table.find(inode, owner)
        if holder is None:
            app = handle.caller.holder  # not the principal's key, which all strangers share
            self._table.room(app)
            fd = self._open(handle, flags)
            return self._table.add(inode, owner, app, fd, writable=handle.writable)
        if exclusive and handle.writable and not holder.writable:
            self._table.strengthen(holder, self._open(handle, flags))
        return holder

    def _open(self, handle: Handle, flags: int) -> int:
        """Open a handle's file anew. Raise OSError (ENOLCK) if no name leads to it."""
        try:
            found = self._find_file(handle)
        except StaleNodeError:
            raise OSError(errno.ENOLCK, "the file has no name in the store any more") from None
        try:
            return self._tree.reopen(found, flags)
        finally:
            os.close(found)

    async def _wait(self, request: Request, holder: Holder, asked: Asked, fh: int) -> None:
        """Wait until the lock is granted. Raise OSError: EINTR, EDEADLK, ENOLCK, or the store's error."""
        answers: list[int] = []
        answered = trio.Event()

        def told(error: int) -> None:
            answers.append(error)
            answered.set()

        waiter = self._table.wait(holder, asked, fh, told)
        self._pause_s = _FIRST_S
        self._somebody_waits.set()
        request.rests()  # the holder may have the same uid, and its unlock request must get through
        try:
            with request.interruptible():
                await answered.wait()
        finally:
            self._table.cancel(waiter)
        # A lock that was granted just before the signal stays granted: a killed process drops it at its end.
        error = answers[0] if answers else errno.EINTR
        if error:
            raise OSError(error, os.strerror(error))

    def _changed(self, handle: Handle, holder: Holder) -> bool:
        """Return True if the kernel may not know the changes of the file by the last holder of the lock."""
        node, state = handle.node, handle.node.open
        if state is None or node.byte_path is BytePath.COPY:  # a copy never changes
            return False
        if self._table.find(holder.inode, holder.owner) is not holder:
            return True  # after a wait: another thread's close(2) released the lock, and closed holder.fd
        version = version_of(self._tree.fstat(holder.fd))
        changed = handle.mode is Mode.MEDIATED or state.locked != version
        state.locked = version
        return changed

    # -- the end of locks ---------------------------------------------------------------------------

    def flushed(self, handle: Handle, owner: int) -> None:
        """Release a process's POSIX locks after it has closed a descriptor (fcntl(2)). INVARIANT: called
        before the first await of FLUSH, so that requests after close(2) can get them."""
        self._table.drop(_inode(handle.node), Owner(owner, flock=False))

    def released(self, handle: Handle) -> None:
        """Release the flock and OFD locks of an open file after its last close. INVARIANT: called before the
        first await of RELEASE, which close(2) does not wait for."""
        self._table.released(handle.fh)

    async def ask_again(self) -> None:
        """Try waiting requests again and again, as a task, for locks of processes outside the mount."""
        while True:
            await self._somebody_waits.wait()
            while self._table.waiting:
                await trio.sleep(self._pause_s + self._table.waiting * _EACH_S)
                self._pause_s = min(_LAST_S, self._pause_s * _SLOWER)
                self._table.retry_all()
            self._somebody_waits = trio.Event()

    def close(self) -> None:
        """Release every lock that an app has through this mount."""
        with contextlib.suppress(trio.RunFinishedError):
            self._table.close()


def _writes(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) == os.O_RDWR


def _inode(node: Node) -> Inode:
    return node.ino, node.btime_ns


def _asked(lock: requests.Lock) -> Asked:
    if not 0 <= lock.start <= lock.end <= LAST_BYTE:
        raise OSError(errno.EINVAL, "no such byte range")
    return Asked(lock.start, lock.end, lock.kind, lock.pid)
