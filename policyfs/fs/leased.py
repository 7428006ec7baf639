"""Large files in a redacted view without reflink: served from the file itself, under a read lease.

Granted only while no writer and no writable mapping exists anywhere; every read is followed by
the question whether the lease still holds, and only then are the bytes sent (store/leases). A
refused or lost lease answers EBUSY until the writer is done, as a file that is still pending.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from policyfs.domain import Audit, Decision, Facts, Op
from policyfs.fs.gate import Gate
from policyfs.fs.nodes import Node, NodeTable
from policyfs.fs.openfile import Handle, OpenState
from policyfs.fs.reading import read_store
from policyfs.fs.record import Call
from policyfs.fs.redactor import Locator, patched
from policyfs.fs.views import version_of
from policyfs.redact.plan import Outcome
from policyfs.store.leases import LeaseKeeper
from policyfs.store.tree import Tree

_BUSY = "somebody has the file open for writing"
_READ = Op.SEE | Op.READ

PagesDropped = Callable[[int], None]
"""Told the number of a node whose cached pages the kernel must drop."""


class Leased:
    """Leases of one mount. keeper is None where leases mean nothing on this store."""

    def __init__(
        self, tree: Tree, nodes: NodeTable, gate: Gate, locator: Locator,
        keeper: LeaseKeeper | None, drop_pages: PagesDropped,
    ) -> None:  # fmt: skip
        self._tree = tree
        self._nodes = nodes
        self._gate = gate
        self._locator = locator
        self._keeper = keeper
        self._drop_pages = drop_pages
        self.refusals = 0
        self.breaks = 0

    @property
    def live(self) -> int:
        """Leases held now."""
        return 0 if self._keeper is None else len(self._keeper)

    async def connect(self, handle: Handle, state: OpenState, fd: int, owner: str, call: Call) -> None:
        """Serve an open of a LEASED node, or refuse it: EBUSY while it has a writer."""
        node, caller = handle.node, handle.caller
        node.mediated = True
        async with state.lock:
            decision, kind, reason = await self._arm(handle, node, state, fd, owner)
        if reason:
            error = 0 if not decision.allowed else errno.EACCES
            if state.lease is None and decision.allowed and self._keeper is not None and reason == _BUSY:
                error = errno.EBUSY
            self._gate.refuse(caller, call, node.path(), decision, kind=kind, note=reason, error=error)
        ranges = tuple((patch.offset, len(patch.data)) for patch in state.patches)
        self._gate.recorder.decided(
            caller, call, node.path(), decision, kind=kind, io="mediated", view=node.view.label,
            redacted=ranges, handle=handle.index, before=handle.before, note="under a read lease",
        )  # fmt: skip

    async def _arm(
        self, handle: Handle, node: Node, state: OpenState, fd: int, owner: str | None
    ) -> tuple[Decision, str | None, str]:
        """Take the lease and locate under it. The third value says why it cannot be served."""
        caller = handle.caller
        unknown = self._gate.judge(caller.principal, _READ, node, Facts(None, owner))
        blank = Decision(allowed=True, errno=0, rules=unknown.rules, audit=Audit.REQUIRED)
        if self._keeper is None:
            return blank, None, "too large to copy, and leases mean nothing on this store"
        if state.lease is None or not state.lease.holds():
            self._drop(state)
            state.lease_fd = self._tree.reopen(fd, os.O_RDONLY)
            state.lease = self._keeper.grant(state.lease_fd, lambda _: self._broken(node))
            if state.lease is None:
                self._drop(state)
                self.refusals += 1
                return blank, None, _BUSY
        lease = state.lease
        lane = caller.principal.key
        kind, plan = await self._locator.locate(state.lease_fd, node.view.redact, lane=lane)
        decision = self._gate.judge(caller.principal, _READ, node, Facts(kind, owner))
        if lease.holds() and decision.redact and decision.redact != node.view.redact:
            kind, plan = await self._locator.locate(state.lease_fd, decision.redact, lane=lane)
        if not lease.holds():  # a writer came while we looked: what was found means nothing
            self._drop(state)
            self.refusals += 1
            return blank, None, _BUSY
        if not decision.allowed:
            return decision, kind, "denied for its kind"
        if decision.redact and plan.outcome is Outcome.REFUSE:
            return decision, kind, f"cannot be redacted: {plan.reason}"
        state.patches = plan.patches if decision.redact else ()
        state.version = version_of(self._tree.fstat(state.lease_fd))
        return decision, kind, ""

    async def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Bytes of a LEASED node. EBUSY if the lease is gone and cannot be had again."""
        node, state = handle.node, handle.node.open
        if state is None:
            raise OSError(errno.ESTALE, "not open")
        for _ in range(2):
            lease = state.lease
            if lease is not None and lease.holds():
                patches = state.patches
                data = await read_store(handle.fd, offset, size)
                if lease.holds() and lease is state.lease:
                    return patched(data, offset, patches)
            async with state.lock:
                if state.lease is None or not state.lease.holds():
                    stat = self._tree.fstat(handle.fd)
                    owner = self._gate.facts.owners.get(handle.fd, stat)
                    decision, kind, reason = await self._arm(handle, node, state, handle.fd, owner)
                    if reason == _BUSY:
                        raise OSError(errno.EBUSY, reason)
                    if reason:
                        self._gate.refuse(
                            handle.caller, Call("read", "read"), node.path(), decision, kind=kind,
                            note=reason, error=errno.EACCES if decision.allowed else 0,
                        )  # fmt: skip
        raise OSError(errno.EBUSY, _BUSY)

    def give_way(self, ino_key: int) -> None:
        """A write-open of this mount is coming: let go of every lease on the file."""
        for node in self._nodes.same_inode(ino_key):
            if node.open is not None and node.open.lease is not None:
                self._broken(node)

    def _broken(self, node: Node) -> None:
        """A writer is coming: drop ranges and pages, and let go at once."""
        self.breaks += 1
        if node.open is not None:
            self._drop(node.open)
        self._drop_pages(node.nodeid)

    def disconnect(self, state: OpenState) -> None:
        """The node's last handle is gone."""
        self._drop(state)

    @staticmethod
    def _drop(state: OpenState) -> None:
        lease, state.lease = state.lease, None
        if lease is not None:
            lease.release()
        fd, state.lease_fd = state.lease_fd, -1
        if fd >= 0:
            os.close(fd)
        state.patches = ()
