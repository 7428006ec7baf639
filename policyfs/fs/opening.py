"""Opening files: the decision, then the road, then everything that must be true before the reply.

Order of an open (docs/architecture.md, "Opening"): decision; the node is the one this caller's
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
from typing import Final

from policyfs.domain import OWNER_NONE, Decision, Facts, Need, Op, Principal, banned
from policyfs.fs.alone import Alone
from policyfs.fs.drafts import Drafts
from policyfs.fs.entrance import Entrance, describe, ops_of
from policyfs.fs.gate import Gate
from policyfs.fs.heads import Head
from policyfs.fs.leased import Leased
from policyfs.fs.nodes import Flavor, NamesForgotten, Node, NodeTable, SizeForgotten, StaleNodeError
from policyfs.fs.openfile import Caller, Handle, HandleTable, Mode, OpenState
from policyfs.fs.orphans import Orphans
from policyfs.fs.passing import Passing
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.fs.redactor import FrozenTooLarge, Judge, NoRoom, Redacted, Redactor, Refused
from policyfs.fs.views import Views, version_of
from policyfs.kernel.bridge import FH_KEEP_CACHE, FH_NOFLUSH, FH_PASSTHROUGH, pack_fh
from policyfs.store.copies import Copy
from policyfs.store.frozen import Version
from policyfs.store.statx import Stat
from policyfs.store.tree import Tree

_WRITTEN: Final = frozenset({Flavor.RAW, Flavor.LIVE})
"""Flavors through which bytes of the store change."""


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
        alone: Alone,
        drafts: Drafts,
        forget_names: NamesForgotten,
        forget_size: SizeForgotten,
        forget_attributes: Callable[[int], None],
        remote: bool = False,
    ) -> None:
        """remote: the store tells some errors of writing only when a file is closed."""
        self._tree = tree
        self._alone = alone
        self._drafts = drafts
        self._nodes = nodes
        self._handles = handles
        self._places = places
        self._gate = gate
        self._views = views
        self._passing = passing
        self._redactor = redactor
        self._leased = leased
        self._forget_size = forget_size
        self._forget_attributes = forget_attributes
        self._remote = remote
        self.orphans = Orphans()
        self._entrance = Entrance(
            tree=tree, nodes=nodes, handles=handles, places=places, gate=gate, views=views,
            leased=leased, forget_names=forget_names, orphans=self.orphans, remote=remote,
        )  # fmt: skip

    # -- open -----------------------------------------------------------------------------------

    async def open(self, node: Node, flags: int, caller: Caller) -> Handle:
        """Open a node for a caller. Raises FUSEError for a refusal, OSError otherwise."""
        try:
            handle = await self._open(node, flags, caller)
        except OSError as error:
            if error.errno == errno.ESTALE:
                self.orphans.missed(node)
            raise
        self.orphans.opened(node)
        return handle

    async def _open(self, node: Node, flags: int, caller: Caller) -> Handle:
        call = Call("open", describe(flags))
        ops = ops_of(flags)
        writing = bool(ops & Op.WRITE)
        if not writing and node.parent is not None and self.orphans.find(node) < 0:
            if node.flavor is Flavor.RAW and self._passing.has(node):
                decision = await self._gate.require(caller, ops, node, call)
                return self._open_again(node, flags, caller, decision, call)
            if node.flavor is Flavor.COPY:
                again = self._open_copy_again(node, flags, caller, call)
                if again is not None:
                    return again
        fd, stat = await self._entrance.find_apart(node)
        try:
            decision = await self._gate.require(caller, ops, node, call, fd=fd)
            owner = self._gate.facts.owners.get(fd, stat) if writing or node.view.redact else OWNER_NONE
            self._entrance.check_road(node, caller, stat, owner, writing=writing)
            self._entrance.check_running(node, flags)
            emptied = writing and self._entrance.by_emptying(
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
        self._entrance.check_view(node, caller)
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

    def _open_copy_again(self, node: Node, flags: int, caller: Caller, call: Call) -> Handle | None:
        """Open a copy that was made of the file as it is now and that the kernel knows already.

        None where any of that is not so, or the answer is not the one it was made for: then
        everything is looked at from the start. Nothing here awaits.
        """
        dirfd, name, stat = self._places.locate(node)
        copy = self._redactor.known(node.ino, stat, node.view.redact)
        if copy is None or not copy.backing_id or node.mediated:
            return None
        if node.open is not None and (node.open.copy is not copy or node.open.lock.locked()):
            return None
        ops, who = ops_of(flags), caller.principal
        asked = self._gate.need(who, ops, node) & Need.OWNER
        owner = self._gate.facts.owner_at(dirfd, name, stat) if asked else None
        self._entrance.check_road(node, caller, stat, owner or OWNER_NONE, writing=False)
        decisions: list[Decision] = []

        def judge(facts: Facts) -> Decision:
            decisions.append(self._gate.judge(who, ops, node, facts))
            return decisions[-1]

        handle = self._new_handle(node, caller, flags, stat)
        try:
            made = self._redactor.again(copy, owner, judge, who)
        except NoRoom:
            return None
        if isinstance(made, Refused):
            return None
        handle.copy, handle.payer = copy, self._redactor.payer(who)
        handle.facts, handle.hidden = Facts(made.kind, owner), made.hidden
        state = self._enter(node, writing=False)
        try:
            self._adopt(node, state, copy)
            self._passing.choose_copy(node, state, copy)
            handle.mode = state.mode
            self._finish(handle, state, stat)
            self._record_copy(handle, call, decisions[-1], made)
        except BaseException:
            self._leave(handle, state)
            raise
        return handle

    def _record_copy(self, handle: Handle, call: Call, decision: Decision, made: Redacted) -> None:
        """What was opened is a copy: which kind, and where something is hidden in it."""
        node = handle.node
        self._gate.recorder.decided(
            handle.caller, call, node.path(), decision, kind=made.kind, io=handle.mode.value,
            view=node.view.label, redacted=made.ranges, handle=handle.index, before=handle.before,
        )  # fmt: skip

    def _new_handle(self, node: Node, caller: Caller, flags: int, stat: Stat) -> Handle:
        """A handle that is not connected yet, right after the decision that allows it."""
        handle = Handle(self._handles.new_index(caller), node, caller, flags, -1)
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
            handle.fd = await self._entrance.writer(node, fd)
            self._entrance.before_writing(node, handle, stat, owner)
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
        await self._show_size(handle, version_of(stat))
        self._finish(handle, state, stat)
        if node.flavor is not Flavor.LEASED:
            self._gate.recorder.decided(
                handle.caller, call, node.path(), decision,
                io=handle.mode.value, view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
        if handle.flags & os.O_TRUNC:  # last: everything that could refuse has passed
            # No write that was judged on the old bytes may come after: here, or in another daemon.
            # A reader's goes to the file itself: it has no draft to settle, and no bytes are none's.
            if state.draft is not None or (banned(decision.content) and handle.writable):
                async with state.lock:
                    await self._drafts.empty(handle, state)
                return
            async with state.lock, self._alone.on(handle.fd):
                self._gate.unchanged(handle.generation)
                self._empty(handle, state)

    async def _show_size(self, handle: Handle, version: Version) -> None:
        """What is read here was changed elsewhere since the kernel was told its size: it must ask
        again, for it reads no further than the size it knows. (In passthrough it goes by the file.)
        """
        node = handle.node
        if handle.mode is Mode.MEDIATED and node.was_told_another(version):
            await self._forget_size(node.nodeid)
            node.tell(version)

    def _empty(self, handle: Handle, state: OpenState) -> None:
        """Carry out O_TRUNC."""
        self._tree.truncate_fd(handle.fd, 0)
        if state.head is not None:
            state.head = Head(empty=True, created=state.head.created)
        self._entrance.see(handle)

    async def _connect_copy(self, handle: Handle, state: OpenState, fd: int, owner: str, call: Call) -> None:
        """Serve the handle from the node's frozen copy, made or found for the file as it is now."""
        node, caller = handle.node, handle.caller

        def judge(facts: Facts) -> Decision:
            return self._gate.judge(caller.principal, ops_of(handle.flags), node, facts)

        async with state.lock:
            stat = self._tree.fstat(fd)
            made = await self._copy_for(handle, state, fd, stat, owner, judge, caller.principal)
            if isinstance(made, Refused):
                note = f"cannot be redacted: {made.reason}" if made.reason else ""
                error = 0 if not made.decision.allowed else errno.EACCES
                self._gate.refuse(
                    caller, call, node.path(), made.decision, kind=made.kind, note=note, error=error
                )
            handle.copy = made.copy
            self._adopt(node, state, made.copy)
            handle.facts, handle.hidden = Facts(made.kind, owner), made.hidden
            self._passing.choose_copy(node, state, made.copy)
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED:
            handle.fd = os.dup(made.copy.frozen.fd)
        await self._show_size(handle, made.copy.frozen.version)
        self._finish(handle, state, stat)
        self._record_copy(handle, call, judge(Facts(made.kind, owner)), made)

    async def _copy_for(
        self, handle: Handle, state: OpenState, fd: int, stat: Stat, owner: str, judge: Judge, who: Principal
    ) -> Redacted | Refused:
        """The copy for an open, pinned: the node's own while it is current, else the file's as it is now."""
        node = handle.node
        handle.payer = self._redactor.payer(who)
        try:
            # Its own, also where another view has put one of its own into the cache since.
            if state.copy is not None and (node.parent is None or state.version == version_of(stat)):
                made = self._redactor.again(state.copy, owner, judge, who)
                if node.parent is None or isinstance(made, Redacted):  # no LOOKUP leads to a newer one
                    return made
        except NoRoom:
            raise StaleNodeError from None
        if state.copy is not None and state.version != version_of(stat) and state.handles > 1:
            self._views.outdated(node.ino, node.view)
            raise StaleNodeError
        try:
            return await self._redactor.redacted(fd, node.ino, node.view.redact, owner, judge, who)
        except (FrozenTooLarge, NoRoom):
            raise StaleNodeError from None  # LOOKUP will find the node for large files

    def _adopt(self, node: Node, state: OpenState, copy: Copy) -> None:
        """Pin exactly one copy per open node; another one while others have it open is stale. Where
        they have gone meanwhile, the new copy takes the place of theirs.
        """
        old = state.copy
        if old is copy:
            return
        if old is not None:
            if state.handles > 1:
                self._views.outdated(node.ino, node.view)
                raise StaleNodeError
            self._passing.release(node, state)
            old.unpin()
        copy.pin()
        state.copy, state.version, state.cut = copy, copy.frozen.version, False

    async def open_to_truncate(self, node: Node, size: int, caller: Caller) -> Handle:
        """A handle of our own for truncate(2) by path: everything a write-open does, no road."""
        call = Call("truncate", "truncate")
        decision = await self._gate.require(caller, Op.SEE | Op.WRITE, node, call)
        fd, stat = self._entrance.open_named(node)
        try:
            owner = self._gate.facts.owners.get(fd, stat)
            self._entrance.check_view(node, caller)
            emptied = self._entrance.by_emptying(node, caller, call, stat, owner, empties=size == 0)
            flags = os.O_WRONLY if size else os.O_WRONLY | os.O_TRUNC
            handle = self._new_handle(node, caller, flags, stat)
            handle.emptied = emptied
            state = self._enter(node, writing=True)
            try:
                handle.fd = await self._entrance.writer(node, fd)
                self._entrance.before_writing(node, handle, stat, owner)
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

    def backing_fd(self, handle: Handle) -> int:
        """A descriptor of the store's file behind a handle, whatever its view; the caller's to close.

        For reading at least. Of a copy's reader it is the file that has the name now. ESTALE if
        neither a descriptor nor a name leads to it.
        """
        if handle.fd >= 0 and handle.node.flavor is not Flavor.COPY:
            return os.dup(handle.fd)
        return self._entrance.find(handle.node)[0]

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

    def _enter(self, node: Node, *, writing: bool) -> OpenState:
        """Reserve the node's open state: it lives until as many _leave()s.

        INVARIANT: all open nodes of an inode through which the daemon writes have one lock, so that
        what was judged in one view is still so when it is written, whatever other views do meanwhile.
        Nobody waits for one such lock while holding another. Copies and leases have locks of their
        own: what takes long there must not hold up a writer.
        """
        if node.open is None:
            node.open = OpenState()
            if node.flavor in _WRITTEN:
                for other in self._nodes.same_inode(node.ino):
                    if other is not node and other.open is not None and other.flavor in _WRITTEN:
                        node.open.lock = other.open.lock
                        break
        node.open.handles += 1
        node.open.writers += writing
        return node.open

    def _finish(self, handle: Handle, state: OpenState, stat: Stat) -> None:
        """Number the handle and put it into the table, if the policy still is the one that allowed it."""
        self._gate.unchanged(handle.generation)
        node = handle.node
        state.stat = stat
        if handle.mode is Mode.PASSTHROUGH:
            flags = 0 if self._remote and handle.writable else FH_NOFLUSH
            handle.fh = pack_fh(handle.index, FH_PASSTHROUGH | flags, state.backing_id)
        else:
            # A writer's close is always heard: a reload may come to ask something of what it writes.
            flags = 0 if handle.writable else FH_NOFLUSH
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
            with contextlib.suppress(OSError):  # nobody is left to hear it: FLUSH has asked before
                os.close(handle.fd)
            handle.fd = -1
        self._handles.pop(handle.fh)
        if handle.copy is not None:
            handle.copy.unpin(handle.payer)
            handle.copy = None
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
        if state.draft is not None:
            state.draft.close()
        node.open = None
        self._nodes.closed(node)

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
            self._leave(handle, state)
