"""Copies of drafts: the bytes of a checked draft are copied into the store's file."""

from __future__ import annotations

import contextlib
import errno
import os
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

import trio

from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import Change, ChangeLock
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.pending_writes import Draft, KeptBytes, base_of
from policyfs.redact.core.intervals import Extents
from policyfs.store import ranges
from policyfs.store.frozen import Version
from policyfs.store.ranges import KEEP_SIZE, put_all
from policyfs.store.tree import Tree

_PIECE: Final = 1 << 20
"""The size in bytes of one piece of a draft. A draft is copied into the store's file piece by piece."""
_AT_ONCE: Final = 64
"""The limit of pieces that are copied in one step. Between holes, pieces can be small."""
_TRIES: Final = 100
"""The limit of tries to begin a copy. A try fails if another program changes the file meanwhile."""
_NONE: Final = Version(0, 0, 0)
_TORN: Final = (
    "the file has only a part of the new bytes: another program wrote to the file, or the store failed"
)
_TORN_UNCLEANED: Final = f"{_TORN}; the file was not cleaned"


@dataclass(slots=True)
class _Copy:
    """The state of a copy of a draft, or of its cleaned version, into the store's file.

    torn: draft.torn before the copy. old: the file's version before the first piece. appends: True if the
    store cannot reserve space and the file grows: then the bytes behind its old end (*begin*) come first.
    done: bytes copied. most: the file's length after the next piece. kept: bytes that need no write. wrote:
    True after any write."""

    handle: Handle
    draft: Draft
    source: int
    size: int
    torn: str
    old: Version = _NONE
    appends: bool = False
    begin: int = 0
    done: int = 0
    most: int = 0
    kept: Extents = field(default_factory=Extents)
    wrote: bool = False

    def tear(self) -> None:
        """Note that the file has only a part of the draft from now on, also for the next daemon."""
        self.draft.torn = _TORN if self.is_whole else _TORN_UNCLEANED
        if not self.is_whole:
            self.draft.kept = KeptBytes()  # the file gets other bytes than the draft has
        self.wrote = True
        self.keep(self.length)

    def keep(self, least: int) -> None:
        """Save what the file has while the next piece gets into it. least: its smallest length."""
        self.draft.copied = self.begin, self.done, self.size, least, self.most, self.is_whole
        self.draft.keep(self.draft)

    @property
    def is_whole(self) -> bool:
        return self.source == self.draft.fd

    @property
    def is_done(self) -> bool:
        return self.done >= self.size

    @property
    def length(self) -> int:
        """The file's length before the next piece, if no other program has changed the file."""
        return max(self.old.size, min(self.begin + self.done, self.size))

    @property
    def piece(self) -> tuple[int, int, bool]:
        """Offset and length of the next piece, and True for a hole (never appended: an append writes all
        bytes)."""
        at, end = self.begin + self.done, self.size
        if at >= self.size:
            at, end = at - self.size, self.begin
        if self.appends:
            return at, min(_PIECE, end - at), False
        data, stop = next(ranges.data_ranges(self.source, at, end), (end, end))
        return (at, data - at, True) if data > at else (at, min(_PIECE, stop - at), False)


