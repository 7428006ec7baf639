"""Writes that are checked before they reach the store: held heads (see head.py) and their I/O."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn, TypeVar

from policyfs.content.sniffer import Sniffer
from policyfs.formats import kind_by_start
from policyfs.fs.access.audit import Call
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import Change, ChangeLock
from policyfs.fs.checked.head import HEAD_BYTES, may_become, meets, merged, overlay
from policyfs.fs.checked.head_storage import put_head, put_writes
from policyfs.fs.checked.rejection import Rejections, must_be
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.pending_writes import Write
from policyfs.kernel.bridge import pyfuse3
from policyfs.store import ranges
from policyfs.store.frozen import Version
from policyfs.store.page_cache import read_store
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE

T = TypeVar("T")
_TRIES: Final = 100
"""The limit of checks of one change. A change is checked again if another process has changed the file."""

_MOST_LATE: Final = 256
"""The limit of writes of one file that wait for their check. Adjacent writes count once."""
_SMALL: Final = 4096
"""The largest write, in bytes, that is put off. A copying program looks at write(2) alone for an error."""
_FIRST: Final = 16
"""The number of first bytes by which programs know a file. A write that changes them is never put off."""


def _rest(fd: int, data: bytes, offset: int, start: int) -> int:
    """Write what lies behind *start* of *data*, which begins at *offset*. INVARIANT: the result is the exact
    number of bytes of *data* in the store, since write(2) returns it."""
    done = min(len(data), start - offset)
    if done < len(data):
        try:
            done += ranges.write(fd, data[done:], start)
        except OSError:
            if not done:
                raise
    return done


def _restless() -> OSError:
    return OSError(errno.EBUSY, "other programs change the file again and again, so it cannot be checked")


def _zeroed(mode: int, offset: int, length: int, size: int) -> tuple[int, int]:
    end = min(offset + length, HEAD_BYTES)
    if mode & KEEP_SIZE:
        end = min(end, size)
    if mode & PUNCH_HOLE or mode == KEEP_SIZE | ZERO_RANGE:
        return offset, end
    return (min(offset, size) if mode & ZERO_RANGE else size), end  # growth: zeros behind the old end


class UnknownBeginningError(Exception):
    """The error for a change that no held head can take (a gap, zeros, too many bytes): it needs a draft."""


class Checker(FsPart):
    """A checker that judges writes by the bytes that the file would have. The caller holds the node's lock.

    INVARIANT: right before the change, under the change lock (change_lock.py), the judged bytes are compared
    with the store again, and judged anew if another daemon changed them. What may wait for the disk is on
    threads."""

    def __init__(
        self,
        fs: FsContext,
        sniffer: Sniffer,
        change_lock: ChangeLock,
        rejections: Rejections,
    ) -> None:
        super().__init__(fs)
        self._held_bytes = fs.handles.held_bytes
        self._sniffer = sniffer
        self._change_lock = change_lock
        self._rejections = rejections

    async def write(self, change: Change, offset: int, data: bytes, *, append: bool = False) -> int:
        """Write *data* if the resulting file meets the content requirements, and return the number of bytes,
        as write(2): less if the store has no room. append: at the file's end, also behind others' new bytes.

        Raise FUSEError(EPERM), on record, for a refusal; as *fence*; OSError of the store;
        UnknownBeginningError. Then no byte was written."""
        handle, head = change.handle, change.head
        for _ in range(_TRIES):
            if not head.late:
                await self._unhold(change)
            size = self._tree.fstat(handle.fd).size
            if head.held is None and not size:
                head.held = b""
            if append:
                offset = head.size(size)
            if await self._put_off(change, offset, data, append=append):
                return len(data)
            if head.late and (append or min(offset, size) < HEAD_BYTES):
                await self._unhold(change)
                continue
            write = self._write_stored if head.held is None or head.late else self._write_held
            written = await write(change, offset, data, append=append)
            if written is not None:
                return written
        raise _restless()

    async def _put_off(self, change: Change, offset: int, data: bytes, *, append: bool) -> bool:
        """Hold a small write into a file with accepted bytes, so that one check judges many
        (data/late_writes.py). Not in a view that hides data: the held bytes include other writers' bytes."""
        handle, head = change.handle, change.head
        if (head.held is not None and not head.late) or not change.decision.content:
            return False
        if handle.node.view.redact:
            return False
        if len(data) > _SMALL or offset + len(data) > HEAD_BYTES:
            return False
        before = head.held if head.held is not None else await self._head_of(handle)
        after = overlay(before, offset, data)
        if len(before) < _FIRST or after[:_FIRST] != before[:_FIRST] or (after == before and not head.late):
            return False
        waiting = sum(len(write.data) for write in head.late)
        if waiting + len(data) > HEAD_BYTES or len(head.late) >= _MOST_LATE or kind_by_start(after):
            return False
        if not head.has_room_for(after, handle.caller.holder, self._held_bytes):
            return False
        head.put_off(after, Write(None if append else offset, data))
        return True

    async def accepts(self, change: Change) -> bool:
        """Return True if the file may have the bytes that wait for their check. Record nothing."""
        after = merged(change.head, await self._head_of(change.handle))
        return meets(await self._kind(change.handle, after), change.decision.content)

    async def _write_stored(self, change: Change, offset: int, data: bytes, *, append: bool) -> int | None:
        """Write into a file whose head is in the store. Return None if that head has changed meanwhile."""
        judged = await self._judge_stored(change, offset, data)
        at, flags = (0, os.RWF_APPEND) if append else (offset, 0)
        return await self._change(change, judged, partial(ranges.write, change.handle.fd, data, at, flags))

    async def _write_held(self, change: Change, offset: int, data: bytes, *, append: bool) -> int | None:
        """Write into a file whose head is held. Return None if the store's file is no longer empty."""
        del append
        handle, head, content = change.handle, change.head, change.decision.content
        held = head.held or b""
        if offset > len(held):
            raise UnknownBeginningError
        after = overlay(held, offset, data)
        kind = await self._kind(handle, after)
        if meets(kind, content):

            def put() -> int:
                self._commit(change, after)
                return _rest(handle.fd, data, offset, len(after))

            return await self._change(change, b"", put)
        if may_become(after, content) and offset + len(data) <= HEAD_BYTES:
            if not head.has_room_for(after, handle.caller.holder, self._held_bytes):
                raise UnknownBeginningError
            head.held = after
        else:
            self._refuse(change, kind)
        return len(data)

    async def _unhold(self, change: Change) -> None:
        handle, head = change.handle, change.head
        for _ in range(_TRIES):
            if head.held is None or not (head.late or self._tree.fstat(handle.fd).size):
                return
            if not head.held:
                head.held = None
                return
            stored = await self._head_of(handle)
            await self._judge(change, merged(head, stored))
            if await self._committed(change, stored):
                return
        raise _restless()

    async def _head_of(self, handle: Handle) -> bytes:
        return bytes(await read_store(handle.fd, 0, HEAD_BYTES))

    async def _change(self, change: Change, judged: bytes | None, make: Callable[[], T]) -> T | None:
        """Call *make* on a thread. Return None if the file has changed since it was judged.

        judged: the first HEAD_BYTES then; None if only a length of HEAD_BYTES or more matters. INVARIANT:
        only the version that the fence saw is changed, and the thread reads the one after it (head.left)."""
        handle, head, allowed = change.handle, change.head, list[Version]()
        head.left = None

        def fenced() -> None:
            change.fence()
            allowed.append(version_of(self._tree.fstat(handle.fd)))

        def run() -> tuple[T, Version] | None:
            change.on_thread()  # this call may have waited for a free thread
            if version_of(self._tree.fstat(handle.fd)) != allowed[0] or not self._is_still(handle, judged):
                return None
            made = make()
            return made, version_of(self._tree.fstat(handle.fd))

        done = await self._change_lock.in_thread(handle.fd, fenced, run)
        if done is None:
            return None
        head.left = done[1]
        return done[0]

    async def _committed(self, change: Change, judged: bytes) -> bool:
        """Store a held head if the store's file is unchanged since the judgement. Return True if stored."""
        held = change.head.held or b""

        def put() -> bool:
            self._commit(change, held)
            return True

        return bool(await self._change(change, judged, put))

    def _is_still(self, handle: Handle, judged: bytes | None) -> bool:
        """Return True if the judged bytes are still those in the store. This may wait for the disk."""
        if judged is None:
            return self._tree.fstat(handle.fd).size >= HEAD_BYTES
        return os.pread(handle.fd, HEAD_BYTES, 0) == judged

    async def _judge_stored(self, change: Change, offset: int, data: bytes) -> bytes | None:
        """Judge the file with *data* written into it. Return what _change() takes as *judged*."""
        handle = change.handle
        size = self._tree.fstat(handle.fd).size
        if offset >= HEAD_BYTES and size >= HEAD_BYTES:
            return None
        before = await self._head_of(handle)
        after = overlay(before, offset, data)
        if after != before:
            await self._judge(change, after)
        return before

    async def _judge(self, change: Change, after: bytes) -> None:
        kind = await self._kind(change.handle, after)
        if not meets(kind, change.decision.content):
            self._refuse(change, kind)

    async def truncate(self, change: Change, size: int) -> None:
        """Set the size if the resulting file meets the requirements or is empty. Raise as write()."""
        handle, head = change.handle, change.head

        def cut() -> Version:
            change.on_thread()
            self._tree.truncate_fd(handle.fd, size)
            return version_of(self._tree.fstat(handle.fd))._replace(size=size)  # others' bytes do not count

        for _ in range(_TRIES):
            if size:
                await self._unhold(change)
            stored = self._tree.fstat(handle.fd)
            if size and head.held is None and not stored.size:
                head.held = b""
            if head.held is not None and (size or not stored.size):
                if size > len(head.held):
                    raise UnknownBeginningError
                head.held = head.held[:size]
                head.left = None if size else version_of(stored)
                return
            if size == 0:
                head.left = await self._change_lock.in_thread(handle.fd, change.fence, cut)
                head.held = b""
                return
            before = await self._head_of(handle)
            after = before[:size] if size <= len(before) else overlay(before, min(size, HEAD_BYTES), b"")
            if after != before:
                await self._judge(change, after)
            if await self._change(change, before, cut):
                return
        raise _restless()

    async def allocate(self, change: Change, mode: int, offset: int, length: int) -> None:
        """Allocate as fallocate(2); zeros that it makes are judged like a write. Raise as write(), and
        UnknownBeginningError also for zeros while the head is held: the store's file is still empty."""
        handle, head = change.handle, change.head
        for _ in range(_TRIES):
            await self._unhold(change)
            before = await self._head_of(handle)
            if head.held is None and not before:
                head.held = b""
            if mode != KEEP_SIZE:
                if head.held is not None:
                    raise UnknownBeginningError
                first, end = _zeroed(mode, offset, length, self._tree.fstat(handle.fd).size)
                after = overlay(before, first, bytes(end - first)) if first < end else before
                if after != before:
                    await self._judge(change, after)

            def allocate() -> bool:
                ranges.allocate(handle.fd, mode, offset, length)
                return True

            if await self._change(change, before, allocate):
                return
        raise _restless()

    async def settle(self, change: Change) -> None:
        """Store a held head at FLUSH and fsync if its kind is allowed. Else raise FUSEError(EPERM); it stays
        held."""
        handle, head, decision = change.handle, change.head, change.decision
        if not head.held:
            return
        if not decision.allowed:  # the policy has changed since the open
            self._gate.refuse(handle.caller, Call("write", "write"), handle.node.path(), decision)
        for _ in range(_TRIES):
            await self._unhold(change)
            if not head.held:
                return
            await self._judge(change, head.held)
            if await self._committed(change, b""):
                return
        raise _restless()

    async def finish(self, change: Change, is_last: Callable[[], bool]) -> None:
        """Store a held head at the last RELEASE if its kind is allowed, else drop it, and remove an empty
        file that its writer created. is_last: called right before; tells if no other handle writes the file.
        After a reload, raise PolicyChangedError and leave the head."""
        handle, head, decision = change.handle, change.head, change.decision
        for _ in range(_TRIES if head.held and decision.allowed else 0):
            stored = await self._head_of(handle)
            kind = await self._kind(handle, merged(head, stored))
            meant = meets(kind, decision.content)
            if handle.node.open is not None and handle.node.open.has_other_writers:
                return  # opened again meanwhile: the head is handled at that writer's close
            try:
                if not meant and not head.refused:  # written through a mapping since the last close
                    self._refuse(change, kind)
                if not meant:
                    break
                if await self._committed(change, stored):
                    return
            except pyfuse3.FUSEError:  # the fence's refusal is on record, and no app waits for the answer
                break
        refused = bool(head.held) or head.refused
        head.held = None
        if refused and head.created:
            await self._rejections.remove(handle, is_last)

    async def _kind(self, handle: Handle, head: bytes) -> str | None:
        lane = handle.caller.principal.lane
        return await self._sniffer.kind_of_head(head, lane=lane)

    async def note_monitored(self, change: Change) -> None:
        """Record, once for each handle, content that a rule in monitor mode would refuse."""
        handle, decision = change.handle, change.decision
        if handle.noted or not handle.bytes_written or not decision.monitored_content:
            return
        kind = await self._kind(handle, await self._head_of(handle))
        unmet = tuple(rule for rule, kinds in decision.monitored_content if not meets(kind, (kinds,)))
        if unmet:
            handle.noted = True
            await self._gate.recorder.recorded(
                handle.caller, Call("write", "write"), handle.node.path(),
                replace(decision, would_deny=decision.would_deny + unmet), kind=kind,
            )  # fmt: skip

    def _commit(self, change: Change, data: bytes) -> None:
        """Store a whole head of an allowed kind. If the store has no room, the head stays held."""
        handle, head = change.handle, change.head
        if head.late:
            head.end = self._tree.fstat(handle.fd).size
            if self._nodes.saved is not None:
                self._nodes.saved.held.put(handle.node, change.state)
            put_writes(self._tree, handle.fd, head.late)
        else:
            put_head(self._tree, handle.fd, data)
        head.held = None
        head.created = False

    def _refuse(self, change: Change, kind: str | None) -> NoReturn:
        change.head.refused = True
        self._rejections.refuse(change.handle, change.decision, kind, must_be(change.decision.content))
