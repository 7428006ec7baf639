"""Opening files: the decision, then the road, then everything that must be true before the reply.

Order of an open (docs/architecture.md, "Opening"): decision; the node is the one this caller's
view and the file's state ask for, else ESTALE (the kernel looks the name up again and comes with
the right node); leases of others are broken for a writer; suid, sgid and capabilities go; the
owner becomes `none` if another app writes; the backing file is registered; O_TRUNC comes last.
A refused open has destroyed nothing.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
from typing import Final

import trio

from policyfs.domain import OWNER_NONE, Audit, Decision, Facts, FileType, Op
from policyfs.fs.gate import Gate
from policyfs.fs.heads import Head
from policyfs.fs.leased import Leased
from policyfs.fs.nodes import Flavor, NamesForgotten, Node, NodeTable
from policyfs.fs.openfile import Caller, Handle, HandleTable, Mode, OpenState
from policyfs.fs.orphans import Orphans
from policyfs.fs.passing import Passing
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.fs.redactor import FrozenTooLarge, Judge, NoRoom, Redacted, Redactor, Refused
from policyfs.fs.views import Views, version_of
from policyfs.kernel.bridge import FH_KEEP_CACHE, FH_NOFLUSH, FH_PASSTHROUGH, pack_fh
from policyfs.store.copies import Copy
from policyfs.store.leases import break_foreign
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree

_LEASE_WAIT_S: Final = 50.0
"""Longer than the kernel's lease-break-time: after it the holder has lost its lease by force."""

_FLAG_NAMES: Final = (
    (os.O_APPEND, "O_APPEND"), (os.O_TRUNC, "O_TRUNC"), (os.O_CREAT, "O_CREAT"), (os.O_EXCL, "O_EXCL"),
    (os.O_DIRECT, "O_DIRECT"),
)  # fmt: skip


