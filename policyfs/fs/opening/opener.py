"""Opening files: the decision, then the road, then everything that must be true before the reply.

Order of an open (docs/architecture/opening.md): decision; the node is the one this caller's
view and the file's state ask for, else ESTALE (the kernel looks the name up again and comes with
the right node); leases of others are broken for a writer; suid, sgid and capabilities go; the
owner becomes `none` if another app writes; the backing file is registered; O_TRUNC comes last.
A refused open has destroyed nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from policyfs.domain import OWNER_NONE, Decision, Facts, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.kind_proof import KindEvidence, UnprovenKindError
from policyfs.fs.access.ledger import PacedError, paced
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.inodes.handles import Caller, Handle, HandleTable, Mode, OpenState
from policyfs.fs.inodes.node_table import Flavor, Node, NodeTable
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.opening.backing_file import JUDGED, BackingFiles, describe, ops_of
from policyfs.fs.opening.copies import CopyOpener
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.stale_retries import SecondTries
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.linux.statx import Stat
from policyfs.store.tree import Tree


class Opener:
    """Opens, creates and releases the regular files of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        handles: HandleTable,
        resolver: Resolver,
        gate: Gate,
        backing_files: BackingFiles,
        lifecycle: Lifecycle,
        passthrough: Passthrough,
        copy_opener: CopyOpener,
        leased: LeasedFiles,
        change_lock: ChangeLock,
        drafts: Drafts,
        replaced_files: ReplacedFiles,
        forget_attributes: Callable[[int], None],
    ) -> None:
        self._tree = tree
        self._change_lock = change_lock
        self._drafts = drafts
        self._nodes = nodes
        self._handles = handles
        self._resolver = resolver
        self._gate = gate
        self._backing_files = backing_files
        self._lifecycle = lifecycle
        self._passthrough = passthrough
        self._copy_opener = copy_opener
        self._leased = leased
        self._forget_attributes = forget_attributes
        self.replaced_files = replaced_files
        self.second_tries = SecondTries()

    # -- open -----------------------------------------------------------------------------------

    @paced
    async def open(self, node: Node, flags: int, caller: Caller) -> Handle:
        """Open a node for a caller. Raises FUSEError for a refusal, OSError otherwise."""
        evidence, thread = KindEvidence(), caller.pid
        second, stale, paced_out = self.second_tries.begins(thread), False, False
        try:
            handle = await self._open(node, flags, caller, evidence)
        except PacedError:
            paced_out = True  # no answer yet: it begins anew, as the try that it is
            raise
        except OSError as error:
            stale = error.errno == errno.ESTALE
            if stale:
                self._backing_files.sent_back(node, caller, writing=bool(ops_of(flags) & Op.WRITE))
            raise
        finally:
            evidence.close_later()
            if second:
                self.second_tries.ends(thread)
            if (paced_out and second) or (stale and not second):
                self.second_tries.sent_back(thread)
            if not stale and not paced_out:
                self._backing_files.let_in(node, caller)
        self.replaced_files.opened(node)
        return handle

    async def _open(self, node: Node, flags: int, caller: Caller, evidence: KindEvidence) -> Handle:
        call = Call("open", describe(flags))
        ops = ops_of(flags)
        writing = bool(ops & Op.WRITE)
        if not writing and node.parent is not None and self.replaced_files.find(node) < 0:
            if node.flavor is Flavor.RAW and self._passthrough.has(node):
                decision = await self._decided(node, caller, ops, call, evidence)
                by_kind = self._backing_files.demand_proof(node, caller, call, ops, evidence)
                if self._passthrough.has(node):  # sniffing may have taken longer than it is kept
                    proof = evidence if by_kind else None
                    return await self._open_again(node, flags, caller, decision, call, proof)
            if node.flavor is Flavor.COPY:
                again = await self._copy_opener.open_again(node, flags, caller, call)
                if again is not None:
                    return again
        fd, stat = await self._backing_files.find_apart(node)
        try:
            decision = await self._decided(node, caller, ops, call, evidence, fd)
            owner = OWNER_NONE
            if writing or evidence.asked or node.view.redact:
                owner = self._gate.facts.owners.get(fd, stat)
            self._backing_files.check_road(node, caller, stat, owner, writing=writing)
            self._backing_files.check_running(node, flags)
            by_kind = self._backing_files.demand_proof(node, caller, call, ops, evidence)
            if writing:
                evidence.close()  # its own open for writing would break the lease
            emptied = writing and self._backing_files.by_emptying(
                node, caller, call, stat, owner, empties=bool(flags & os.O_TRUNC)
            )
            handle = self._lifecycle.new_handle(node, caller, flags, stat)
            handle.emptied, handle.by_kind = emptied, by_kind
            state = self._lifecycle.enter(node, writing=handle.writable)
            try:
                await self._connect(handle, state, fd, stat, owner, decision, call)
                if by_kind and not writing:
                    self._still_proven(handle, call, evidence)
            except BaseException:
                self._lifecycle.leave(handle, state)
                raise
        finally:
            os.close(fd)
        return handle

    async def _decided(
        self, node: Node, caller: Caller, ops: Op, call: Call, evidence: KindEvidence, fd: int = -1
    ) -> Decision:
        """The decision on an open; refused on record.

        Who only reads where somebody writes gets a copy, in which the kind is found: not here as well.
        """
        if not ops & Op.WRITE and (not node.view.redact or node.flavor in JUDGED):
            evidence.demand()
        try:
            return await self._gate.require(caller, ops, node, call, fd=fd, evidence=evidence)
        except UnprovenKindError:
            evidence.asked = True
            self._backing_files.demand_proof(node, caller, call, ops, evidence)
            return self._gate.judge(caller.principal, ops, node, Facts(None, evidence.owner))

    def _still_proven(self, handle: Handle, call: Call, proof: KindEvidence) -> None:
        """Go on only if the kind is proven still, where others went on while the open was put on record.

        INVARIANT: no await between this and the reply.
        """
        if handle.recorded_late and not proof.holds():
            self._backing_files.unproven(handle.node, handle.caller, call, writing=False)

    async def _open_again(
        self, node: Node, flags: int, caller: Caller, decision: Decision, call: Call,
        proof: KindEvidence | None,
    ) -> Handle:  # fmt: skip
        """Open for reading a raw file that is registered already: no descriptor is needed. proof: of its
        kind, if that decided.
        """
        _, _, stat = self._resolver.locate(node)  # the name still leads to this very inode
        self._backing_files.check_view(node, caller)
        handle = self._lifecycle.new_handle(node, caller, flags, stat)
        state = self._lifecycle.enter(node, writing=False)
        try:
            if not state.backing_id:
                self._passthrough.take_idle(node, state)
            handle.mode = state.mode
            self._lifecycle.finish(handle, state, stat)
            handle.recorded_late = await self._gate.recorder.recorded(
                caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
            self._gate.unchanged(handle.generation)
            if proof is not None:
                self._still_proven(handle, call, proof)
        except BaseException:
            self._lifecycle.leave(handle, state)
            raise
        return handle

    async def _connect(
        self,
        handle: Handle,
        state: OpenState,
        fd: int,
        stat: Stat,
        owner: str,
        decision: Decision,
        call: Call,
    ) -> None:
        """Give the handle its road. *fd* is an O_RDONLY descriptor of the file, the caller's."""
        node = handle.node
        if handle.writable or handle.flags & os.O_TRUNC:
            handle.fd = await self._backing_files.writer(node, fd)
            self._backing_files.before_writing(node, handle, stat, owner)
        if node.flavor is Flavor.COPY:
            await self._copy_opener.connect(handle, state, fd, owner, call)
            return
        if node.flavor is Flavor.LEASED:
            await self._leased.connect(handle, state, fd, owner, call)
        elif node.flavor is Flavor.RAW:
            self._passthrough.choose(node, state, fd)
            if handle.by_kind and state.mode is Mode.MEDIATED and not handle.writable:
                # Pages that others read before, or read later, would be shown: of another kind, maybe.
                self._backing_files.unproven(node, handle.caller, call, writing=False)
        elif node.view.checked and state.head is None and handle.writable:
            state.head = Head(empty=self._tree.fstat(handle.fd).size == 0, created=False)
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED and handle.fd < 0:
            handle.fd = os.dup(fd)
        await self._lifecycle.show_size(handle, version_of(stat))
        self._lifecycle.finish(handle, state, stat)
        if node.flavor is not Flavor.LEASED:
            handle.recorded_late = await self._gate.recorder.recorded(
                handle.caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
            self._gate.unchanged(handle.generation)
        if handle.flags & os.O_TRUNC:  # last: everything that could refuse has passed
            # No write that was judged on the old bytes may come after: here, or in another daemon.
            # A reader's goes to the file itself: it has no draft to settle, and no bytes are none's.
            if state.draft is not None or (decision.in_draft and handle.writable):
                async with state.lock:
                    await self._drafts.empty(handle, state)
                return
            async with state.lock, self._change_lock.on(handle.fd):
                self._gate.unchanged(handle.generation)
                self._empty(handle, state)

    def _empty(self, handle: Handle, state: OpenState) -> None:
        """Carry out O_TRUNC."""
        self._tree.truncate_fd(handle.fd, 0)
        if state.head is not None:
            state.head = Head(empty=True, created=state.head.created)
        self._backing_files.see(handle)

    async def open_to_truncate(self, node: Node, size: int, caller: Caller) -> Handle:
        """A handle of our own for truncate(2) by path: everything a write-open does, no road."""
        call = Call("truncate", "truncate")
        decision = await self._gate.require(caller, Op.SEE | Op.WRITE, node, call)
        fd, stat = self._backing_files.open_named(node)
        try:
            owner = self._gate.facts.owners.get(fd, stat)
            self._backing_files.check_view(node, caller)
            emptied = self._backing_files.by_emptying(node, caller, call, stat, owner, empties=size == 0)
            flags = os.O_WRONLY if size else os.O_WRONLY | os.O_TRUNC
            handle = self._lifecycle.new_handle(node, caller, flags, stat)
            handle.emptied = emptied
            state = self._lifecycle.enter(node, writing=True)
            try:
                handle.fd = await self._backing_files.writer(node, fd)
                self._backing_files.before_writing(node, handle, stat, owner)
                self._gate.unchanged(handle.generation)
                if node.view.checked and state.head is None:
                    state.head = Head(empty=self._tree.fstat(handle.fd).size == 0, created=False)
                await self._gate.recorder.recorded(
                    caller, call, node.path(), decision,
                    view=node.view.label, handle=handle.index, before=handle.before,
                )  # fmt: skip
                self._gate.unchanged(handle.generation)
            except BaseException:
                self._lifecycle.leave(handle, state)
                raise
        finally:
            os.close(fd)
        return handle

    def backing_fd(self, handle: Handle) -> int:
        """A descriptor of the store's file behind a handle, whatever its view; the caller's to close.

        For reading at least. Of a copy's reader it is the file that has the name now. ESTALE if
        neither a descriptor nor a name leads to it.
        """
        if handle.fd >= 0 and handle.node.flavor is not Flavor.COPY:
            return os.dup(handle.fd)
        return self._backing_files.find(handle.node)[0]

    # -- create -----------------------------------------------------------------------------------

    async def created(
        self, node: Node, fd: int, flags: int, caller: Caller, decision: Decision, stat: Stat, call: Call
    ) -> Handle:
        """A handle on a file that the caller has just created; *fd* (O_RDWR) becomes the handle's."""
        handle = self._lifecycle.new_handle(node, caller, flags, stat)
        handle.fd, handle.created = fd, True
        handle.emptied = bool(node.view.redact)
        handle.seen = handle.before
        state = self._lifecycle.enter(node, writing=handle.writable)
        try:
            if node.flavor is Flavor.RAW:
                read_only = self._tree.reopen(fd, os.O_RDONLY)
                try:
                    self._passthrough.choose(node, state, read_only)
                finally:
                    os.close(read_only)
            elif node.view.checked:
                state.head = Head(empty=True, created=True)
            handle.mode = state.mode
            self._lifecycle.finish(handle, state, stat)
            await self._gate.recorder.recorded(
                caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index,
            )  # fmt: skip
            self._gate.unchanged(handle.generation)
        except BaseException:
            handle.fd = -1
            self._handles.pop(handle.fh)
            self._lifecycle.leave(handle, state)
            raise
        return handle

    # -- while it is open -------------------------------------------------------------------------

    def keep(self, node: Node, fd: int) -> None:
        """A file that is open loses its last name: *fd*, ours from now on, leads to it for fstat and
        the like. Who has its share of descriptors goes without.
        """
        if node.open is not None and self._handles.charge(node):
            node.open.fd = fd
        else:
            os.close(fd)

    @contextlib.contextmanager
    def bytes_stay(self, ino_key: int, *, answered: bool = True) -> Iterator[None]:
        """In it names or attributes of a file change, and none of its bytes: who writes under redaction
        what it has emptied (Handle.seen) goes on. INVARIANT: no await inside.

        The kernel knows that they changed of the node that it named and is answered with. Of others of the
        same file (views, names that rules tell apart) it is told: the watch leaves out what we do ourselves.
        answered: is the answer of the node that was named, and no other.
        """
        nodes = list(self._nodes.same_inode(ino_key))
        going_on = [
            handle
            for node in nodes
            for handle in self._handles.of_node(node)
            if handle.emptied and handle.fd >= 0 and handle.seen == version_of(self._tree.fstat(handle.fd))
        ]
        try:
            yield
        finally:
            for handle in going_on:
                handle.seen = version_of(self._tree.fstat(handle.fd))
            for node in () if answered and len(nodes) == 1 else nodes:
                self._forget_attributes(node.nodeid)

    # -- release ---------------------------------------------------------------------------------

    def close(self, handle: Handle) -> None:
        """The kernel released a handle: record it and give up what it held."""
        state = handle.node.open
        if state is None:
            raise RuntimeError("a handle of a node that is not open")
        try:
            after = None
            if handle.writable and handle.fd >= 0:
                after = version_of(self._tree.fstat(handle.fd))
            if handle.writable or handle.mode is Mode.MEDIATED:
                self._gate.recorder.released(handle, handle.node.path(), after)
        finally:
            self._lifecycle.leave(handle, state)
