"""The four byte paths: the ways in which apps get a file's bytes. A node keeps its byte path for ever.

Raw: the store's bytes, in passthrough, or mediated if passthrough is not possible. Live: the file itself,
mediated, with a decision for each request. Copy: a frozen copy whose hidden parts are replaced by neutral
bytes (copy_path.py). Leased: the file itself, patched at each read, while a read lease proves that no process
writes the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from policyfs.domain import NO_RANGES, Decision, Facts, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.facts import SteadyOwner
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.copies import FrozenTooLarge, NoRoom, Redactor, Refused
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.store.page_cache import read_store
from policyfs.store.ranges import Buffer, only_appends

_READ: Final = Op.SEE | Op.READ


class PathServer(Protocol):
    """The server of one byte path: it opens and reads the nodes with this byte path."""

    async def open_again(self, opening: OpenContext) -> bool:
        """Try to open by a backing id that the kernel has, without a descriptor, in place of steps 1 to 7 of
        an open (docs/architecture/opening.md). Return False if all steps are needed, also where connect()
        would refuse. On success set stat, decision, handle and state in *opening*."""

    async def connect(self, opening: OpenContext) -> None:
        """Prepare the bytes (step 7): set the node's open state, and the fields of step 7 in *opening*."""

    async def read(self, handle: Handle, offset: int, size: int) -> Buffer:
        """Return bytes of a mediated handle. The caller has checked that the handle's app may read now."""


class RawPath(FsPart):
    """The server of the raw byte path. All apps with a raw view of a file get the store's own bytes."""

    def __init__(
        self, fs: FsContext, *, preconditions: Preconditions, passthrough: Passthrough, lifecycle: Lifecycle
    ) -> None:
        super().__init__(fs)
        self._preconditions = preconditions
        self._passthrough = passthrough
        self._lifecycle = lifecycle

    async def open_again(self, opening: OpenContext) -> bool:
        """Use the node's backing id again. Return False if the node is closed and its id has expired."""
        node = opening.request.node
        if not self._passthrough.has(node):
            return False
        await self._preconditions.decide(opening)
        self._preconditions.demand_proof(opening)
        if not self._passthrough.has(node):  # the id may have expired while the file was sniffed
            return False
        _, _, opening.stat = self._resolver.locate(node)  # the name still leads to this very inode
        self._preconditions.check_view(opening)
        self._lifecycle.begin(opening)
        if not opening.shared.backing_id:
            self._passthrough.take_idle(node, opening.shared)
        return True

    async def connect(self, opening: OpenContext) -> None:
        """Register the file with the kernel, or make the node mediated."""
        request, handle = opening.request, opening.handle
        if only_appends(handle.fd):
            self._passthrough.drop(request.node)
        self._passthrough.choose(request.node, opening.shared, opening.fd)
        if opening.shared.mode is Mode.PASSTHROUGH and only_appends(handle.fd):
            raise OSError(errno.EPERM, "a reader has had the file open since before it could only grow")
        if handle.by_kind and opening.shared.mode is Mode.MEDIATED and not handle.writable:
            # The app could also read older pages from the kernel's page cache, of a time when the file may
            # have had another kind.
            self._preconditions.unproven(request.node, request.caller, request.call, writing=False)

    async def read(self, handle: Handle, offset: int, size: int) -> Buffer:
        """Read the file. After a reload, bytes may wait for their check: only a lane that alone has the node
        open, and alone can have written them, gets them. Others get the store's."""
        state = open_state(handle)
        if state.holds_back and self._has_alone(handle):
            waiting = await _read_waiting(handle, offset, size, read_store)
            if waiting is not None:
                return waiting
        return await read_store(handle.fd, offset, size)

    def _has_alone(self, handle: Handle) -> bool:
        """Return True if only the handle's lane has the node open, and can have written the waiting bytes."""
        lane = handle.caller.principal.lane
        if any(self._gate.principal(uid).lane != lane for uid in open_state(handle).writer_uids):
            return False
        return all(other.caller.principal.lane == lane for other in self._handles.of_node(handle.node))


async def _read_waiting(
    handle: Handle,
    offset: int,
    size: int,
    read_draft: Callable[[int, int, int], Awaitable[Buffer]],
) -> Buffer | None:
    """Return bytes that wait for their check, or None if the store has the right bytes. read_draft: (fd,
    offset, size)."""
    state = open_state(handle)
    if state.draft is not None and state.draft.changed:
        fd = os.dup(state.draft.fd)  # the draft may be closed meanwhile
        try:
            return await read_draft(fd, offset, size)
        finally:
            os.close(fd)
    held = None if state.head is None else state.head.held  # read once: a thread may be storing the head
    if not held or offset >= len(held):
        return None
    part = held[offset : offset + size]
    if len(part) == size:
        return part
    return part + bytes(await read_store(handle.fd, offset + len(part), size - len(part)))


