"""Files under a read lease: mostly large files in a redacted view, if the store cannot clone.

Two other sorts of files are read under a lease, too. For the first sort, the cache (or the app's share of the
cache) has no room for a copy. Files of the second sort are too large to copy, and the app may read them only
because of their kind.

The kernel grants a lease only while no process has the file open for writing or mapped writable. After every
read, the daemon checks the lease, and sends the bytes only if the lease still holds (store/leases). If the
kernel refuses or breaks the lease, apps get EBUSY until the writer is done, as for a file whose check is
pending.

On a mergerfs pool, the lease is on the branch's file, which is also read (store/pool.py).

On NFS 4 the kernel grants a lease only under a delegation of the server. But a server can restart, and the
kernel notices no write before that. So after every read the daemon also asks the server for size and times.

Files under a lease are never in passthrough, even if nothing in the file is hidden: the lease keeps writers
out, but ends before the apps' mappings end (docs/decisions/0022-large-clean-files-stay-mediated.md).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import trio

from policyfs.domain import NO_RANGES, Audit, Decision, Facts, Need, Op, hides_at_least
from policyfs.fs.access.audit import Call
from policyfs.fs.access.facts import version_key
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import LeasedBytes, OpenState
from policyfs.fs.redacted.patching import patched_read, ranges_of
from policyfs.fs.redacted.plans import PLANS_MAX, PlanFinder, Proof
from policyfs.fs.redacted.windows import refuse_window
from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.linux.statx import fstatx_of_server
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.locking.leases import Lease, LeaseKeeper
from policyfs.store.page_cache import read_store
from policyfs.store.pool import NotBelowError, Pool

_BUSY: Final = (
    "a program has the file open for writing, or mapped; the app can read the file after that program has"
    " closed the file"
)
_NOT_DELEGATED: Final = (
    "the NFS server grants no delegation: a program has the file open for writing, or had it in the last"
    " minute; or server and kernel grant none (Linux 5.14)"
)
_NO_LEASES: Final = (
    "the file is larger than --copy-max, or the cache has no room for its copy (--copies-max); and leases do"
    " not work on its file system"
)
_NOT_BELOW: Final = (
    "the file is larger than --copy-max, or the cache has no room for its copy (--copies-max); and the branch"
    " that the mergerfs pool names has no such file with the size and times that the pool tells"
)
_POOL_TRIES: Final = 10
_POOL_PAUSE_S: Final = 0.02
"""The pause between two tries to lease a pool's file: the pool closes the branch's file some time after a
writer's close(2)."""
_READ: Final = Op.SEE | Op.READ
_REST_S: Final = 0.1
"""The time after a break without a new lease: a writer in another mount tries every few milliseconds."""

_PLAN_MEMORY: Final = 128 << 20
"""The memory for the plans of all LEASED nodes, in bytes (a plan takes at most 72 MB), in shares of apps."""

_READING: Final = Call("read", "read")

PagesDropped = Callable[[int], None]
"""A function of a node's number. It makes the kernel drop the cached pages of the node."""


class Armed(NamedTuple):
    """The result of taking a lease (LeasedFiles._arm()). reason: why the file cannot be shown, or ""."""

    decision: Decision
    kind: str | None
    reason: str


