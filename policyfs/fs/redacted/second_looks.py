"""Second looks: what one app's worker said of a file is looked at again before anybody else goes by it.

A worker that was taken over can say of a file what it likes, and put bytes that it saw in one file into
another's plan. So what it says serves its own app. Once nothing waits for a worker, a fresh one, which has
seen no other file and ends afterwards, is asked the same. Only what both found is remembered, and shown to
other apps. Where the two differ, or an app's workers contradict each other, that app loses its workers and
what they said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

import trio

from policyfs.content.cache import KindCache, KindKey
from policyfs.fs.access.facts import version_key
from policyfs.fs.redacted.second_look_queue import WaitingLooks
from policyfs.linux import libc
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.leases import Lease, LeaseKeeper
from policyfs.store.tree import Tree

_PATIENCE_S: Final = 0.25
"""So long a look waits for a moment in which no app waits for a worker. It takes the processor from none."""
_RACY_S: Final = 0.06
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK


class FreshSource(Protocol):
    """The sniffer, as far as second looks need it."""

    async def look_afresh(self, fd: int, what: frozenset[str] | None) -> tuple[str, Plan | None] | None:
        """What a worker that has seen no other file says; None without an answer."""

    async def when_idle(self) -> None:
        """Return once no app waits for a worker."""

    def discard(self, lane: Hashable) -> None:
        """End the workers of a lane: one of them has lied."""


class Said(NamedTuple):
    """What an app's worker said of a version of a file. what: hidden by the plan; None: it was asked for the
    kind alone, and plan is None. racy: the file may have changed since and look the same.
    """

    version: KindKey
    what: frozenset[str] | None
    lane: Hashable
    kind: str
    plan: Plan | None
    racy: bool

    def agrees(self, kind: str, plan: Plan | None) -> bool:
        """Return True if another answer says the same of the bytes."""
        if self.kind != kind or self.plan is None or plan is None:
            return self.kind == kind and self.plan is plan
        return (self.plan.outcome, self.plan.patches) == (plan.outcome, plan.patches)


class Verdict(Protocol):
    """What happens once a second look was taken."""

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """The fresh worker found the same. plan: as it says."""

    def denied(self, said: Said) -> None:
        """It found something else."""


@dataclass(slots=True)
class SecondLookStats:
    """Counts since the start; waiting is now. dropped: looks that could not be taken, for a writer say.
    differed: a worker had said something else than the fresh one, or than its app's workers before.
    """

    waiting: int = 0
    confirmed: int = 0
    differed: int = 0
    dropped: int = 0


class SecondLooks:
    """Looks that wait, and the task that takes them. keeper: None where leases mean nothing: then nothing
    proves that the bytes are still the same, and none is taken.
    """

    def __init__(
        self,
        tree: Tree,
        source: FreshSource,
        keeper: LeaseKeeper | None,
        warn: Callable[[str, bytes], None],
    ) -> None:
        """warn: says something, of a path of the mount, in the daemon's log."""
        self._tree = tree
        self._source = source
        self._keeper = keeper
        self._warn = warn
        self._root = -1
        self._jobs: WaitingLooks[_Job] = WaitingLooks()
        self._more = trio.Event()
        self._stats = SecondLookStats()

    def ask(self, fd: int, said: Said, verdict: Verdict) -> None:
        """Have the file behind *fd* looked at again, some time. Nothing is kept of the descriptor."""
        if self._keeper is None:
            return
        key = said.version, said.what
        job = self._jobs.get(said.lane, key)
        if job is not None:
            # INVARIANT: what an app is shown last is what is compared. An honest answer vouches for no other.
            if not job.said.agrees(said.kind, said.plan):
                self._jobs.put(said.lane, key, _Job(job.handle, said, verdict))
                self._differs(job, said.plan, "its app's workers contradict each other", racy=said.racy)
            return
        if not self._jobs.has_room(said.lane):
            self._stats.dropped += 1
            return
        try:
            handle = libc.file_handle(fd)
        except OSError:  # a store without handles
            self._stats.dropped += 1
            return
        self._jobs.put(said.lane, key, _Job(handle, said, verdict))
        self._more.set()

    async def run(self) -> None:
        """Take one look after the other, for as long as this runs."""
        while True:
            while not len(self._jobs):
                self._more = trio.Event()
                await self._more.wait()
            with trio.move_on_after(_PATIENCE_S):
                await self._source.when_idle()
            job = self._jobs.pop()
            try:
                await self._take(job)
            except OSError:  # the file has gone, has a writer, or there is no descriptor or memory for it now
                self._stats.dropped += 1

    def stats(self) -> SecondLookStats:
        """A snapshot for ``status``."""
        self._stats.waiting = len(self._jobs)
        return self._stats

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what waits. A second call does nothing."""
        self._jobs.clear()
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    async def _take(self, job: _Job) -> None:
        if job.said.version.is_racy(time.time_ns()):
            await trio.sleep(_RACY_S)  # nothing can be kept of what may change within one tick
        fd = self._open(job.handle)
        try:
            # INVARIANT: no worker gets the descriptor that has the lease: one that outlives us would keep it.
            leased = self._tree.reopen(fd, os.O_RDONLY)
            try:
                found = await self._under_lease(fd, leased, job.said)
            finally:
                os.close(leased)
        finally:
            os.close(fd)
        if found is None:
            self._stats.dropped += 1
        else:
            self._judge(job, *found)

    def _open(self, handle: bytes) -> int:
        if self._root < 0:  # open_by_handle_at takes no O_PATH descriptor
            self._root = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._tree.root_fd)
        return libc.open_handle(self._root, handle, _READ)

    async def _under_lease(self, fd: int, leased: int, said: Said) -> tuple[str, Plan | None] | None:
        """What a fresh worker says of this very version; None if nothing proves that it is that."""
        scope = trio.CancelScope()

        def broken(lease: Lease) -> None:
            lease.release()
            scope.cancel()

        lease = None if self._keeper is None else self._keeper.grant(leased, broken)
        if lease is None:
            return None
        try:
            if version_key(self._tree.fstat(fd)) != said.version:
                return None
            with scope:
                found = await self._source.look_afresh(fd, said.what)
                return found if lease.holds() else None
            return None
        finally:
            lease.release()

    def _judge(self, job: _Job, kind: str, plan: Plan | None) -> None:
        if job.said.agrees(kind, plan):
            self._stats.confirmed += 1
            job.verdict.confirmed(job.said, plan)
        else:
            self._differs(job, plan, "a fresh one found something else")

    def _differs(self, job: _Job, plan: Plan | None, why: str, *, racy: bool = False) -> None:
        """Another answer is not what a job's is. racy: both may be right, each of other bytes."""
        said = job.said
        job.verdict.denied(said)
        if racy or _gave_up(plan) or _gave_up(said.plan):  # for want of time or memory, maybe: nobody lied
            self._stats.dropped += 1
            return
        self._stats.differed += 1
        self._source.discard(said.lane)
        self._warn(f"a sniffing worker lied: {why}; its app's are replaced", os.fsencode(str(said.lane)))


class KindsConfirmed:
    """Has kinds looked at again, and keeps for everybody what was found twice."""

    def __init__(self, kinds: KindCache, second: SecondLooks) -> None:
        self._kinds = kinds
        self._second = second

    def ask(self, fd: int, version: KindKey, kind: str, lane: Hashable) -> None:
        """A lane's worker said that the file behind *fd* is of this kind."""
        self._second.ask(fd, said_now(version, None, lane, kind, None), self)

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """A second worker says so, too."""
        del plan
        self._kinds.put(said.version, said.kind)

    def denied(self, said: Said) -> None:
        """It says something else."""
        self._kinds.drop_own(said.version, said.lane)


class _Job(NamedTuple):
    handle: bytes
    said: Said
    verdict: Verdict


def said_now(
    version: KindKey, what: frozenset[str] | None, lane: Hashable, kind: str, plan: Plan | None
) -> Said:
    """What a worker has just said."""
    return Said(version, what, lane, kind, plan, version.is_racy(time.time_ns()))


def _gave_up(plan: Plan | None) -> bool:
    return plan is not None and plan.outcome is Outcome.REFUSE
