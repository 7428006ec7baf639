"""The three write paths: the ways in which an app's changes reach the store's file.

DirectWrites: at once, without content requirements. HeadCheckedWrites: after a check of the first bytes.
DraftWrites: into an unnamed file, which is checked as a whole. FileWriter chooses anew for each change: the
policy may have changed, or a draft begun."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import Change, ChangeLock
from policyfs.fs.checked.draft_storage import copy_cut
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker, UnknownBeginningError
from policyfs.fs.data.write_guard import WriteGuard
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Draft, Head
from policyfs.store import freeing, ranges
from policyfs.store.frozen import Version
from policyfs.store.ranges import put_all
from policyfs.store.tree import Tree

_INLINE_WRITE: Final = 64 * 1024
"""The largest write, in bytes, that the loop makes itself, if the store is local. Under redaction, and for
appends to a local store, it makes all."""
_TRIES: Final = 3
"""The number of tries to change a file on a thread while other programs write the file."""


class WritePath(Protocol):
    """One write path. Its methods raise OSError of the store, and FUSEError for a refusal, on record.
    write_back is called under the node's lock. A path that holds bytes has settle() and finish(), too."""

    async def write(self, change: Change, offset: int, data: bytes, *, append: bool) -> int:
        """Write *data* as write(2) does. append: at the file's end. Return the number of bytes written."""

    async def write_back(self, change: Change, offset: int, data: bytes) -> int:
        """Write a mapped page up to the file's end. Return how many of its bytes are in the file. INVARIANT:
        a part that cannot be written is an error, since no app gets the count."""

    async def truncate(self, change: Change, size: int, *, by_path: bool) -> None:
        """Set the size. by_path: True for truncate(2), False for ftruncate(2)."""

    async def allocate(self, change: Change, mode: int, offset: int, length: int) -> None:
        """Reserve space or make zeros, as fallocate(2) does."""


class DirectWrites:
    """The write path of files without content requirements. No bytes are held."""

    def __init__(self, tree: Tree, guard: WriteGuard, change_lock: ChangeLock, *, remote: bool) -> None:
        """remote: True if another process or machine serves the store."""
        self._tree = tree
        self._guard = guard
        self._change_lock = change_lock
        self._remote = remote

    async def write(self, change: Change, offset: int, data: bytes, *, append: bool) -> int:
        """Write to the store's file at once. INVARIANT: under redaction no await since the caller's fence."""
        handle, flags = change.handle, os.RWF_APPEND if append else 0
        slow = self._remote or (len(data) > _INLINE_WRITE and not append)
        on_thread = slow and not self._guard.may_hide(handle)
        if on_thread:
            written = await change.in_thread(ranges.write, handle.fd, data, offset, flags)
        else:
            written = ranges.write(handle.fd, data, offset, flags)
        self._guard.wrote(handle, counts=not on_thread)
        return written

    async def write_back(self, change: Change, offset: int, data: bytes) -> int:
        """Write a mapped page up to the file's end, after the fence again: the caller waited for the node's
        lock.

        INVARIANT: under redaction no await between fence and write, and nobody, in any view or daemon,
        truncates the file between the look at its size and the write, or cut bytes would come back."""
        handle = change.handle
        on_thread = self._remote and not self._guard.may_hide(handle)
        if on_thread:
            put = partial(self._put_back, change, offset, data)
            written = await self._change_lock.in_thread(handle.fd, change.fence, put)
        else:
            async with self._change_lock.on(handle.fd):
                change.fence()
                written = self._put_back(change, offset, data)
        self._guard.wrote(handle, counts=not on_thread)
        return written

    def _put_back(self, change: Change, offset: int, data: bytes) -> int:
        change.on_thread()
        fd = change.handle.fd
        data = data[: max(0, self._tree.fstat(fd).size - offset)]
        put_all(fd, data, offset)
        return len(data)

    async def truncate(self, change: Change, size: int, *, by_path: bool) -> None:
        """Set the size, on a thread if many blocks are freed. INVARIANT: the version noted has the size of
        the cut, so that bytes of a program that writes right after it do not count as the app's."""
        handle, left = change.handle, None
        cut = partial(self._tree.truncate_path if by_path else self._tree.truncate_fd, handle.fd, size)
        hides = self._guard.may_hide(handle)
        if freeing.is_much(self._tree.fstat(handle.fd), size):
            left = await self._on_thread(change, cut, hides=hides)
        on_loop = left is None
        if left is None:
            async with self._change_lock.on(handle.fd):
                change.fence()
                cut()
                left = version_of(self._tree.fstat(handle.fd))
        if size == 0 and (on_loop or hides):
            self._guard.emptied(handle)
        self._guard.wrote(handle, left._replace(size=size))

    async def allocate(self, change: Change, mode: int, offset: int, length: int) -> None:
        """Reserve space or make zeros in the store's file, on a thread: a range can have many blocks."""
        handle, left = change.handle, None
        allocate = partial(ranges.allocate, handle.fd, mode, offset, length)
        hides = self._guard.may_hide(handle)
        if not hides:
            await change.in_thread(allocate)
        else:
            left = await self._on_thread(change, allocate, hides=True)
            if left is None:
                change.fence()
                allocate()
        self._guard.wrote(handle, left, counts=hides)

    async def _on_thread(self, change: Change, make: Callable[[], None], *, hides: bool) -> Version | None:
        """Call *make* on a thread, and return the file's version after it. INVARIANT: if something may be
        hidden (*hides*), only the version that the fence saw is changed; None if others write it each time.
        """
        fd, allowed = change.handle.fd, list[Version]()

        def fenced() -> None:
            change.fence()
            allowed.append(version_of(self._tree.fstat(fd)))

        def run() -> Version | None:
            change.on_thread()
            if hides and version_of(self._tree.fstat(fd)) != allowed[-1]:
                return None
            make()
            return version_of(self._tree.fstat(fd))

        for _ in range(_TRIES):
            left = await self._change_lock.in_thread(fd, fenced, run)
            if left is not None:
                return left
        return None