class LivePath(FsPart):
    """The server of the live byte path: an app's own file under redaction, or a file with checked writes."""

    def __init__(self, fs: FsContext, *, redactor: Redactor) -> None:
        super().__init__(fs)
        self._redactor = redactor

    async def open_again(self, opening: OpenContext) -> bool:
        """Return False: the kernel has no backing id for a LIVE node."""
        del opening
        return False

    async def connect(self, opening: OpenContext) -> None:
        """If the file's writes are checked, begin to hold its first bytes (a head)."""
        node, handle, state = opening.request.node, opening.handle, opening.shared
        if node.view.checked and state.head is None and handle.writable:
            state.head = Head(self._tree.fstat(handle.fd).size, created=handle.created)

    async def read(self, handle: Handle, offset: int, size: int) -> Buffer:
        """Read the file, or a redacted copy if something in it is hidden from the app.

        Bytes that wait for their check are returned as they were written, but not another lane's if the kind,
        not known yet, decides who may read. Once the store has these bytes, maybe cleaned, its file is read,
        even if the draft has not ended yet (RELEASE comes some time after close(2))."""
        redacts = bool(handle.node.view.redact)

        async def read_draft(fd: int, offset: int, size: int) -> Buffer:
            if redacts and self._gate.hidden_words(handle):
                return await self._read_hidden(handle, fd, offset, size)
            return await read_store(fd, offset, size)

        state = open_state(handle)
        if state.holds_back and not self._of_unknown_kind(handle):
            waiting = await _read_waiting(handle, offset, size, read_draft)
            if waiting is not None:
                return waiting
        data = await read_store(handle.fd, offset, size)
        if not redacts or not self._gate.hidden_words(handle):
            # INVARIANT: read the owner after the bytes. When another app opens the file for writing, the
            # owner becomes `none` before that open is answered. So if there still is an owner, only this
            # owner has written the bytes.
            return data
        del data  # another read can use its buffer
        return await self._read_hidden(handle, handle.fd, offset, size)

    def _of_unknown_kind(self, handle: Handle) -> bool:
        """Return True if another lane can have written the waiting bytes, and their kind, not known yet,
        decides whether this app may read. (They stay after its close while another app has the file open.)"""
        node, who = handle.node, handle.caller.principal
        writers = open_state(handle).writer_uids
        if all(self._gate.principal(uid).lane == who.lane for uid in writers):
            return False
        owner = self._gate.facts.owner_of(handle.fd)
        return self._gate.hangs_on_kind(who, _READ, node, owner)

    async def _read_hidden(self, handle: Handle, fd: int, offset: int, size: int) -> memoryview:
        """Read from a redacted copy of the file or draft behind *fd*; after a reload from another copy, since
        the kernel repeats no read after ESTALE."""
        while True:
            with contextlib.suppress(PolicyChangedError):
                return await self._read_copy(handle, fd, offset, size)

    async def _read_copy(self, handle: Handle, fd: int, offset: int, size: int) -> memoryview:
        """Read from a copy in the cache, or from a new copy. Raise PolicyChangedError if a reload came."""
        node, caller, who = handle.node, handle.caller, handle.caller.principal
        owner = SteadyOwner(partial(self._gate.facts.owner_of, handle.fd))

        def judge(kind: str | None) -> Decision:
            return self._gate.judge(caller.principal, _READ, node, Facts(kind, owner.now()))

        ino_key = self._nodes.key_of(self._tree.fstat(fd))
        read_only = self._tree.reopen(fd, os.O_RDONLY)
        try:
            payer = self._redactor.payer(who)
            made = await self._redactor.redacted(read_only, ino_key, node.view.redact, judge, who)
        except (FrozenTooLarge, NoRoom):
            raise OSError(
                errno.EBUSY, "the file is too large to copy, and a program has it open for writing"
            ) from None
        finally:
            os.close(read_only)
        if isinstance(made, Refused):
            error = 0 if not made.decision.allowed else errno.EACCES
            self._gate.refuse(
                caller, Call("read", "read"), node.path(), made.decision,
                kind=made.kind, note=made.reason, error=error,
            )  # fmt: skip
        try:
            return await read_store(made.copy.frozen.fd, offset, size)
        finally:
            made.copy.unpin(payer)


class LeasedPath:
    """The server of the leased byte path: a file too large to copy, redacted or readable only by its kind."""

    def __init__(self, leased: LeasedFiles) -> None:
        self._leased = leased

    async def open_again(self, opening: OpenContext) -> bool:
        """Return False: the kernel has no backing id for a LEASED node."""
        del opening
        return False

    async def connect(self, opening: OpenContext) -> None:
        """Take the lease, and locate the hidden parts while the lease holds."""
        request, state = opening.request, opening.shared
        armed = await self._leased.connect(opening.handle, state, opening.fd, request.call)
        opening.decision, opening.kind, opening.note = armed.decision, armed.kind, "under a read lease"
        opening.redacted = NO_RANGES if state.shown is None else state.shown.ranges

    async def read(self, handle: Handle, offset: int, size: int) -> memoryview:
        """Read the file under its lease, and apply the patches. Refuse (EBUSY) if a writer came."""
        return await self._leased.read(handle, offset, size)
