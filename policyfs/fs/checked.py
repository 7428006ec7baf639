"""Writes that are checked before they reach the store: held heads (see heads.py) and their I/O."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import NoReturn, Protocol

from policyfs.domain import Audit, Decision
from policyfs.fs.gate import Gate
from policyfs.fs.heads import HEAD_BYTES, Head, may_become, meets, overlay
from policyfs.fs.nodes import NamesForgotten, Node
from policyfs.fs.openfile import Handle
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.kernel.bridge import pyfuse3
from policyfs.store import ranges
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from policyfs.store.tree import Tree

Content = tuple[frozenset[str], ...]
Fence = Callable[[], None]
"""Raises FUSEError if the file may not be changed now."""


def _passes(fence: Fence) -> bool:
    """Ask a fence where nobody is left to be told (what it refuses is on record)."""
    try:
        fence()
    except pyfuse3.FUSEError:
        return False
    return True


class HeadSniffer(Protocol):
    """The sniffer, as far as heads need it."""

    async def kind_of_head(self, head: bytes, *, lane: Hashable = None) -> str | None:
        """Content kind of a file that begins so; None if sniffing failed."""


class Checker:
    """Judges writes by what the file would be. All of its work on a node is under the node's lock."""

    def __init__(
        self, tree: Tree, places: Places, gate: Gate, sniffer: HeadSniffer, forget_names: NamesForgotten
    ) -> None:
        self._tree = tree
        self._places = places
        self._gate = gate
        self._sniffer = sniffer
        self._forget_names = forget_names

    async def write(
        self, handle: Handle, head: Head, offset: int, data: bytes, decision: Decision, fence: Fence,
        *, append: bool = False,
    ) -> int:  # fmt: skip
        """Write *data* if the file then still meets the decision's content requirements. append: at
        its end, which is at *offset* now: what others add meanwhile (another view, the store) stays.

        Raises FUSEError(EPERM), on record, if it does not, and what *fence* raises; then nothing
        of it was written.
        """
        await self._unhold(handle, head, decision, fence)
        if head.held is None and self._tree.fstat(handle.fd).size == 0:
            head.held = b""
        if head.held is None:
            await self._judge_stored(handle, head, offset, data, decision)
            while append and (end := self._tree.fstat(handle.fd).size) < offset:  # cut off meanwhile
                offset = end
                await self._judge_stored(handle, head, offset, data, decision)
            fence()
            if append:
                return os.pwritev(handle.fd, [data], 0, os.RWF_APPEND)
            return os.pwrite(handle.fd, data, offset)
        if offset >= HEAD_BYTES and len(head.held) < HEAD_BYTES:
            await self._refuse(handle, head, decision, None, "its beginning is not known yet")
        after = overlay(head.held, offset, data)
        kind = await self._kind(handle, after)
        if meets(kind, decision.content):
            fence()
            self._commit(handle, head, after)
            rest = offset + len(data) - len(after)
            if rest > 0:
                os.pwrite(handle.fd, data[len(data) - rest :], len(after))
        elif may_become(after, decision.content) and offset + len(data) <= HEAD_BYTES:
            head.held = after
        else:
            await self._refuse(handle, head, decision, kind, "")
        return len(data)

    async def _unhold(self, handle: Handle, head: Head, decision: Decision, fence: Fence) -> None:
        """Somebody else has written the file since its head was held: it goes in now, if it may."""
        if head.held is None or not self._tree.fstat(handle.fd).size:
            return
        if head.held:
            stored = os.pread(handle.fd, HEAD_BYTES, 0)
            await self._judge(handle, head, overlay(stored, 0, head.held), decision)
            fence()
            self._commit(handle, head, head.held)
        head.held = None

    async def _judge_stored(
        self, handle: Handle, head: Head, offset: int, data: bytes, decision: Decision
    ) -> None:
        size = self._tree.fstat(handle.fd).size
        if offset >= HEAD_BYTES and size >= HEAD_BYTES:
            return
        before = os.pread(handle.fd, HEAD_BYTES, 0)
        after = overlay(before, offset, data)
        if after != before:
            await self._judge(handle, head, after, decision)

    async def _judge(self, handle: Handle, head: Head, after: bytes, decision: Decision) -> None:
        kind = await self._kind(handle, after)
        if not meets(kind, decision.content):
            await self._refuse(handle, head, decision, kind, "")

    async def truncate(self, handle: Handle, head: Head, size: int, decision: Decision, fence: Fence) -> None:
        """Set the size, as write(): what remains must meet the requirements, or be empty."""
        if size:
            await self._unhold(handle, head, decision, fence)
        elif self._tree.fstat(handle.fd).size:
            head.held = None
        if head.held is not None:
            if size > HEAD_BYTES:
                await self._refuse(handle, head, decision, None, "its beginning is not known yet")
            head.held = overlay(head.held, size, b"") if size > len(head.held) else head.held[:size]
            return
        if size == 0:
            self._tree.truncate_fd(handle.fd, 0)
            head.held = b""
            return
        before = os.pread(handle.fd, HEAD_BYTES, 0)
        after = before[:size] if size <= len(before) else overlay(before, min(size, HEAD_BYTES), b"")
        if after != before:
            await self._judge(handle, head, after, decision)
        fence()
        self._tree.truncate_fd(handle.fd, size)

    async def allocate(
        self, handle: Handle, head: Head, mode: int, offset: int, length: int, decision: Decision,
        fence: Fence,
    ) -> None:  # fmt: skip
        """fallocate(2): judged as the zeros that it makes, if it makes any.

        EOPNOTSUPP where it would change a head that is held: there is nothing in the store yet that
        space could be reserved in, or zeros put between. Programs write instead, and that is judged.
        """
        await self._unhold(handle, head, decision, fence)
        size = self._tree.fstat(handle.fd).size
        if head.held is None and not size:
            head.held = b""
        if mode != KEEP_SIZE:
            if head.held is not None:
                raise OSError(errno.EOPNOTSUPP, "its beginning is not known yet: write it")
            end = min(offset + length, HEAD_BYTES)
            if mode & KEEP_SIZE:
                end = min(end, size)
            if mode & PUNCH_HOLE or mode == KEEP_SIZE | ZERO_RANGE:
                first = offset
            else:  # what grows has zeros from its end on
                first = min(offset, size) if mode & ZERO_RANGE else size
            if first < end:
                await self._judge_stored(handle, head, first, bytes(end - first), decision)
        fence()
        ranges.allocate(handle.fd, mode, offset, length)

    async def settle(self, handle: Handle, head: Head, decision: Decision, fence: Fence) -> None:
        """At FLUSH and fsync: write a held head if it is allowed, else EPERM; it stays held."""
        if not head.held:
            return
        if not decision.allowed:  # the policy changed since it was opened
            self._gate.refuse(handle.caller, Call("write", "write"), handle.node.path(), decision)
        await self._unhold(handle, head, decision, fence)
        if not head.held:
            return
        kind = await self._kind(handle, head.held)
        if not meets(kind, decision.content):
            await self._refuse(handle, head, decision, kind, "")
        fence()
        self._commit(handle, head, head.held)

    async def finish(self, handle: Handle, head: Head, decision: Decision, fence: Fence) -> None:
        """At the last RELEASE: write a held head that is allowed, else leave nothing behind."""
        if head.held and decision.allowed:
            after = overlay(os.pread(handle.fd, HEAD_BYTES, 0), 0, head.held)
            meant = meets(await self._kind(handle, after), decision.content)
            if handle.node.open is not None and handle.node.open.writers > 1:
                return  # opened again meanwhile: what becomes of the head is that writer's to see
            if meant and _passes(fence):
                self._commit(handle, head, head.held)
                return
        refused = bool(head.held) or head.refused
        head.held = None
        if refused and head.created and self._tree.fstat(handle.fd).size == 0:
            self._remove(handle.node)

    async def _kind(self, handle: Handle, head: bytes) -> str | None:
        return await self._sniffer.kind_of_head(head, lane=handle.caller.principal.key)

    async def note_monitored(self, handle: Handle, decision: Decision) -> None:
        """Content requirements in monitor mode: record, once a handle, what would not meet them."""
        if handle.noted or not handle.bytes_written or not decision.monitored_content:
            return
        kind = await self._kind(handle, os.pread(handle.fd, HEAD_BYTES, 0))
        unmet = tuple(rule for rule, kinds in decision.monitored_content if not meets(kind, (kinds,)))
        if unmet:
            handle.noted = True
            self._gate.recorder.decided(
                handle.caller, Call("write", "write"), handle.node.path(),
                replace(decision, would_deny=decision.would_deny + unmet), kind=kind,
            )  # fmt: skip

    def _commit(self, handle: Handle, head: Head, data: bytes) -> None:
        """The head is an allowed kind: into the store with it. ENOSPC leaves it held."""
        view, offset = memoryview(data), 0
        while offset < len(view):
            offset += os.pwrite(handle.fd, view[offset:], offset)
        head.held = None
        head.created = False

    def _remove(self, node: Node) -> None:
        """Remove the name of a file whose content was refused, if it is still this file's."""
        try:
            dirfd, name, _ = self._places.locate(node)
            self._tree.unlink(dirfd, name)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
        else:
            self._forget_names(node)

    async def _refuse(
        self, handle: Handle, head: Head, decision: Decision, kind: str | None, note: str
    ) -> NoReturn:
        head.refused = True
        wanted = " and ".join("one of " + ", ".join(sorted(patterns)) for patterns in decision.content)
        rules = tuple(match for match in decision.rules if match.effect == "content")
        refusal = Decision(allowed=False, errno=errno.EPERM, rules=rules, audit=Audit.REQUIRED)
        self._gate.refuse(
            handle.caller, Call("write", "write"), handle.node.path(), refusal,
            kind=kind, note=note or f"content must be {wanted}",
        )  # fmt: skip
