"""Reads and writes of mediated nodes, decided again each time under the policy in force."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Final

import trio

from policyfs.domain import Audit, Decision, Facts, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.views import Views, version_of
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.head_writes import Checker, put_all
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.inodes.handles import Handle, HandleTable, Mode, OpenState
from policyfs.fs.inodes.node_table import Flavor, Node, NodeTable
from policyfs.fs.inodes.pending_writes import Draft, Head
from policyfs.fs.redacted.copies import FrozenTooLarge, NoRoom, Redactor, Refused
from policyfs.fs.redacted.leased import LeasedFiles, PagesDropped
from policyfs.linux.statx import Stat
from policyfs.store import ranges
from policyfs.store.page_cache import read_store
from policyfs.store.tree import Tree

_READ: Final = Op.SEE | Op.READ
_WRITE: Final = Op.SEE | Op.WRITE
_WRITING: Final = Call("write", "write")
_INLINE_WRITE: Final = 64 * 1024
"""A write up to this size goes to the page cache from the loop; larger ones, and those to a store that
another process or machine answers for, from a thread."""


class FileIO:
    """The bytes of mediated handles."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        handles: HandleTable,
        gate: Gate,
        views: Views,
        redactor: Redactor,
        leased: LeasedFiles,
        checker: Checker,
        drafts: Drafts,
        change_lock: ChangeLock,
        drop_pages: PagesDropped,
        withheld_names: WithheldNames,
        backing_fd: Callable[[Handle], int],
        remote: bool = False,
    ) -> None:
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._gate = gate
        self._views = views
        self._redactor = redactor
        self._leased = leased
        self._checker = checker
        self._drafts = drafts
        self._change_lock = change_lock
        self._drop_pages = drop_pages
        self._withheld_names = withheld_names
        self._backing_fd = backing_fd
        self._remote = remote

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Bytes as the handle's app may see them now."""
        node = handle.node
        if handle.mode is Mode.PASSTHROUGH:
            # readahead(2) and POSIX_FADV_WILLNEED ask us even so, and nobody gets what we say: the
            # kernel reads the file itself. The app sees no error.
            raise OSError(errno.EOPNOTSUPP, "the kernel reads this file itself")
        await self.may_read(handle, Call("read", "read"))
        if node.flavor is Flavor.LEASED:
            data = await self._leased.read(handle, offset, size)
        elif node.flavor is Flavor.LIVE:
            data = await self._read_live(handle, offset, size)
        else:  # the store's own bytes, or the frozen copy's
            data = await read_store(handle.fd, offset, size)
        handle.bytes_read += len(data)
        return data

    async def may_read(self, handle: Handle, call: Call) -> bool:
        """Go on only if the handle's app may read now, in the view that it was opened in. Of a handle
        that was not opened for reading: whether it could.
        """
        node = handle.node
        decision = await self._gate.handle(handle, _READ)
        if not decision.allowed and handle.readable:
            self._gate.refuse(handle.caller, call, node.path(), decision)
        if decision.redact - handle.hides:  # a policy that came after the open
            self._gate.refuse(
                handle.caller, call, node.path(), decision, error=errno.EACCES,
                note="opened in a view that does not hide what the policy hides now: open it again",
            )  # fmt: skip
        return decision.allowed

    async def _read_live(self, handle: Handle, offset: int, size: int) -> bytes:
        """The file's own bytes while nothing is hidden from this app, else those of a copy."""
        state = _open_state(handle)
        if state.draft is not None:
            fd = os.dup(state.draft.fd)  # it may be given up meanwhile
            try:
                if handle.node.view.redact and self._hidden(handle):
                    return await self._read_hidden(handle, fd, offset, size)
                return await read_store(fd, offset, size)
            finally:
                os.close(fd)
        if state.head is not None and state.head.held:
            return state.head.held[offset : offset + size]
        data = await read_store(handle.fd, offset, size)
        if not handle.node.view.redact or not self._hidden(handle):
            # INVARIANT: asked after the bytes were read. Another app's write-open makes the
            # owner `none` before it is answered, so bytes read before that are the owner's.
            return data
        return await self._read_hidden(handle, handle.fd, offset, size)

    def _hidden(self, handle: Handle) -> frozenset[str]:
        who = handle.caller.principal
        stat = self._tree.fstat(handle.fd)
        owner = self._gate.facts.owners.get(handle.fd, stat)
        hidden: frozenset[str] = frozenset()
        for state in handle.node.states():
            hidden |= self._views.hidden_now(self._gate.engine, who, state, lambda: owner)
        return hidden

    async def _read_hidden(self, handle: Handle, fd: int, offset: int, size: int) -> bytes:
        """Of a copy of what is behind *fd*: the handle's file, or its draft."""
        node, caller = handle.node, handle.caller
        owner = self._gate.facts.owners.get(handle.fd, self._tree.fstat(handle.fd))

        def judge(facts: Facts) -> Decision:
            return self._gate.judge(caller.principal, _READ, node, facts)

        ino_key = self._nodes.key_of(self._tree.fstat(fd))
        read_only = self._tree.reopen(fd, os.O_RDONLY)
        try:
            who = caller.principal
            payer = self._redactor.payer(who)
            made = await self._redactor.redacted(read_only, ino_key, node.view.redact, owner, judge, who)
        except (FrozenTooLarge, NoRoom):
            raise OSError(errno.EBUSY, "too large to show while it is open for writing") from None
        finally:
            os.close(read_only)
        if isinstance(made, Refused):
            error = 0 if not made.decision.allowed else errno.EACCES
            self._gate.refuse(
                handle.caller, Call("read", "read"), node.path(), made.decision,
                kind=made.kind, note=made.reason, error=error,
            )  # fmt: skip
        try:
            return await read_store(made.copy.frozen.fd, offset, size)
        finally:
            made.copy.unpin(payer)

    # -- writing ----------------------------------------------------------------------------------

    async def write(
        self, handle: Handle, offset: int, data: bytes, *, append: bool, kill_priv: bool, back: bool = False
    ) -> int:
        """Write as the handle's app may now. append: at the end of the file, wherever that is.

        back: the kernel writes a page back that was changed through a mapping. That never makes a
        file longer: what lies behind its end was cut off since.

        The kernel has put the bytes into its page before it asks us. Where they are refused that
        page must go: whoever has it mapped would see, and write back, what the file never held.
        """
        try:
            if not back:
                return await self._write(handle, offset, data, append=append, kill_priv=kill_priv)
            await self._write_back(handle, offset, data)
            return len(data)
        except Exception:
            self._drop_pages(handle.node.nodeid)
            raise

    async def _write_back(self, handle: Handle, offset: int, data: bytes) -> None:
        decision = await self._may_write(handle, back=True)
        fence = self._fence(handle, back=True)
        state = _open_state(handle)
        if self._is_apart(state, decision):
            async with state.lock:
                draft = await self._drafts.begin(handle, state, fence)
                view = memoryview(data[: max(0, draft.size - offset)])
                while view:  # INVARIANT: a page that was not written whole is an error: nobody sees a count
                    done = await self._drafts.write(draft, offset, bytes(view), append=False)
                    handle.bytes_written += done
                    view, offset = view[done:], offset + done
            return
        head = self._head(handle, state, decision)
        async with state.lock:
            size = self._tree.fstat(handle.fd).size
            data = data[: max(0, (size if head is None else head.size(size)) - offset)]
            if data and head is not None and (decision.content or head.held):
                view = memoryview(data)
                while view:  # INVARIANT: a page that was not written whole is an error: nobody sees a count
                    done = await self._checker.write(handle, head, offset, bytes(view), decision, fence)
                    view, offset = view[done:], offset + done
            elif data:
                put_all(handle.fd, data, offset)
        self._wrote(handle, head)
        handle.bytes_written += len(data)

    async def _write(self, handle: Handle, offset: int, data: bytes, *, append: bool, kill_priv: bool) -> int:
        decision = await self._may_write(handle)
        if kill_priv:
            self._tree.clear_killpriv(handle.fd)
        state = _open_state(handle)
        if self._is_apart(state, decision):
            async with state.lock:
                draft = await self._drafts.begin(handle, state, self._fence(handle))
                written = await self._drafts.write(draft, offset, data, append=append)
            handle.bytes_written += written
            return written
        head = self._head(handle, state, decision)
        if head is not None and (decision.content or head.held):
            async with state.lock:
                at = head.size(self._tree.fstat(handle.fd).size) if append else offset
                written = await self._checker.write(
                    handle, head, at, data, decision, self._fence(handle), append=append
                )
        else:
            flags = os.RWF_APPEND if append else 0
            slow = self._remote or (len(data) > _INLINE_WRITE and not append)
            # INVARIANT: under redaction no await after the fence of _may_write.
            if slow and not self._may_hide(handle):
                written = await trio.to_thread.run_sync(ranges.write, handle.fd, data, offset, flags)
            else:
                written = ranges.write(handle.fd, data, offset, flags)
        self._wrote(handle, head)
        handle.bytes_written += written
        return written

    async def truncate(self, handle: Handle, size: int, *, by_path: bool = False) -> None:
        """Set the size of an open file. by_path: it was opened for just that, by truncate(2)."""
        decision = await self._may_write(handle, size)
        state = _open_state(handle)
        if self._is_apart(state, decision):
            async with state.lock:
                if size == 0:
                    await self._drafts.empty(handle, state)
                else:
                    self._drafts.truncate(await self._drafts.begin(handle, state, self._fence(handle)), size)
            handle.emptied = handle.emptied or (size == 0 and self._may_hide(handle))
            return
        head = self._head(handle, state, decision)
        if head is not None and (decision.content or head.held):
            async with state.lock:
                await self._checker.truncate(handle, head, size, decision, self._fence(handle, size))
            self._resized(handle, size, head)
        else:
            await self.set_size(handle, size, by_path=by_path)

    async def set_size(self, handle: Handle, size: int, *, by_path: bool = False) -> None:
        """Set the size of a file in which content is not looked at, for this app."""
        async with self._change_lock.on(handle.fd):
            self._fence(handle, size)()
            (self._tree.truncate_path if by_path else self._tree.truncate_fd)(handle.fd, size)
        self._resized(handle, size)

    def _resized(self, handle: Handle, size: int, head: Head | None = None) -> None:
        if size == 0:
            handle.emptied = handle.emptied or self._may_hide(handle)
        self._wrote(handle, head)

    async def allocate(self, handle: Handle, mode: int, offset: int, length: int) -> None:
        """fallocate(2) with a mode that only reserves space or makes zeros."""
        decision = await self._may_write(handle, call=Call("write", "fallocate"))
        self._tree.clear_killpriv(handle.fd)
        state = _open_state(handle)
        if self._is_apart(state, decision):
            async with state.lock:
                draft = await self._drafts.begin(handle, state, self._fence(handle))
                await self._drafts.allocate(draft, mode, offset, length)
            return
        head = self._head(handle, state, decision)
        if head is not None and (decision.content or head.held):
            async with state.lock:
                fence = self._fence(handle)
                await self._checker.allocate(handle, head, mode, offset, length, decision, fence)
        elif handle.node.view.redact:  # INVARIANT: no await after the fence of _may_write
            ranges.allocate(handle.fd, mode, offset, length)
        else:
            await trio.to_thread.run_sync(ranges.allocate, handle.fd, mode, offset, length)
        self._wrote(handle, head)

    async def copy_into(self, handle: Handle, fd: int, source_at: int, target_at: int, length: int) -> int:
        """Copy a range of *fd* into a raw handle's file, within the store. Returns how much."""
        decision = await self._may_write(handle, call=Call("write", "copy_file_range"))
        if decision.content:  # a policy that came after the open
            raise OSError(errno.EOPNOTSUPP, "what is written here is looked at: write it")
        self._tree.clear_killpriv(handle.fd)
        copied = await trio.to_thread.run_sync(ranges.copy, fd, source_at, handle.fd, target_at, length)
        self._wrote(handle)
        handle.bytes_written += copied
        return copied

    async def _may_write(
        self, handle: Handle, size: int | None = None, call: Call = _WRITING, *, back: bool = False
    ) -> Decision:
        decision = await self._gate.handle(handle, _WRITE)
        if not decision.allowed:
            self._gate.refuse(handle.caller, call, handle.node.path(), decision)
        self._fence(handle, size, back=back)()
        return decision

    def _fence(self, handle: Handle, size: int | None = None, *, back: bool = False) -> Callable[[], None]:
        """A check that refuses a write, or a truncation to *size*, that rule 5 forbids now.

        INVARIANT: called right before bytes change, with no await between: under redaction an app
        changes parts of a file only while it owns it, or all that is in it is what it wrote itself.
        back: a page that it had mapped comes back, and in it what it was shown in place of what is hidden:
        that an app owns the file is no reason to lose those bytes.
        """

        def check() -> None:
            if size == 0 or not self._may_hide(handle):
                return
            stat = self._tree.fstat(handle.fd)
            wrote_all = handle.emptied and handle.seen == version_of(stat)
            # What a passing writer puts between two of our looks could not be told from our own.
            if wrote_all and not self._written_elsewhere(handle.node):
                return
            if (not back and self._is_own(handle, stat)) or not self._hidden(handle):
                return
            refusal = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
            self._gate.refuse(
                handle.caller, Call("write", "write"), handle.node.path(), refusal,
                note="under redaction, and not all in the file is this app's: it must be emptied first",
            )  # fmt: skip

        return check

    def _may_hide(self, handle: Handle) -> bool:
        """May something in the file be hidden from the app: by its view, or by a policy that came since."""
        return bool(handle.node.view.redact) or handle.generation != self._gate.generation

    def _is_own(self, handle: Handle, stat: Stat) -> bool:
        """Does the app own the file still: the first write-open by another ends that."""
        app = handle.caller.principal.app
        return app is not None and self._gate.facts.owners.get(handle.fd, stat) == app

    def _written_elsewhere(self, node: Node) -> bool:
        """Has another view of the file a writer now."""
        return any(
            sibling is not node and sibling.open is not None and sibling.open.writers > 0
            for sibling in self._nodes.same_inode(node.ino)
        )

    @staticmethod
    def _is_apart(state: OpenState, decision: Decision) -> bool:
        """Does what is written go into a draft."""
        return state.draft is not None or decision.in_draft

    def _head(self, handle: Handle, state: OpenState, decision: Decision) -> Head | None:
        """The node's head, also for a requirement that came after the open."""
        if state.head is None and decision.content:
            state.head = Head(empty=self._tree.fstat(handle.fd).size == 0, created=False)
        return state.head

    def _wrote(self, handle: Handle, head: Head | None = None) -> None:
        """Bytes changed: other nodes' pages of the file are old, and what was told of its size and times.

        head: with what a thread saw right after its change.
        """
        version = None
        if head is not None:
            version, head.left = head.left, None
        version = version or version_of(self._tree.fstat(handle.fd))
        node = handle.node
        for other in self._handles.of_node(node):
            if other.emptied:
                other.seen = version
        for sibling in self._nodes.same_inode(node.ino):
            if sibling is not node and sibling.lookups:
                self._drop_pages(sibling.nodeid)

    # -- settling ---------------------------------------------------------------------------------

    async def flush(self, handle: Handle) -> None:
        """Some descriptor was closed: a held head that is allowed goes to the store, else EPERM.

        A network store may say only when a file is closed that it has no room, or could not send what
        was written: so it is, by a descriptor more, while the app waits for the answer.

        The names of a new file whose content is refused are withheld before the app is told.
        """
        try:
            await self.settle(handle)
        finally:
            if self._is_doomed(handle):
                await self._withheld_names.hide(handle.node)
        if self._remote and handle.writable and handle.fd >= 0:
            await trio.to_thread.run_sync(os.close, os.dup(handle.fd))

    async def fsync(self, handle: Handle, *, datasync: bool) -> None:
        """Durable, or an error: whoever wrote it, and whatever view of it this is."""
        await self.settle(self._writer_of(handle))
        fd = self._fd_to_sync(handle)
        if fd >= 0:
            await trio.to_thread.run_sync(self._sync, fd, datasync)

    def fsync_now(self, handle: Handle, *, datasync: bool) -> Callable[[], None] | None:
        """Return a call for a thread that makes a file durable. None: bytes of it may be held here."""
        state = _open_state(handle)
        if state.head is not None or state.draft is not None or handle.node.view.checked:
            return None
        fd = self._fd_to_sync(handle)
        return functools.partial(self._sync, fd, datasync) if fd >= 0 else _nothing

    def _fd_to_sync(self, handle: Handle) -> int:
        """A descriptor of the file; -1 where a reader's file is gone: there is nothing to be durable."""
        try:
            return self._backing_fd(handle)
        except OSError as error:
            if handle.writable or error.errno != errno.ESTALE:
                raise
            return -1

    def _sync(self, fd: int, datasync: bool) -> None:
        try:
            self._tree.fsync(fd, datasync)
        finally:
            os.close(fd)

    def _writer_of(self, handle: Handle) -> Handle:
        """A handle with the right to write what is held of the file, if there is one: `sync FILE` opens it
        for reading.
        """
        if handle.writable:
            return handle
        return next((other for other in self._handles.of_node(handle.node) if other.writable), handle)

    def _is_doomed(self, handle: Handle) -> bool:
        """True for a new file of which all content so far was refused: it is to go with its last release."""
        state = _open_state(handle)
        held = state.draft or state.head
        return bool(held and held.refused and held.created and not self._tree.fstat(handle.fd).size)

    async def settle(self, handle: Handle) -> None:
        """Judge what is held of the file, and put it into the store. Raises what flush() does."""
        await self._settle(handle)
        if self._withheld_names and not self._is_doomed(handle):
            self._withheld_names.show(handle.node)

    async def _settle(self, handle: Handle) -> None:
        state = _open_state(handle)
        nothing_held = state.head is None and state.draft is None
        if not handle.writable or (nothing_held and not handle.node.view.checked):
            return
        decision = await self._gate.handle(handle, _WRITE)
        if state.draft is not None:
            async with state.lock:
                await self._drafts.settle(handle, state.draft, decision, self._fence(handle))
                self._wrote(handle)
            return
        head = state.head
        if head is not None and head.held:
            async with state.lock:
                await self._checker.settle(handle, head, decision, self._fence(handle))
                self._wrote(handle)
        await self._checker.note_monitored(handle, decision)

    def holding(self, ino_key: int) -> Handle | None:
        """A writer of a file of which something is held, so that it is not in the store."""
        for node in self._nodes.same_inode(ino_key):
            state = node.open
            if state is None:
                continue
            held = state.head is not None and state.head.held
            if held or (state.draft is not None and state.draft.changed):
                return next((handle for handle in self._handles.of_node(node) if handle.writable), None)
        return None

    async def finish(self, handle: Handle) -> None:
        """Before the release of the last writer: held bytes go to the store or go away."""
        state = _open_state(handle)
        if (state.head is None and state.draft is None) or not handle.writable or state.writers > 1:
            return
        try:
            await self._finish(handle, state, state.head, state.draft)
        finally:
            if state.writers <= 1:
                self._withheld_names.show(handle.node)

    async def _finish(self, handle: Handle, state: OpenState, head: Head | None, draft: Draft | None) -> None:
        decision = await self._gate.handle(handle, _WRITE)

        def is_last() -> bool:
            return state.writers <= 1 and not self._written_elsewhere(handle.node)

        if draft is not None:
            async with state.lock:
                await self._drafts.finish(handle, draft, decision, self._fence(handle), is_last)
                if state.writers <= 1:
                    state.draft = None
                    self._drafts.give_up(handle, draft)
                    if draft.refused or draft.cleaned_of:  # the store has something else
                        self._drop_pages(handle.node.nodeid)
            return
        if head is not None:
            async with state.lock:
                await self._checker.finish(handle, head, decision, self._fence(handle), is_last)
                # INVARIANT: a writer that opened the node while this one was ending goes on with the head.
                if state.writers <= 1:
                    state.head = None
        await self._checker.note_monitored(handle, decision)


def _nothing() -> None:
    """Of a file that is gone."""


def _open_state(handle: Handle) -> OpenState:
    state = handle.node.open
    if state is None:
        raise RuntimeError("a handle of a node that is not open")
    return state
