"""Opens that a frozen copy answers: a redacted view of a file that is not too large, for reading.

The copy is made, or found again, for the file as it is now (fs/redacted/copies.py), and pinned twice: for
the node, which shows one copy as long as it is open, and for the handle, as part of its app's share. An open
that needs another one than others have open is stale: LOOKUP leads to a node for the new version.
"""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from policyfs.domain import OWNER_NONE, Decision, Facts, Need
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.views import version_of
from policyfs.fs.inodes.handles import Caller, Handle, Mode, OpenState
from policyfs.fs.inodes.node_table import Node, StaleNodeError
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.opening.backing_file import BackingFiles, ops_of
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.redacted.copies import FrozenTooLarge, Judge, NoRoom, Redacted, Redactor, Refused
from policyfs.linux.statx import Stat
from policyfs.store.copies import Copy
from policyfs.store.tree import Tree


class CopyOpener:
    """Opens of the COPY nodes of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        resolver: Resolver,
        gate: Gate,
        passthrough: Passthrough,
        redactor: Redactor,
        backing_files: BackingFiles,
        lifecycle: Lifecycle,
    ) -> None:
        self._tree = tree
        self._resolver = resolver
        self._gate = gate
        self._passthrough = passthrough
        self._redactor = redactor
        self._backing_files = backing_files
        self._lifecycle = lifecycle

    async def open_again(self, node: Node, flags: int, caller: Caller, call: Call) -> Handle | None:
        """Open a copy that was made of the file as it is now and that the kernel knows already.

        None where any of that is not so, or the answer is not the one it was made for: then
        everything is looked at from the start. Nothing here awaits.
        """
        dirfd, name, stat = self._resolver.locate(node)
        copy = self._redactor.known(node.ino, stat, node.view.redact, caller.principal)
        if copy is None or not copy.backing_id or node.mediated:
            return None
        if node.open is not None and (node.open.copy is not copy or node.open.lock.locked()):
            return None
        ops, who = ops_of(flags), caller.principal
        asked = self._gate.need(who, ops, node) & Need.OWNER
        owner = self._gate.facts.owner_at(dirfd, name, stat) if asked else None
        self._backing_files.check_road(node, caller, stat, owner or OWNER_NONE, writing=False)
        decisions: list[Decision] = []

        def judge(facts: Facts) -> Decision:
            decisions.append(self._gate.judge(who, ops, node, facts))
            return decisions[-1]

        handle = self._lifecycle.new_handle(node, caller, flags, stat)
        try:
            made = self._redactor.again(copy, owner, judge, who)
        except NoRoom:
            return None
        if isinstance(made, Refused):
            return None
        handle.copy, handle.payer = copy, self._redactor.payer(who)
        handle.facts, handle.hidden = Facts(made.kind, owner), made.hidden
        state = self._lifecycle.enter(node, writing=False)
        try:
            self._adopt(handle, state, copy)
            self._passthrough.choose_copy(node, state, copy)
            handle.mode = state.mode
            self._lifecycle.finish(handle, state, stat)
            await self._record(handle, call, decisions[-1], made)
        except BaseException:
            self._lifecycle.leave(handle, state)
            raise
        return handle

    async def connect(self, handle: Handle, state: OpenState, fd: int, owner: str, call: Call) -> None:
        """Serve the handle from the node's frozen copy, made or found for the file as it is now."""
        node, caller = handle.node, handle.caller

        def judge(facts: Facts) -> Decision:
            return self._gate.judge(caller.principal, ops_of(handle.flags), node, facts)

        now = version_of(self._tree.fstat(fd))  # the decision may have taken its time
        if node.parent is not None and state.version not in (None, handle.before, now):
            self._give_up(state)
        in_the_making = state.copy is None
        async with state.lock:
            stat = self._tree.fstat(fd)
            current = in_the_making or state.version in (version_of(stat), handle.before)
            if state.copy is None:
                state.version = version_of(stat)  # whoever looks another version up gets another node
            try:
                made = await self._copy_for(handle, state, fd, stat, owner, judge, call, current=current)
                if isinstance(made, Refused):
                    self._refuse(handle, made, call)
            except BaseException:
                if state.copy is None:
                    state.version = None
                raise
            handle.copy = made.copy
            self._adopt(handle, state, made.copy)
            handle.facts, handle.hidden = Facts(made.kind, owner), made.hidden
            self._passthrough.choose_copy(node, state, made.copy)
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED:
            handle.fd = os.dup(made.copy.frozen.fd)
        await self._lifecycle.show_size(handle, made.copy.frozen.version)
        self._lifecycle.finish(handle, state, stat)
        await self._record(handle, call, judge(Facts(made.kind, owner)), made)

    async def _copy_for(
        self,
        handle: Handle,
        state: OpenState,
        fd: int,
        stat: Stat,
        owner: str,
        judge: Judge,
        call: Call,
        *,
        current: bool,
    ) -> Redacted | Refused:
        """The copy for an open, pinned: the node's own while it is current, else the file's as it is now.

        current: the node's shows the file as it was when this open came, or later.
        """
        node, who = handle.node, handle.caller.principal
        handle.payer = self._redactor.payer(who)
        try:
            # Its own, also where another view has put one of its own into the cache since, and where the
            # file has changed while this open waited for that very copy.
            if state.copy is not None and (node.parent is None or current):
                made = self._redactor.again(state.copy, owner, judge, who)
                if node.parent is None or isinstance(made, Redacted):  # no LOOKUP leads to a newer one
                    return made
        except NoRoom:
            self._without_copy(node, handle.caller, call)
        if state.copy is not None and state.version != version_of(stat):
            self._give_up(state)
        try:
            return await self._redactor.redacted(fd, node.ino, node.view.redact, owner, judge, who)
        except (FrozenTooLarge, NoRoom):
            self._without_copy(node, handle.caller, call)

    def _without_copy(self, node: Node, caller: Caller, call: Call) -> NoReturn:
        """The file is too large for a copy: LOOKUP will find the node for large files. A reader that was
        sent here because somebody writes a raw file was sent back once already: EBUSY.
        """
        if node.view.raw:
            self._backing_files.unproven(node, caller, call, writing=True)
        raise StaleNodeError from None

    @staticmethod
    def _give_up(state: OpenState) -> None:
        """Where others read another version through the node, this open goes to a node of its own."""
        if state.handles > 1:
            raise StaleNodeError

    def _adopt(self, handle: Handle, state: OpenState, copy: Copy) -> None:
        """Pin exactly one copy per open node; another one while others have it open is stale. Where
        they have gone meanwhile, the new copy takes the place of theirs.
        """
        old = state.copy
        if old is copy:
            return
        if old is not None:
            self._give_up(state)
            self._passthrough.release(handle.node, state)
            old.unpin()
        copy.pin()
        state.copy, state.version, state.cut = copy, copy.frozen.version, state.cut and old is None

    def _refuse(self, handle: Handle, made: Refused, call: Call) -> NoReturn:
        note = f"cannot be redacted: {made.reason}" if made.reason else ""
        error = 0 if not made.decision.allowed else errno.EACCES
        self._gate.refuse(
            handle.caller, call, handle.node.path(), made.decision, kind=made.kind, note=note, error=error
        )

    async def _record(self, handle: Handle, call: Call, decision: Decision, made: Redacted) -> None:
        """What was opened is a copy: which kind, and where something is hidden in it."""
        node = handle.node
        await self._gate.recorder.recorded(
            handle.caller, call, node.path(), decision, kind=made.kind, io=handle.mode.value,
            view=node.view.label, redacted=made.ranges, handle=handle.index, before=handle.before,
        )  # fmt: skip
        self._gate.unchanged(handle.generation)
