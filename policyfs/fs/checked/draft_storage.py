"""The way of a draft's bytes into the store's file, once its check has allowed them."""

from __future__ import annotations

import errno
import os
from typing import Final

import trio

from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.head_writes import Fence, put_all
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.pending_writes import Draft, base_of
from policyfs.store import ranges
from policyfs.store.frozen import Version
from policyfs.store.ranges import KEEP_SIZE
from policyfs.store.tree import Tree

_PIECE: Final = 1 << 20
"""The number of bytes that go into the store at a time, while no other daemon changes the file."""
_TRIES: Final = 100
"""The limit of tries to begin storing a draft because others change the file meanwhile."""
_TORN: Final = "only a part of it is in the file: another program wrote there, or the store failed"
_TORN_UNCLEANED: Final = f"{_TORN}; it was not cleaned"


class DraftStorage:
    """Copies drafts into the files of one store. The caller holds the lock of the draft's node.

    shares_blocks: True if two files of the store can share blocks (reflink).
    """

    def __init__(self, tree: Tree, change_lock: ChangeLock, *, shares_blocks: bool) -> None:
        self._tree = tree
        self._change_lock = change_lock
        self._shares_blocks = shares_blocks

    async def store(
        self, handle: Handle, draft: Draft, fence: Fence, on_thread: Fence, source: int
    ) -> None:
        """Copy the draft (or its cleaned copy) from *source* into the store's file, or share its blocks.

        It is copied piece by piece, so that no other change by this daemon waits long. Other daemons wait for
        all of it: none can stop it half way. The file is written in place, and cut to its length last: if its
        space were freed first, other files could take it.

        INVARIANT: before each piece the file's bytes are as the last piece left them, or as they were when
        the draft began. *fence* is called before the first piece, since from then on all bytes in the file
        are of this draft; so is *on_thread*, by the thread, since that may have waited for its turn.

        After an error of the store this can be tried again: draft.base is then the state that the failed
        piece left. As long as only a part of the draft is in the file, draft.torn is set. The daemon's end
        waits for the last piece, however long the disk takes.

        Raises OSError (EBUSY) if others have changed the file at each of _TRIES tries to begin: then the file
        has its old bytes. From the first piece on, changes that leave the bytes alone do no harm.
        """
        if self._may_share(handle.fd, draft.size):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_write_out, source, handle.fd)
        with trio.CancelScope(shield=True):  # from an fsync that the daemon's end interrupts
            async with self._change_lock.apart(handle.fd):
                await self._copy(handle, draft, fence, on_thread, source)

    async def _copy(
        self, handle: Handle, draft: Draft, fence: Fence, on_thread: Fence, source: int
    ) -> None:
        """Copy all pieces of the draft."""
        size, at, tries = draft.size, 0, 0
        allowed: list[Version] = []
        while tries < _TRIES:

            def fenced(at: int = at) -> None:
                if at == 0:
                    fence()
                    allowed[:] = [version_of(self._tree.fstat(handle.fd))]

            def put(at: int = at) -> int | None:
                if at == 0:
                    on_thread()
                return self._put(handle, draft, source, size, at, allowed[0])

            reached = await self._change_lock.in_thread(handle.fd, fenced, put)
            if reached is None:
                tries += 1
            elif reached >= size:
                return
            else:
                at = reached
        raise OSError(errno.EBUSY, "other programs change this file all the time")

    def _put(
        self, handle: Handle, draft: Draft, source: int, size: int, at: int, allowed: Version
    ) -> int | None:
        """Copy the next piece, on a thread, if the file is as expected. Return the next piece's offset.

        allowed: the file's version at the fence. None if the first piece finds another one, perhaps only of
        its mode: try again with that. Raises OSError (EBUSY) if another program has written the file.

        draft.base says nothing from the second piece on, unless it is the file's state: if an app sets times
        just when the last piece ends, there is none (Draft.dated).
        """
        now = self._tree.fstat(handle.fd)
        same = base_of(now) == draft.base
        if at == 0:
            if not same and (now.size or not draft.began_empty):
                raise _changed()
            return self._put_piece(handle, draft, source, size, at) if version_of(now) == allowed else None
        if same:
            return self._put_piece(handle, draft, source, size, at)
        # An app that may only set times must not make us leave a file half written. All the rest is copied at
        # once: after each further piece the bytes would have to be compared again.
        sizes = {max(allowed.size, at), max(allowed.size, size)}  # the latter by _lengthen
        if now.size not in sizes or not _alike(source, handle.fd, at):
            raise _changed()
        while at < size:
            at = self._put_piece(handle, draft, source, size, at)
        return at

    def _put_piece(self, handle: Handle, draft: Draft, source: int, size: int, at: int) -> int:
        """Copy the next piece of *source* into the store, on a thread. Return the next piece's offset."""
        try:
            if at == 0 and self._shared(handle.fd, source, size):
                at = size
            else:
                if at == 0:
                    self._make_room(handle.fd, size)
                data = os.pread(source, min(_PIECE, size - at), at)
                draft.torn = _TORN if source == draft.fd else _TORN_UNCLEANED
                put_all(handle.fd, data, at)
                at += len(data)
            if at >= size:
                self._tree.truncate_fd(handle.fd, size)
                if draft.times_ns is not None:
                    self._tree.utimens_fd(handle.fd, *draft.times_ns)
                draft.torn = ""
            return at
        finally:
            left = self._tree.fstat(handle.fd)
            draft.base, handle.seen = base_of(left), version_of(left)
            if left.size < at:  # another program cut the file right after the piece
                draft.base = None

    def _may_share(self, fd: int, size: int) -> bool:
        """True if the store's file gets a draft of *size* bytes in one step: it has bytes that could be lost.

        Where blocks can be shared, no room can be reserved for new bytes in place of old ones: the file
        system puts them elsewhere (btrfs always, xfs if the old blocks are shared).
        """
        return self._shares_blocks and size > 0 and self._tree.fstat(fd).size > 0

    def _shared(self, fd: int, source: int, size: int) -> bool:
        return self._may_share(fd, size) and ranges.share(source, fd, size, self._tree.root_fd)

    def _make_room(self, fd: int, size: int) -> None:
        """Reserve space for a file of *size* bytes. Raises OSError (ENOSPC, EDQUOT) if the store has none.

        INVARIANT: called before any byte of the file is overwritten. The draft and the file both take space,
        and the disk may not have enough for both. Holes of the file need space, too.
        """
        now = self._tree.fstat(fd).size
        if not size:
            return
        try:
            ranges.allocate(fd, KEEP_SIZE, 0, size)
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.ENOSYS}:
                self._lengthen(fd, now, size)
                return
            if self._tree.fstat(fd).size == now:  # else another program has appended to it meanwhile
                self._tree.truncate_fd(fd, now)  # frees the part that was reserved behind the end
            raise

    def _lengthen(self, fd: int, now: int, size: int) -> None:
        """Take space for *size* bytes, in a store that cannot reserve it, by zeros behind the file's end."""
        try:
            for at in range(now, size, _PIECE):
                put_all(fd, bytes(min(_PIECE, size - at)), at)
        except OSError:
            if self._tree.fstat(fd).size <= size:  # else as above
                self._tree.truncate_fd(fd, now)
            raise


def _write_out(source: int, target: int) -> None:
    """Write the bytes of both files to the disk, on a worker thread, before they share blocks.

    Else the kernel would do so in the step itself, under the locks of both files. As soon as any app changes
    the mode of the store's file, or removes it, the event loop, and all apps, would wait for the disk.
    """
    for fd in (source, target):
        ranges.write_out(fd)


def _changed() -> OSError:
    return OSError(errno.EBUSY, "another program has changed the file meanwhile")


def _alike(one: int, other: int, size: int) -> bool:
    """True if the first *size* bytes of two files are the same. Reads them, on a worker thread."""
    at = 0
    while at < size and (data := os.pread(one, min(_PIECE, size - at), at)):
        if data != os.pread(other, len(data), at):
            return False
        at += len(data)
    return at >= size