class DraftWrites:
    """The write path of files that are checked as a whole: changes go into the file's draft."""

    def __init__(self, tree: Tree, guard: WriteGuard, drafts: Drafts) -> None:
        self._tree = tree
        self._guard = guard
        self._drafts = drafts

    async def write(self, change: Change, offset: int, data: bytes, *, append: bool) -> int:
        draft, ends = await self._begin(change), False
        if draft.until_kind and not change.decision.in_draft:
            offset, append = draft.size if append else offset, False
            ends = await self._drafts.has_kind(change, draft, offset, data)
        written = await self._drafts.write(draft, offset, data, append=append)
        if ends:
            await self.settle(change)
        return written

    async def keep_old(self, change: Change) -> bool:
        """Begin a draft in place of emptying the file, as Drafts.keep_old() does."""
        return await self._drafts.keep_old(change.handle, change.state)

    async def write_back(self, change: Change, offset: int, data: bytes) -> int:
        draft = await self._begin(change)
        data = data[: max(0, draft.size - offset)]
        await _write_whole(lambda at, part: self._drafts.write(draft, at, part, append=False), offset, data)
        return len(data)

    async def truncate(self, change: Change, size: int, *, by_path: bool) -> None:
        if size == 0:
            await self._drafts.empty(change.handle, change.state)
            self._guard.emptied(change.handle)
        elif by_path and change.state.writers > 1:
            await self._cut_apart(change, size)
        else:
            await self._drafts.truncate(await self._begin(change), size)

    async def _cut_apart(self, change: Change, size: int) -> None:
        """Store a cut copy of the draft as the new draft. If refused, other writers keep their draft."""
        handle, state, draft = change.handle, change.state, await self._begin(change)
        cut = self._drafts.new(handle, self._tree.fstat(handle.fd))
        await copy_cut(draft, cut, size)
        try:
            await self._drafts.settle(change, cut)
            self._guard.wrote(handle, handle.seen)
        finally:
            kept, dropped = (draft, cut) if cut.changed and not cut.torn else (cut, draft)
            state.draft = kept
            await dropped.closed()

    async def allocate(self, change: Change, mode: int, offset: int, length: int) -> None:
        await self._drafts.allocate(await self._begin(change), mode, offset, length)

    async def settle(self, change: Change) -> None:
        """Put the draft into the store, and end it if no rule requires it (it waited for the first bytes;
        each fsync would copy the whole file)."""
        state, draft = change.state, _draft(change)
        handle = change.handle
        if await self._drafts.settle(change, draft):
            self._guard.wrote(handle, handle.seen)
        if not change.decision.in_draft:
            stored = self._tree.fstat(handle.fd).size
            state.draft, state.head = None, Head(stored, created=draft.created, refused=draft.refused)
            await draft.closed()

    async def finish(self, change: Change, is_last: Callable[[], bool]) -> None:
        handle, state, draft = change.handle, change.state, _draft(change)
        waited = draft.changed
        await self._drafts.finish(change, draft, is_last)
        stored = waited and not draft.changed
        if stored:
            self._guard.wrote(handle, handle.seen)
        if not state.has_other_writers:
            state.draft = state.head = None
            self._drafts.give_up(handle, draft)
            if stored or draft.refused or draft.cleaned_of:
                self._guard.dropped(handle.node)

    def lose(self, handle: Handle, state: OpenState, error: OSError | None) -> None:
        """Drop held bytes that have no writer any more, after an error (Drafts.lose)."""
        self._drafts.lose(handle, state, error)

    async def _begin(self, change: Change) -> Draft:
        return await self._drafts.begin(change.handle, change.state, change.fence)