class DraftStorage:
    """The part of a mount that copies drafts into the store. Callers hold the lock of the draft's node.
    shares_blocks: True if two files of the store can share blocks (reflink)."""

    def __init__(self, tree: Tree, change_lock: ChangeLock, *, shares_blocks: bool) -> None:
        self._tree = tree
        self._change_lock = change_lock
        self._shares_blocks = shares_blocks

    async def store(self, change: Change, draft: Draft, source: int) -> None:
        """Copy the draft (or its cleaned copy) from *source* into the store's file, or share its blocks.

        Piece by piece, so that no change by this daemon waits long; other daemons wait until the end. In
        place, and cut last: other files could take freed space. On a store that cannot reserve space, the
        bytes behind the old end come first (_append).

        INVARIANT: before each piece, the file has the bytes that the last piece left, or those of the draft's
        begin. Before the first, *fence* on the loop and *on_thread* on the thread raise if the file may not
        be changed now.

        First the bytes that no app has written are compared, since mtime does not show every write: OSError
        (EBUSY) if another program has changed them, or the file at each of _TRIES begins, which then has its
        old bytes. After an error of the store the caller may try again. While a part is in the file,
        draft.torn is set. A daemon that ends waits for the last piece."""
        handle = change.handle
        with trio.CancelScope(shield=True):  # the daemon's end may cancel the fsync that calls this
            if self._may_share(handle.fd, draft.size):
                await trio.to_thread.run_sync(_write_out, source, handle.fd)
            if base_of(self._tree.fstat(handle.fd)) == draft.base:  # else _put() raises, or the file is empty
                await trio.to_thread.run_sync(_check_kept, draft, handle.fd)
            async with self._change_lock.apart(handle.fd):
                await self._copy(change, _Copy(handle, draft, source, draft.size, draft.torn))

    async def _copy(self, change: Change, copy: _Copy) -> None:
        fd, tries = copy.handle.fd, 0

        def fenced() -> None:
            if not copy.done:
                change.fence()
                copy.old = version_of(self._tree.fstat(fd))

        def put() -> bool:
            if not copy.done:
                change.on_thread()
            return self._put(copy)

        while tries < _TRIES:
            if not await self._change_lock.in_thread(fd, fenced, put):
                tries += 1
            elif copy.is_done:
                return
        raise OSError(errno.EBUSY, "other programs change this file all the time")

    def _put(self, copy: _Copy) -> bool:
        """Copy the next piece, on a thread. Return False if the file has changed since the fence: the caller
        tries again. Raise OSError (EBUSY) if another program has written the file. (After the first piece,
        times that an app sets also change draft.base.)"""
        now, draft = self._tree.fstat(copy.handle.fd), copy.draft
        same = base_of(now) == draft.base
        if not copy.done:
            if not same and (now.size or not draft.began_empty) and not _was_begun(draft, copy.handle.fd):
                raise _changed()
            copy.kept = draft.kept.ranges() if same and copy.is_whole else Extents()
            if version_of(now) != copy.old:
                return False
        elif not same and (now.size != copy.length or not _alike(copy)):
            raise _changed()
        at_once = not same and copy.done
        self._put_piece(copy)
        # If only the times have changed, all remaining pieces are copied now. Otherwise each piece would need
        # a new comparison, and an app that may set times could make the daemon leave a half-written file.
        while at_once and not copy.is_done:
            self._put_piece(copy)
        return True

    def _put_piece(self, copy: _Copy) -> None:
        """Copy the next piece of a draft into the store. Runs on a thread, because it waits for the disk."""
        draft, fd = copy.draft, copy.handle.fd
        copy.most = copy.length
        try:
            if copy.done or not self._shared(copy):
                if not copy.done and not self._reserve(copy) and copy.old.size < copy.size:
                    copy.appends, copy.begin = True, copy.old.size
                self._put_bytes(copy)
            if copy.is_done:
                self._cut(copy)
                if draft.times_ns is not None:
                    self._tree.utimens_fd(fd, *draft.times_ns)
                with contextlib.suppress(OSError):  # a later fsync reports this error to the app
                    ranges.begin_to_write_out(fd)
                draft.torn, copy.most = "", copy.size
                draft.kept = KeptBytes(copy.size if copy.is_whole else 0)
        finally:
            left, draft.copied = self._tree.fstat(fd), None
            if min(copy.length, copy.most) <= left.size <= copy.most:
                draft.base, copy.handle.seen = base_of(left), version_of(left)
            else:
                draft.base = None  # another program has appended, or cut the file

    def _put_bytes(self, copy: _Copy) -> None:
        written = 0
        for _ in range(_AT_ONCE):
            written += self._put_next(copy)
            if copy.is_done or written >= _PIECE:
                return

    def _put_next(self, copy: _Copy) -> int:
        """Write the next piece. Return the number of bytes that are not in a hole."""
        fd = copy.handle.fd
        at, length, hole = copy.piece
        data = b"" if hole else os.pread(copy.source, length, at)
        length = length if hole else len(data)
        copy.most = max(copy.length, at + length)
        kept = Extents(copy.kept.clipped(at, at + length))
        for start, end in Extents([(at, at + length)]).without(kept):
            copy.tear()
            part = data[start - at : end - at]
            if hole:
                self._put_hole(copy, start, end)
            elif copy.appends and at >= copy.begin:
                self._append(copy, part)
            else:
                put_all(fd, part, start)
        if self._tree.fstat(fd).size != copy.most:
            raise _changed()
        copy.done += length
        return len(data)

    @staticmethod
    def _put_hole(copy: _Copy, start: int, end: int) -> None:
        """Make a hole. Behind the file's end write its last byte: a truncation could cut others' bytes."""
        if start < copy.length:
            ranges.zero(copy.handle.fd, start, min(end, copy.length))
        if end > copy.length:
            put_all(copy.handle.fd, b"\0", end - 1)

    def _append(self, copy: _Copy, data: bytes) -> None:
        """Append a piece. INVARIANT: all pieces behind the file's old end come before an old byte is
        overwritten. Without room the file gets its old length, unless another program has appended."""
        fd, end, rest = copy.handle.fd, copy.length, memoryview(data)
        try:
            while rest:
                done = ranges.write(fd, rest, 0, os.RWF_APPEND)
                rest, end = rest[done:], end + done
            if end == copy.size and copy.begin:
                ranges.write_out(fd)  # a network store may say only now that it has no room
        except OSError:
            if self._tree.fstat(fd).size == end:  # else another program has appended bytes meanwhile
                self._tree.truncate_fd(fd, copy.begin)
                copy.draft.torn, copy.done, copy.most = copy.torn, 0, copy.begin
            raise

    def _cut(self, copy: _Copy) -> None:
        """Cut the file to the draft's length, unless it is right. Raise OSError (EBUSY) if another program
        appended: it may have waited for the file's lock while blocks were shared, so compare last."""
        fd, length = copy.handle.fd, self._tree.fstat(copy.handle.fd).size
        if length != max(copy.old.size, copy.size):
            raise _changed()
        if length > copy.size or not copy.wrote:  # a truncation sets mtime even if the length stays
            copy.keep(copy.size)
            self._tree.truncate_fd(fd, copy.size)

    def _may_share(self, fd: int, size: int) -> bool:
        """Return True if shared blocks protect the file's bytes: there reserved space does not."""
        return self._shares_blocks and size > 0 and self._tree.fstat(fd).size > 0

    def _shared(self, copy: _Copy) -> bool:
        """Give the file the draft's blocks. False: nothing changed. Errors may leave a part (draft.torn)."""
        fd, draft = copy.handle.fd, copy.draft
        if not self._may_share(fd, copy.size):
            return False

        def begin() -> None:
            copy.most = max(copy.old.size, copy.size)
            copy.tear()

        if not ranges.share(copy.source, fd, copy.size, self._tree.root_fd, begin):
            draft.torn, copy.most, copy.wrote = copy.torn, copy.length, False
            return False
        copy.done = copy.size
        return True

    def _reserve(self, copy: _Copy) -> bool:
        """Reserve space for all of the draft, or return False if the store cannot. INVARIANT: called before
        any byte of the file is overwritten, since the disk may not have enough for both files."""
        fd = copy.handle.fd
        now = self._tree.fstat(fd).size
        try:
            for start, end in ranges.data_ranges(copy.source, 0, copy.size):
                ranges.allocate(fd, KEEP_SIZE, start, end - start)
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.ENOSYS}:
                return False
            if self._tree.fstat(fd).size == now:  # else another program has appended bytes meanwhile
                self._tree.truncate_fd(fd, now)  # frees the part that was reserved behind the end
            raise
        return True


