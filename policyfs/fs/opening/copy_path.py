"""The copy byte path: a frozen copy of a file, redacted or as the proof of its kind (node.view.redact is
empty).

The copy comes from the cache, or is made (fs/redacted/copies.py), and is pinned twice: for the node, since an
open node shows one copy, and for the handle, in whose app's share it counts. If other handles of the node
show another copy, the open gets ESTALE, and the next LOOKUP leads to a node for the new version."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from policyfs.domain import OWNER_NONE, Decision, Facts, Need
from policyfs.fs.access.facts import SteadyOwner
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.request import OpenContext, OpenRequest
from policyfs.fs.redacted.copies import FrozenTooLarge, NoRoom, Redacted, Redactor, Refused
from policyfs.fs.redacted.windows import refuse_window
from policyfs.linux.statx import Stat
from policyfs.store.copies import Copy
from policyfs.store.page_cache import read_store


class CopyPath(FsPart):
    """The server of one mount's COPY nodes."""

    def __init__(
        self,
        fs: FsContext,
        *,
        passthrough: Passthrough,
        redactor: Redactor,
        preconditions: Preconditions,
        lifecycle: Lifecycle,
    ) -> None:
        super().__init__(fs)
        self._passthrough = passthrough
        self._redactor = redactor
        self._preconditions = preconditions
        self._lifecycle = lifecycle

    async def open_again(self, opening: OpenContext) -> bool:
        """Open a registered copy of the file's present version. INVARIANT: no await. Return False if all
        steps are needed: there is no such copy, or it hides other words."""
        request = opening.request
        node, who = request.node, request.caller.principal
        dirfd, name, opening.stat = self._resolver.locate(node)
        copy = self._redactor.known(node.ino, opening.stat, node.view.redact, who)
        if copy is None or not copy.backing_id or node.mediated:
            return False
        if node.open is not None and (node.open.copy is not copy or node.open.is_locked):
            return False
        asked = self._gate.need(who, request.ops, node) & Need.OWNER
        owner = self._gate.facts.owner_at(dirfd, name, opening.stat) if asked else None
        opening.owner = owner or OWNER_NONE
        self._preconditions.check_path(opening)
        judge = _Judge(self._gate, request, lambda: owner)
        opening.handle = self._lifecycle.new_handle(node, request.caller, request.flags, opening.stat)
        try:
            made = self._redactor.again(copy, judge, who)
        except NoRoom:
            return False
        if isinstance(made, Refused):
            return False
        opening.handle.copy, opening.handle.payer = copy, self._redactor.payer(who)
        opening.state = self._lifecycle.enter(node, writing=False)
        self._adopt(opening.handle, opening.state, copy)
        self._show(opening, made, judge)
        return True

    async def connect(self, opening: OpenContext) -> None:
        """Make the handle show a frozen copy of the file's present version, from the cache or new."""
        request, handle, state = opening.request, opening.handle, opening.shared
        node = request.node
        judge = _Judge(self._gate, request, partial(self._gate.facts.owner_of, opening.fd))
        now = version_of(self._tree.fstat(opening.fd))  # the file may have changed during the decision
        if node.parent is not None and state.version not in (None, handle.before, now):
            self._give_up(node, state)
        in_the_making = state.copy is None
        async with state.lock:
            opening.stat = stat = self._tree.fstat(opening.fd)
            current = in_the_making or state.version in (version_of(stat), handle.before)
            if state.copy is None:
                state.version = version_of(stat)  # look-ups of other versions get other nodes
            try:
                made = await self._copy_for(opening, stat, judge, current=current)
                if isinstance(made, Refused):
                    self._refuse(request, made)
            except BaseException:
                if state.copy is None:
                    state.version = None
                raise
            handle.copy = made.copy
            self._adopt(handle, state, made.copy)
            self._show(opening, made, judge)

    async def read(self, handle: Handle, offset: int, size: int) -> memoryview:
        """Read from a mediated node's copy. Raise OSError (EIO), on record, for frames not to be shown."""
        if handle.film is None:
            return await read_store(handle.fd, offset, size)
        data, why = await handle.film.read(handle.fd, offset, size, handle.caller.principal.lane)
        if why:
            refuse_window(self._gate, handle, why)
        return data

    def _show(self, opening: OpenContext, made: Redacted, judge: _Judge) -> None:
        handle, frozen = opening.handle, made.copy.frozen
        handle.facts, handle.hidden, handle.film = Facts(made.kind, judge.owner), made.hidden, made.film
        if made.film is not None:  # its frames are looked at as they are read
            opening.request.node.mediated = True
        self._passthrough.choose_copy(opening.request.node, opening.shared, made.copy)
        opening.decision, opening.kind, opening.redacted = judge.decision, made.kind, made.ranges
        opening.bytes_fd, opening.version = frozen.fd, frozen.version

    async def _copy_for(
        self, opening: OpenContext, stat: Stat, judge: _Judge, *, current: bool
    ) -> Redacted | Refused:
        """Return the open's copy, pinned: the node's if *current* (as new as the open), else a newer."""
        handle, state, node = opening.handle, opening.shared, opening.request.node
        who = handle.caller.principal
        handle.payer = self._redactor.payer(who)
        try:
            # The node's own copy is right even if another view has put another copy into the cache since.
            # This copy is also right if the file has changed while this open waited for the copy.
            if state.copy is not None and (node.parent is None or current):
                made = self._redactor.again(state.copy, judge, who)
                if node.parent is None or isinstance(made, Redacted):  # a nameless node gets no newer copy
                    return made
        except NoRoom:
            self._without_copy(opening.request)
        if state.copy is not None and state.version != version_of(stat):
            self._give_up(node, state)
            state.version = version_of(stat)
        try:
            return await self._redactor.redacted(opening.fd, node.ino, node.view.redact, judge, who)
        except (FrozenTooLarge, NoRoom):
            self._without_copy(opening.request)

    def _without_copy(self, request: OpenRequest) -> NoReturn:
        """Refuse an open without a copy: ESTALE (the next LOOKUP finds the node for large files); in a raw
        view EBUSY or EACCES, since a second ESTALE would reach the app."""
        if request.node.view.raw:
            self._preconditions.unproven(request.node, request.caller, request.call, writing=True)
        self._preconditions.resized(request)
        raise StaleNodeError from None

    def _give_up(self, node: Node, state: OpenState) -> None:
        """Stop showing the node's copy. Raise StaleNodeError if other handles show this copy."""
        self._nodes.vectors.drop(node)  # handles of the bridge count, too
        if state.handles > 1:
            raise StaleNodeError
        if state.copy is not None:  # from here on other opens of the node wait for the new copy
            self._passthrough.release(node, state)
            state.copy.unpin()
            state.copy, state.version, state.cut = None, None, False

    def _adopt(self, handle: Handle, state: OpenState, copy: Copy) -> None:
        """Make *copy* the open node's copy, pinned. Raise StaleNodeError if other handles show another."""
        if state.copy is copy:
            return
        if state.copy is not None:
            self._give_up(handle.node, state)
        copy.pin()
        state.copy, state.version = copy, copy.frozen.version

    def _refuse(self, request: OpenRequest, made: Refused) -> NoReturn:
        note = f"cannot be redacted: {made.reason}" if made.reason else ""
        error = 0 if not made.decision.allowed else errno.EACCES
        self._gate.refuse(
            request.caller, request.call, request.node.path(), made.decision, kind=made.kind, note=note,
            error=error,
        )  # fmt: skip


class _Judge:
    """A function that decides by the kind found in a copy. decision, owner: those of its last call."""

    def __init__(self, gate: Gate, request: OpenRequest, find_owner: Callable[[], str | None]) -> None:
        self._gate = gate
        self._request = request
        self._steady = SteadyOwner(find_owner)
        self.owner: str | None = None
        self.decision: Decision

    def __call__(self, kind: str | None) -> Decision:
        request, self.owner = self._request, self._steady.now()
        facts = Facts(kind, self.owner)
        self.decision = self._gate.judge(request.caller.principal, request.ops, request.node, facts)
        return self.decision