class HeadCheckedWrites:
    """The write path of files that must have an allowed kind: each change is checked by the new first bytes.

    draft: takes over a file with a change that no head can take (UnknownBeginningError), as programs make
    that write blocks in parallel, or reserve the length first.
    """

    def __init__(self, tree: Tree, guard: WriteGuard, checker: Checker, draft: DraftWrites) -> None:
        self._tree = tree
        self._guard = guard
        self._checker = checker
        self._draft = draft

    async def write(self, change: Change, offset: int, data: bytes, *, append: bool) -> int:
        at = self._size(change) if append else offset
        try:
            written = await self._checker.write(change, at, data, append=append)
        except UnknownBeginningError:
            return await self._draft.write(change, offset, data, append=append)
        self._wrote(change)
        return written

    async def write_back(self, change: Change, offset: int, data: bytes) -> int:
        data = data[: max(0, self._size(change) - offset)]
        try:
            await _write_whole(partial(self._checker.write, change), offset, data)
        except UnknownBeginningError:
            return await self._draft.write_back(change, offset, data)
        self._wrote(change)
        return len(data)

    async def truncate(self, change: Change, size: int, *, by_path: bool) -> None:
        if size == 0 and not by_path and await self._draft.keep_old(change):
            self._guard.emptied(change.handle)
            return
        try:
            await self._checker.truncate(change, size)
        except UnknownBeginningError:
            await self._draft.truncate(change, size, by_path=by_path)
            return
        if size == 0:
            self._guard.emptied(change.handle)
        self._wrote(change)

    async def allocate(self, change: Change, mode: int, offset: int, length: int) -> None:
        try:
            await self._checker.allocate(change, mode, offset, length)
        except UnknownBeginningError:
            await self._draft.allocate(change, mode, offset, length)
            return
        self._wrote(change)

    async def settle(self, change: Change) -> None:
        if change.state.head is not None and change.state.head.held:
            await self._checker.settle(change)
            self._wrote(change)

    async def finish(self, change: Change, is_last: Callable[[], bool]) -> None:
        state, head = change.state, change.state.head
        if head is not None:
            held = head.held
            await self._checker.finish(change, is_last)
            # INVARIANT: a writer that opened the node while this writer was ending goes on with the head.
            if not state.has_other_writers:
                state.head = None
                if held:
                    self._guard.dropped(change.handle.node)

    def _size(self, change: Change) -> int:
        return change.head.size(self._tree.fstat(change.handle.fd).size)

    def _wrote(self, change: Change) -> None:
        """Note the change of the store's file. Do nothing if only held bytes have changed."""
        version, change.head.left = change.head.left, None
        if version is not None:
            self._guard.wrote(change.handle, version)


async def _write_whole(write: Callable[[int, bytes], Awaitable[int]], offset: int, data: bytes) -> None:
    """Write all of *data* from *offset* on. A call of *write* may write only a part."""
    view = memoryview(data)
    while view:
        done = await write(offset, bytes(view))
        view, offset = view[done:], offset + done


def _draft(change: Change) -> Draft:
    draft = change.state.draft
    if draft is None:
        raise RuntimeError("a draft that is not there")
    return draft