def _write_out(source: int, target: int) -> None:
    """Write both files to the disk on a thread: else sharing blocks does, under locks that the loop needs."""
    for fd in (source, target):
        ranges.write_out(fd)


def _check_kept(draft: Draft, target: int) -> None:
    """Raise OSError (EBUSY) if the file and the draft differ in bytes that no app has written."""
    for start, end in draft.kept.ranges():
        if not _are_alike(draft.fd, target, start, end):
            raise _changed()


def _changed() -> OSError:
    return OSError(errno.EBUSY, "another program has changed the file meanwhile")


def _was_begun(draft: Draft, target: int) -> bool:
    """Return True if a daemon before has begun to copy the draft into the file, was killed, and no other
    program has changed the file since, as far as its bytes tell. Read these bytes, on a worker thread."""
    if draft.copied is None:
        return False
    begin, done, size, least, most, is_whole = draft.copied
    if not least <= os.fstat(target).st_size <= most:
        return False
    return not is_whole or (
        _are_alike(draft.fd, target, begin, min(begin + done, size))
        and _are_alike(draft.fd, target, 0, begin + done - size)
    )


def _alike(copy: _Copy) -> bool:
    """Return True if the copied bytes are still in the file. Read these bytes, on a worker thread."""
    end = copy.begin + copy.done
    one, other = copy.source, copy.handle.fd
    return _are_alike(one, other, copy.begin, min(end, copy.size)) and _are_alike(
        one, other, 0, end - copy.size
    )


def _are_alike(one: int, other: int, at: int, end: int) -> bool:
    """Return True if two files have the same bytes from *at* to *end*. Common holes are not read."""
    if at < end and min(os.fstat(fd).st_size for fd in (one, other)) < end:
        return False
    both = Extents([*ranges.data_ranges(one, at, end), *ranges.data_ranges(other, at, end)])
    return all(
        os.pread(one, min(_PIECE, stop - at), at) == os.pread(other, min(_PIECE, stop - at), at)
        for start, stop in both
        for at in range(start, stop, _PIECE)
    )


async def copy_cut(draft: Draft, copy: Draft, size: int) -> None:
    """Make the empty draft *copy* a copy of *draft* of *size* bytes: a refused truncation leaves *draft*
    as it is. After an OSError the copy is closed."""
    try:
        await trio.to_thread.run_sync(ranges.copy_all, draft.fd, copy.fd, min(size, draft.size))
        os.ftruncate(copy.fd, size)
    except BaseException:
        copy.close()
        raise
    copy.base, copy.began_empty, copy.created = draft.base, draft.began_empty, draft.created
    copy.kept = deepcopy(draft.kept)
    copy.kept.cut(size)
    copy.touch()