class StaleNodeError(OSError):
    """The node is not the one for this open: the kernel is to look the name up again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "look the name up again")


@functools.lru_cache(maxsize=256)
def ops_of(flags: int) -> Op:
    """The operations that opening with these flags needs. Any O_TRUNC is a write."""
    mode = flags & os.O_ACCMODE
    ops = Op.SEE
    if mode != os.O_WRONLY:
        ops |= Op.READ
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        ops |= Op.WRITE
    return ops


@functools.lru_cache(maxsize=256)
def describe(flags: int) -> str:
    """Open flags as people write them, e.g. ``open(O_WRONLY|O_TRUNC)``."""
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_RDWR")[flags & os.O_ACCMODE]
    return "open(" + "|".join([mode, *(name for bit, name in _FLAG_NAMES if flags & bit)]) + ")"


class Opener:
    """Opens, creates and releases the regular files of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        nodes: NodeTable,
        handles: HandleTable,
        places: Places,
        gate: Gate,
        views: Views,
        passing: Passing,
        redactor: Redactor,
        leased: Leased,
        forget_names: NamesForgotten,
    ) -> None:
        self._tree = tree
        self._nodes = nodes
        self._handles = handles
        self._places = places
        self._gate = gate
        self._views = views
        self._passing = passing
        self._redactor = redactor
        self._leased = leased
        self._forget_names = forget_names
        self.orphans = Orphans()

    # -- open -----------------------------------------------------------------------------------

    async def open(self, node: Node, flags: int, caller: Caller) -> Handle:
        """Open a node for a caller. Raises FUSEError for a refusal, OSError otherwise."""
        call = Call("open", describe(flags))
        ops = ops_of(flags)
        writing = bool(ops & Op.WRITE)
        if not writing and node.flavor is Flavor.RAW and node.parent is not None and self._passing.has(node):
            decision = await self._gate.require(caller, ops, node, call)
            return self._open_again(node, flags, caller, decision, call)
        fd, stat = self._reopen_unlinked(node) if node.parent is None else self._open_named(node)
        try:
            decision = await self._gate.require(caller, ops, node, call, fd=fd)
            owner = self._gate.facts.owners.get(fd, stat) if writing or node.view.redact else OWNER_NONE
            self._check_road(node, caller, stat, owner, writing=writing)
            emptied = writing and self._by_emptying(
                node, caller, call, stat, owner, empties=bool(flags & os.O_TRUNC)
            )
            handle = self._new_handle(node, caller, flags, stat)
            handle.emptied = emptied
            state = self._enter(node, writing=handle.writable)
            try:
                await self._connect(handle, state, fd, stat, owner, decision, call)
            except BaseException:
                self._leave(handle, state)
                raise
        finally:
            os.close(fd)
        return handle

    def _open_again(self, node: Node, flags: int, caller: Caller, decision: Decision, call: Call) -> Handle:
        """Open for reading a raw file that is registered already: no descriptor is needed."""
        _, _, stat = self._places.locate(node)  # the name still leads to this very inode
        self._check_view(node, caller)
        handle = self._new_handle(node, caller, flags, stat)
        state = self._enter(node, writing=False)
        try:
            if not state.backing_id:
                self._passing.take_idle(node, state)
            handle.mode = state.mode
            self._finish(handle, state, stat)
            self._gate.recorder.decided(
                caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
        except BaseException:
            self._leave(handle, state)
            raise
        return handle

    def _new_handle(self, node: Node, caller: Caller, flags: int, stat: Stat) -> Handle:
        """A handle that is not connected yet, right after the decision that allows it."""
        handle = Handle(self._handles.new_index(), node, caller, flags, -1)
        handle.before = version_of(stat)
        handle.generation = self._gate.generation
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
            handle.fd = await self._writer(node, fd)
            self._before_writing(node, handle, stat, owner)
        if node.flavor is Flavor.COPY:
            await self._connect_copy(handle, state, fd, owner, call)
            return
        if node.flavor is Flavor.LEASED:
            await self._leased.connect(handle, state, fd, owner, call)
        elif node.flavor is Flavor.RAW:
            self._passing.choose(node, state, fd)
        elif node.view.checked and state.head is None and handle.writable:
            state.head = Head(empty=self._tree.fstat(handle.fd).size == 0, created=False)
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED and handle.fd < 0:
            handle.fd = os.dup(fd)
        self._finish(handle, state, stat)
        if node.flavor is not Flavor.LEASED:
            self._gate.recorder.decided(
                handle.caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
        if handle.flags & os.O_TRUNC:  # last: everything that could refuse has passed
            async with state.lock:  # no write that was judged on the old bytes may come after
                self._gate.unchanged(handle.generation)
                self._empty(handle, state)

    def _empty(self, handle: Handle, state: OpenState) -> None:
        """Carry out O_TRUNC."""
        self._tree.truncate_fd(handle.fd, 0)
        if state.head is not None:
            state.head = Head(empty=True, created=state.head.created)
        self._see(handle)

    def _see(self, handle: Handle) -> None:
        """Note the version that an app under redaction begins to write on: empty, by rule 5.

        ESTALE if another writer was quicker: the kernel opens again, and that is decided anew.
        """
        stat = self._tree.fstat(handle.fd)
        if handle.emptied and stat.size:
            raise StaleNodeError
        handle.seen = version_of(stat)

    async def _connect_copy(self, handle: Handle, state: OpenState, fd: int, owner: str, call: Call) -> None:
        """Serve the handle from the node's frozen copy, made or found for the file as it is now."""
        node, caller = handle.node, handle.caller

        def judge(facts: Facts) -> Decision:
            return self._gate.judge(caller.principal, ops_of(handle.flags), node, facts)

        async with state.lock:
            stat = self._tree.fstat(fd)
            made = await self._copy_for(handle, state, fd, stat, owner, judge)
            if isinstance(made, Refused):
                note = f"cannot be redacted: {made.reason}" if made.reason else ""
                error = 0 if not made.decision.allowed else errno.EACCES
                self._gate.refuse(
                    caller, call, node.path(), made.decision, kind=made.kind, note=note, error=error
                )
            self._adopt(node, state, made.copy)
            handle.facts = Facts(made.kind, owner)
            self._passing.choose(node, state, made.copy.frozen.fd)
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED:
            handle.fd = os.dup(made.copy.frozen.fd)
        self._finish(handle, state, stat)
        self._gate.recorder.decided(
            caller, call, node.path(), judge(Facts(made.kind, owner)), kind=made.kind,
            io=handle.mode.value, view=node.view.label, redacted=made.ranges, handle=handle.index,
            before=handle.before,
        )  # fmt: skip

    async def _copy_for(
        self, handle: Handle, state: OpenState, fd: int, stat: Stat, owner: str, judge: Judge
    ) -> Redacted | Refused:
        """The copy for an open: the node's own while it is current, else the file's as it is now."""
        node = handle.node
        if state.copy is not None:
            made = self._redactor.again(state.copy, owner, judge)
            if node.parent is None:  # no LOOKUP leads to a newer version
                return made
            # Its own, also where another view has put one of its own into the cache since.
            if isinstance(made, Redacted):
                if state.version == version_of(stat):
                    return made
                made.copy.unpin()
        if state.copy is not None and state.version != version_of(stat) and state.handles > 1:
            self._views.outdated(node.ino, node.view)
            raise StaleNodeError
        try:
            return await self._redactor.redacted(
                fd, node.ino, node.view.redact, owner, judge, handle.caller.principal.key
            )
        except (FrozenTooLarge, NoRoom):
            raise StaleNodeError from None  # LOOKUP will find the node for large files

    def _adopt(self, node: Node, state: OpenState, copy: Copy) -> None:
        """Keep the pin of exactly one copy per open node; another one while others have it open is
        stale. Where they have gone meanwhile, the new copy takes the place of theirs.
        """
        old = state.copy
        if old is copy:
            copy.unpin()
            return
        if old is not None:
            if state.handles > 1:
                copy.unpin()
                self._views.outdated(node.ino, node.view)
                raise StaleNodeError
            self._passing.release(node, state)
            old.unpin()
        state.copy, state.version = copy, copy.frozen.version

    async def open_to_truncate(self, node: Node, size: int, caller: Caller) -> Handle:
        """A handle of our own for truncate(2) by path: everything a write-open does, no road."""
        call = Call("truncate", "truncate")
        decision = await self._gate.require(caller, Op.SEE | Op.WRITE, node, call)
        fd, stat = self._open_named(node)
        try:
            owner = self._gate.facts.owners.get(fd, stat)
            self._check_view(node, caller)
            emptied = self._by_emptying(node, caller, call, stat, owner, empties=size == 0)
            flags = os.O_WRONLY if size else os.O_WRONLY | os.O_TRUNC
            handle = self._new_handle(node, caller, flags, stat)
            handle.emptied = emptied
            state = self._enter(node, writing=True)
            try:
                handle.fd = await self._writer(node, fd)
                self._before_writing(node, handle, stat, owner)
                self._gate.unchanged(handle.generation)
                if node.view.checked and state.head is None:
                    state.head = Head(empty=self._tree.fstat(handle.fd).size == 0, created=False)
                self._gate.recorder.decided(
                    caller, call, node.path(), decision,
                    view=node.view.label, handle=handle.index, before=handle.before,
                )  # fmt: skip
            except BaseException:
                self._leave(handle, state)
                raise
        finally:
            os.close(fd)
        return handle

    # -- create -----------------------------------------------------------------------------------

    def created(
        self, node: Node, fd: int, flags: int, caller: Caller, decision: Decision, stat: Stat, call: Call
    ) -> Handle:
        """A handle on a file that the caller has just created; *fd* (O_RDWR) becomes the handle's."""
        handle = self._new_handle(node, caller, flags, stat)
        handle.fd, handle.created = fd, True
        handle.emptied = bool(node.view.redact)
        handle.seen = handle.before
        state = self._enter(node, writing=handle.writable)
        try:
            if node.flavor is Flavor.RAW:
                read_only = self._tree.reopen(fd, os.O_RDONLY)
                try:
                    self._passing.choose(node, state, read_only)
                finally:
                    os.close(read_only)
            elif node.view.checked:
                state.head = Head(empty=True, created=True)
            handle.mode = state.mode
            self._finish(handle, state, stat)
            self._gate.recorder.decided(
                caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index,
            )  # fmt: skip
        except BaseException:
            handle.fd = -1
            self._handles.pop(handle.fh)
            self._leave(handle, state)
            raise
        return handle

    # -- parts of an open ---------------------------------------------------------------------------

    def _open_named(self, node: Node) -> tuple[int, Stat]:
        """An O_RDONLY descriptor by the first name that still leads to the node. ESTALE without one."""
        for parent, name, _ in itertools.islice(node.names(), 1):
            try:
                fd = self._tree.open_file(self._places.dirfd(parent), name, os.O_RDONLY)
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.ENXIO}:
                    raise
                break
            stat = self._tree.fstat(fd)
            if self._nodes.is_same(node, stat) and stat.ftype is FileType.REGULAR:
                return fd, stat
            os.close(fd)
        dirfd, name, _ = self._places.locate(node)  # slower: tries every name, forgets dead ones
        fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
        stat = self._tree.fstat(fd)
        if not self._nodes.is_same(node, stat) or stat.ftype is not FileType.REGULAR:
            os.close(fd)
            raise StaleNodeError
        return fd, stat

    def _reopen_unlinked(self, node: Node) -> tuple[int, Stat]:
        """A file without a name can be opened again only while the daemon holds it (/proc/self/fd)."""
        if node.open is not None and node.open.fd >= 0:
            fd = self._tree.reopen(node.open.fd, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        for handle in self._handles.of_node(node):
            if handle.fd >= 0 and node.flavor in {Flavor.RAW, Flavor.LIVE}:
                fd = self._tree.reopen(handle.fd, os.O_RDONLY)
                return fd, self._tree.fstat(fd)
        kept = self.orphans.find(node)
        if kept >= 0:
            fd = self._tree.reopen(kept, os.O_RDONLY)
            return fd, self._tree.fstat(fd)
        raise StaleNodeError

    def _check_view(self, node: Node, caller: Caller) -> None:
        """The node must be of the caller's view, by every name it has, and not another app's own."""
        for state in node.states():
            view = self._gate.engine.view(caller.principal, state)
            if view is not node.view and not (view.raw and node.view.raw):
                raise StaleNodeError
        if node.whose is not None and node.whose != self._views.whose(caller, node.view, node.flavor):
            raise StaleNodeError

    def _check_road(self, node: Node, caller: Caller, stat: Stat, owner: str, *, writing: bool) -> None:
        """The node must be of the road that this open takes now."""
        self._check_view(node, caller)
        if node.parent is None and node.flavor is not Flavor.COPY:
            return
        flavor = self._views.flavor(
            self._gate.engine, caller, node.view, node.state, stat, lambda: owner, writing=writing
        )
        if flavor is not node.flavor:
            if writing:
                self._views.expect_writer(node.ino, node.view)
            raise StaleNodeError

    def _by_emptying(
        self, node: Node, caller: Caller, call: Call, stat: Stat, owner: str, *, empties: bool
    ) -> bool:
        """Rule 5: under redaction an app writes a file that it does not own only by emptying it.

        Returns whether it does so here; refuses otherwise.
        """
        who = caller.principal
        if not node.view.redact or (who.app is not None and owner == who.app):
            return False
        if not self._views.hidden_now(self._gate.engine, who, node.state, lambda: owner):
            return False
        if stat.size and not empties:
            decision = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
            self._gate.refuse(
                caller, call, node.path(), decision,
                note="under redaction a file of another owner is written only by emptying it first",
            )  # fmt: skip
        return True

    async def _writer(self, node: Node, fd: int) -> int:
        """A descriptor for writing, after every lease on the file is broken.

        It is kept while the handle lives, so that no lease comes between it and the kernel's
        own open of the backing file.
        """
        self._leased.give_way(node.ino)
        probe = break_foreign(fd)
        with trio.move_on_after(_LEASE_WAIT_S):
            while probe is None:
                await trio.sleep(0.005)
                probe = break_foreign(fd)
        if probe is None:
            raise OSError(errno.EBUSY, "a lease on the file is not given up")
        try:
            return self._tree.reopen(fd, os.O_RDWR)
        finally:
            os.close(probe)

    def _before_writing(self, node: Node, handle: Handle, stat: Stat, owner: str) -> None:
        self._tree.clear_killpriv(handle.fd)
        if owner not in {OWNER_NONE, handle.caller.principal.app}:
            self._gate.facts.owners.set(handle.fd, stat, OWNER_NONE)
            self._forget_names(node)  # who sees them may hang on the owner
        self._views.writer_came(node.ino, node.view)
        if not handle.flags & os.O_TRUNC:
            self._see(handle)

    def _enter(self, node: Node, *, writing: bool) -> OpenState:
        """Reserve the node's open state: it lives until as many _leave()s."""
        if node.open is None:
            node.open = OpenState()
        node.open.handles += 1
        node.open.writers += writing
        return node.open

    def _finish(self, handle: Handle, state: OpenState, stat: Stat) -> None:
        """Number the handle and put it into the table, if the policy still is the one that allowed it."""
        self._gate.unchanged(handle.generation)
        node = handle.node
        state.stat = stat
        if handle.mode is Mode.PASSTHROUGH:
            handle.fh = pack_fh(handle.index, FH_PASSTHROUGH | FH_NOFLUSH, state.backing_id)
        else:
            flags = 0 if state.head is not None else FH_NOFLUSH
            version = state.version or version_of(stat)
            if node.cached == version and node.flavor in {Flavor.COPY, Flavor.RAW}:
                flags |= FH_KEEP_CACHE
            node.cached = version
            handle.fh = pack_fh(handle.index, flags)
        self._handles.add(handle)

    def _leave(self, handle: Handle, state: OpenState) -> None:
        """Take back one _enter(); the last one gives everything up."""
        node = handle.node
        if handle.fd >= 0:
            os.close(handle.fd)
            handle.fd = -1
        self._handles.pop(handle.fh)
        state.handles -= 1
        state.writers -= handle.writable
        if state.handles:
            return
        self._passing.release(node, state)
        self._leased.disconnect(state)
        if state.copy is not None:
            state.copy.unpin()
        if state.fd >= 0:
            os.close(state.fd)
        node.open = None
        self._nodes.closed(node)

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
            self._leave(handle, state)