class LeasedFiles(FsPart):
    """The part of a mount that takes leases and reads files under them. keeper: None if leases prove nothing
    on this store. pool: the mergerfs pool that the store is in, or None. delegated: StoreFacts.delegates."""

    def __init__(
        self,
        fs: FsContext,
        plans: PlanFinder,
        keeper: LeaseKeeper | None,
        drop_pages: PagesDropped,
        pool: Pool | None = None,
        *,
        delegated: bool = False,
    ) -> None:
        super().__init__(fs)
        self._plans = plans
        self._keeper = keeper
        self._drop_pages = drop_pages
        self._pool = pool
        self._delegated = delegated
        self._busy = _NOT_DELEGATED if delegated else _BUSY
        self._resting: Expiring[int, bool] = Expiring(_REST_S)
        self._plan_memory = Shares(_PLAN_MEMORY, "redaction plans of open files")
        self._plan_payers: dict[OpenState, tuple[Holder, int]] = {}  # payer and bytes of a node's plans
        self.refusals = 0
        self.breaks = 0

    @property
    def live(self) -> int:
        """The number of leases that are held now."""
        return 0 if self._keeper is None else len(self._keeper)

    def report(self) -> dict[str, object]:
        """Return the counts for ``status``."""
        return {"held": self.live, "refused": self.refusals, "broken": self.breaks}

    async def connect(self, handle: Handle, state: OpenState, fd: int, call: Call) -> Armed:
        """Serve an open of a LEASED node, or refuse it: EBUSY while the file has a writer, EMFILE if the
        plans of the app's open files take more memory than is free, the errno of a denial, or EACCES."""
        handle.node.mediated = True
        async with state.lock:
            if state not in self._plan_payers:
                self._plan_memory.check(handle.caller.holder)
            armed = await self._arm_counted(handle, state, fd)
        self._admit(handle, armed, call)
        return armed

    def _admit(self, handle: Handle, armed: Armed, call: Call) -> None:
        """Refuse, on record, a file not to be shown: the decision's errno, EBUSY (a writer), or EACCES."""
        if not armed.reason:
            return
        error = 0
        if armed.decision.allowed:
            error = errno.EBUSY if armed.reason == self._busy else errno.EACCES
        self._gate.refuse(
            handle.caller, call, handle.node.path(), armed.decision, kind=armed.kind, note=armed.reason,
            error=error,
        )  # fmt: skip

    async def _arm_counted(self, handle: Handle, state: OpenState, fd: int) -> Armed:
        try:
            return await self._arm(handle, state, fd)
        finally:
            self._count_plans(state, handle.caller.holder)

    def _count_plans(self, state: OpenState, holder: Holder) -> None:
        self._count_no_plans(state)
        if state.located is None:
            return
        plan, shown = state.located[1], state.shown
        size = plan.plan_size.memory_bytes
        if shown is not None and shown.patches and shown.patches is not plan.patches:
            size *= 2  # a second plan, which hides fewer words
        if size:
            self._plan_memory.take(holder, size)
            self._plan_payers[state] = holder, size

    def _count_no_plans(self, state: OpenState) -> None:
        payer = self._plan_payers.pop(state, None)
        if payer is not None:
            self._plan_memory.give(*payer)

    async def _arm(self, handle: Handle, state: OpenState, fd: int) -> Armed:
        """Take the lease and locate hidden data under it, with the node's lock. *fd*: O_RDONLY. INVARIANT:
        the last decision comes after the last await, and the plan hides exactly its words."""
        node, caller = handle.node, handle.caller
        unknown = self._judge(handle, state, fd, None)
        blank = Decision(allowed=True, errno=0, rules=unknown.rules, audit=Audit.REQUIRED)
        lease = await self._take(handle, state, fd)
        if isinstance(lease, str):
            return self._not_armed(state, blank, lease)
        words, found = node.view.redact, state.located
        tries = PLANS_MAX
        while True:
            tries -= 1
            # A plan that was found under this lease also serves further opens.
            kind, plan = found or await self._locate(caller, words, lease)
            if not lease.holds():  # a writer came meanwhile: kind and plan may be of other bytes
                return self._not_armed(state, blank, self._busy)
            if words == node.view.redact:
                state.located = None if kind is None else (kind, plan)  # a worker that failed is asked again
            decision = self._judge(handle, state, fd, kind)
            if not decision.allowed:
                return Armed(decision, kind, "denied")
            if not decision.redact or decision.redact == words:
                break
            if not tries:
                return Armed(decision, kind, "the workers do not agree on the data to hide")
            words, found = decision.redact, None
        if decision.redact and plan.outcome is Outcome.REFUSE:
            return Armed(decision, kind, f"cannot be redacted: {plan.reason}")
        patches, ranges = (plan.patches, ranges_of(plan)) if decision.redact else ((), NO_RANGES)
        proof = None if lease.told is None else partial(self._is_as_told, node, lease)
        film = self._plans.film(kind, plan, decision.redact, proof)
        state.shown = LeasedBytes(lease, self._gate.generation, patches, kind, decision.redact, ranges, film)
        state.version = version_of(self._tree.fstat(state.lease_fd))
        return Armed(decision, kind, "")

    def _not_armed(self, state: OpenState, blank: Decision, reason: str) -> Armed:
        self.refusals += reason == self._busy
        self._drop(state)
        return Armed(blank, None, reason)

    async def _take(self, handle: Handle, state: OpenState, fd: int) -> Lease | str:
        """Return the node's lease if it holds, a new one, or the reason why there is none.

        INVARIANT: in a pool the file is compared after the lease was granted. A later open compares it again:
        the pool may have another file for this name and number by then."""
        node, pool = handle.node, self._pool
        if self._keeper is None:
            return _NO_LEASES
        if state.lease is not None:
            if state.lease.holds() and (pool is None or pool.same(fd, state.lease_fd)):
                return state.lease
            self._broken(node)
        reason = self._busy
        for tries in range(1 if pool is None else _POOL_TRIES):
            self._drop(state)
            if tries:
                await trio.sleep(_POOL_PAUSE_S)
            await self._rest(node.ino)
            reopen = partial(self._tree.reopen, fd, os.O_RDONLY)
            if pool is not None:
                reopen = partial(pool.open_below, fd, node.path())
            holder = handle.caller.holder
            try:
                state.lease_fd, state.lease_fd_closed = self._handles.open_for(node, holder, reopen)
            except NotBelowError:
                return _NOT_BELOW
            state.lease = lease = self._keeper.grant(state.lease_fd, lambda _: self._broken(node))
            if lease is not None and (pool is None or pool.same(fd, state.lease_fd)):
                if self._delegated:
                    lease.told = await _told(fd)  # the lease's may be closed meanwhile
                return lease
            if state.lease is None and self._keeper.is_void(os.fstat(state.lease_fd).st_dev):
                return _NO_LEASES
            reason = self._busy if state.lease is None else _NOT_BELOW
        return reason

    def _judge(self, handle: Handle, state: OpenState, fd: int, kind: str | None) -> Decision:
        who, node = handle.caller.principal, handle.node
        asked = self._gate.need(who, _READ, node) & Need.OWNER
        owner = self._gate.facts.owner_of(fd, state.lease_fd) if asked else None
        return self._gate.judge(who, _READ, node, Facts(kind, owner))

    async def _locate(self, caller: Caller, what: frozenset[str], lease: Lease) -> tuple[str | None, Plan]:
        """Return kind and plan. INVARIANT: a worker, which may live longer than the daemon, gets a descriptor
        without the lease."""
        fd = self._tree.reopen(lease.fd, os.O_RDONLY)
        try:
            proof = Proof(version_key(self._tree.fstat(fd)), lease.holds)
            lane = caller.principal.lane
            return await self._plans.locate(fd, what, lane=lane, proof=proof, frames_later=True)
        finally:
            os.close(fd)

    async def read(self, handle: Handle, offset: int, size: int) -> memoryview:
        """Read bytes of a LEASED node. Refuse (EBUSY, on record) if the lease is lost and not renewed.

        INVARIANT: the bytes and the patches are of one lease and one policy, from before the read to after
        it. Another request may take a new lease at any await, and locate the hidden data later.
        """
        node, state = handle.node, handle.node.open
        if state is None:
            raise OSError(errno.ESTALE, "not open")
        for _ in range(2):
            shown = state.shown
            if shown is not None and self._current(shown):
                data, why = await self._bytes(shown, handle, offset, size)
                is_taken_back = state.shown != shown
                if not is_taken_back and self._current(shown) and self._hides_enough(shown, handle):
                    if why:
                        refuse_window(self._gate, handle, why)
                    return data
                del data  # another read can use its buffer
            async with state.lock:
                shown = state.shown
                if shown is None or not self._current(shown) or not self._hides_enough(shown, handle):
                    self._admit(handle, await self._arm_counted(handle, state, handle.fd), _READING)
        return self._gate.refuse(
            handle.caller, _READING, node.path(), Decision(allowed=True, errno=0, audit=Audit.REQUIRED),
            note=self._busy, error=errno.EBUSY,
        )  # fmt: skip

    async def _bytes(
        self, shown: LeasedBytes, handle: Handle, offset: int, size: int
    ) -> tuple[memoryview, str]:
        fd = os.dup(shown.lease.fd)  # the lease's may be closed meanwhile
        try:
            if shown.film is None:
                data, why = await read_store(fd, offset, size), ""
            else:
                data, why = await shown.film.read(fd, offset, size, handle.caller.principal.lane)
            if shown.film is None and shown.lease.told is not None:
                await self._is_as_told(handle.node, shown.lease, fd)
        finally:
            os.close(fd)
        return await patched_read(data, offset, shown.patches), why

    async def _is_as_told(self, node: Node, lease: Lease, fd: int) -> bool:
        """Return True if the server tells of the file what it told when it granted the lease. Otherwise drop
        the lease. *fd*: a descriptor of the file."""
        is_same = lease.told == await _told(fd)
        if not is_same and node.open is not None and node.open.lease is lease:
            self._broken(node)
        return is_same

    def _current(self, shown: LeasedBytes) -> bool:
        """Return True if these patches still fit: the lease holds, and no reload came."""
        return shown.generation == self._gate.generation and shown.lease.holds()

    def _hides_enough(self, shown: LeasedBytes, handle: Handle) -> bool:
        state = handle.node.open
        if state is None:
            return False
        now = self._judge(handle, state, handle.fd, shown.kind)
        return now.allowed and hides_at_least(shown.hidden, now.redact)

    async def _rest(self, ino_key: int) -> None:
        """Wait for the end of _REST_S after a break of the lease, so that the writer can open the file."""
        if (left_s := self._resting.left_s(ino_key)) > 0:
            await trio.sleep(left_s)

    def give_way(self, ino_key: int) -> None:
        """Release every lease on a file before this mount opens the file for writing."""
        for node in self._nodes.same_inode(ino_key):
            if node.open is not None and node.open.lease is not None:
                self._broken(node)

    def _broken(self, node: Node) -> None:
        """Drop patches and pages of a node, and release its lease: a writer is coming."""
        self.breaks += 1
        self._resting.put(node.ino, True)
        if node.open is not None:
            self._drop(node.open)
        self._drop_pages(node.nodeid)

    def disconnect(self, state: OpenState) -> None:
        """Release the lease after the node's last handle was closed."""
        self._drop(state)

    def _drop(self, state: OpenState) -> None:
        lease, state.lease = state.lease, None
        if lease is not None:
            lease.release()
        fd, state.lease_fd = state.lease_fd, -1
        if fd >= 0:
            os.close(fd)
            state.lease_fd_closed()
        state.shown = state.located = state.version = None
        self._count_no_plans(state)


async def _told(fd: int) -> tuple[int, int, int]:
    """Ask the store's server for the size and times of a file. Raises OSError."""
    stat = await trio.to_thread.run_sync(fstatx_of_server, fd)
    return stat.size, stat.mtime_ns, stat.ctime_ns
