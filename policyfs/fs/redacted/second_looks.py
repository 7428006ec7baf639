"""Second looks: another worker checks the result of one app's worker before other apps use it.

A hostile file may take over a worker. The worker can then return any result, and can put bytes of one file
into another file's plan. So a result first serves only the app of that worker. Later, when no app waits for a
worker, a fresh worker looks at the same file. The fresh worker has seen no other file, and ends afterwards.
Only if both results are the same, the daemon remembers the result and uses it for other apps. If the results
differ, or if two workers of one app contradict each other, the daemon ends that app's workers and drops their
results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

import trio

from policyfs.content.cache import KindCache, KindKey
from policyfs.domain import in_turn
from policyfs.fs.access.facts import version_key
from policyfs.fs.redacted.second_look_queue import WaitingLooks
from policyfs.linux import libc
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.locking.leases import Lease, LeaseKeeper
from policyfs.store.tree import Tree

_PATIENCE_S: Final = 0.25
"""The longest wait of a second look for a moment when no app waits for a worker. (A second look delays no
app.)
"""
_RACY_S: Final = 0.06
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK


class FreshSource(Protocol):
    """The part of the sniffer that lets a fresh worker check a result (a second look)."""

    async def look_afresh(self, fd: int, what: frozenset[str] | None) -> tuple[str, Plan | None] | None:
        """Return the result of a worker that has seen no other file, or None if the worker gave no answer."""

    async def when_idle(self) -> None:
        """Return once no app waits for a worker."""

    def discard(self, lane: Hashable) -> None:
        """End the workers of a lane, because one of them gave a wrong result."""


class Fingerprint(NamedTuple):
    """The outcome of a plan, and the digest of its patches. A plan can take 70 MB: too much for a queue."""

    outcome: Outcome
    digest: bytes

    @classmethod
    def of(cls, plan: Plan) -> Fingerprint:
        """Return the fingerprint of a plan."""
        return cls(plan.outcome, plan.digest)


class Said(NamedTuple):
    """The result of an app's worker for a version of a file.

    what: the words that the plan hides; None if the worker found only the kind (plan is then None). racy:
    True if the file may have changed after the result without a change in stat.
    """

    version: KindKey
    what: frozenset[str] | None
    lane: Hashable
    kind: str
    plan: Fingerprint | None
    racy: bool

    @property
    def place(self) -> tuple[Hashable, Hashable]:
        """The lane whose turn the second look takes, and the key of the look in the queue."""
        return in_turn(self.lane), (self.version, self.what, self.lane)

    def agrees(self, kind: str, plan: Fingerprint | None) -> bool:
        """Return True if another result has the same kind and plan."""
        return (self.kind, self.plan) == (kind, plan)


class Verdict(Protocol):
    """The receiver of the answer of a second look, in which a fresh worker checks another worker's result."""

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """Note that the fresh worker found the same kind and plan. plan: the plan of the fresh worker."""

    def denied(self, said: Said) -> None:
        """Note that the fresh worker found another kind or plan."""


@dataclass(slots=True)
class SecondLookStats:
    """The counts of second looks since the start. Only *waiting* counts the looks that wait now.

    dropped: looks that were not possible, for example because the file had a writer. differed: results of an
    app's worker that contradicted the fresh worker, or an earlier worker of the same app.
    """

    waiting: int = 0
    confirmed: int = 0
    differed: int = 0
    dropped: int = 0


class SecondLooks:
    """The part of a mount that queues second looks, and does them one by one.

    keeper: None if leases prove nothing on the store. Then nothing proves that the bytes are still the same,
    and no second look is done.
    """

    def __init__(
        self,
        tree: Tree,
        source: FreshSource,
        keeper: LeaseKeeper | None,
        warn: Callable[[str, bytes], None],
    ) -> None:
        """warn: writes a message into the daemon's log. Its second argument names an app here: the app's
        name, or a stranger's uid.
        """
        self._tree = tree
        self._source = source
        self._keeper = keeper
        self._warn = warn
        self._root = -1
        self._jobs: WaitingLooks[_Job] = WaitingLooks()
        self._more = trio.Event()
        self._stats = SecondLookStats()

    def ask(self, fd: int, said: Said, verdict: Verdict) -> None:
        """Queue a second look: a fresh worker looks at the file behind *fd*, and checks the result *said*.
        The caller keeps *fd*.
        """
        if self._keeper is None:
            return
        turn, key = said.place
        job = self._jobs.get(turn, key)
        if job is not None:
            # INVARIANT: the look checks the result that the app uses last. An earlier right result proves
            # nothing.
            if not job.said.agrees(said.kind, said.plan):
                self._jobs.put(turn, key, _Job(job.handle, said, verdict))
                self._differs(job, said.plan, "both are workers of this app")
            return
        if not self._jobs.has_room(turn):
            self._stats.dropped += 1
            return
        try:
            handle = libc.file_handle(fd)
        except OSError:  # the store has no file handles
            self._stats.dropped += 1
            return
        self._jobs.put(turn, key, _Job(handle, said, verdict))
        self._more.set()

    async def run(self) -> None:
        """Do the waiting second looks (checks of results by fresh workers) one by one, until the task is
        cancelled.
        """
        while True:
            while not len(self._jobs):
                self._more = trio.Event()
                await self._more.wait()
            with trio.move_on_after(_PATIENCE_S):
                await self._source.when_idle()
            job = self._jobs.pop()
            try:
                await self._take(job)
            except OSError:  # the file has gone or has a writer, or no descriptor or memory is free now
                self._stats.dropped += 1

    def stats(self) -> SecondLookStats:
        """Return the counts for ``status``."""
        self._stats.waiting = len(self._jobs)
        return self._stats

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all waiting looks. A second call does nothing."""
        self._jobs.clear()
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    async def _take(self, job: _Job) -> None:
        if job.said.version.is_racy(time.time_ns()):
            await trio.sleep(_RACY_S)  # until the next clock tick, the file may change without new times
        fd = self._open(job.handle)
        try:
            # INVARIANT: no worker gets the descriptor with the lease: a worker may live on and keep the
            # lease.
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
        """Return a fresh worker's result for the version in *said*, found under a lease. Return None if
        nothing proves the version.
        """
        scope = trio.CancelScope()

        def broken(lease: Lease) -> None:
            lease.release()
            scope.cancel()

        keeper = self._keeper
        lease = None if keeper is None else keeper.grant(leased, broken)
        if lease is None or keeper is None:
            return None
        try:
            if keeper.is_silent(said.version.dev) or version_key(self._tree.fstat(fd)) != said.version:
                return None
            with scope:
                found = await self._source.look_afresh(fd, said.what)
                return found if lease.holds() else None
            return None
        finally:
            lease.release()

    def _judge(self, job: _Job, kind: str, plan: Plan | None) -> None:
        found = None if plan is None else Fingerprint.of(plan)
        if job.said.agrees(kind, found):
            self._stats.confirmed += 1
            job.verdict.confirmed(job.said, plan)
        else:
            self._differs(job, found, "the second is a new worker")

    def _differs(self, job: _Job, plan: Fingerprint | None, why: str) -> None:
        """Handle a later result that differs from the result of the app's worker (in *job*).

        If the file may have changed after the first result without a change in stat (*racy*), both results
        may be right: they are about different bytes. (If the first result is not racy, a later result for the
        same version is not racy either.)
        """
        said = job.said
        job.verdict.denied(said)
        if said.racy or _gave_up(plan) or _gave_up(said.plan):  # perhaps a worker had no time or memory left
            self._stats.dropped += 1
            return
        self._stats.differed += 1
        self._source.discard(said.lane)
        self._warn(
            f"two workers gave different results for one file ({why}). policyfs has dropped these results,"
            " and replaced the workers of the app. A hostile file may cause this: `policyfs audit` shows"
            " which files the app opened before",
            os.fsencode(str(in_turn(said.lane))),
        )


class KindsConfirmed:
    """The part of a mount that queues second looks at kinds. A kind serves all apps once a second worker has
    found the same kind.
    """

    def __init__(self, kinds: KindCache, second: SecondLooks) -> None:
        self._kinds = kinds
        self._second = second

    def ask(self, fd: int, version: KindKey, kind: str, lane: Hashable) -> None:
        """Queue a kind for a second look. A worker of *lane* found this kind in the file behind *fd*."""
        self._second.ask(fd, said_now(version, None, lane, kind, None), self)

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """Remember a kind for all apps, because a second worker has found the same kind."""
        del plan
        self._kinds.put(said.version, said.kind)

    def denied(self, said: Said) -> None:
        """Forget the kind that a lane's worker has found, because the second worker has found another
        kind.
        """
        self._kinds.drop_own(said.version, said.lane)


class _Job(NamedTuple):
    handle: bytes
    said: Said
    verdict: Verdict


def said_now(
    version: KindKey, what: frozenset[str] | None, lane: Hashable, kind: str, plan: Plan | None
) -> Said:
    """Return a worker's result as Said. Its field *racy* is True if the file may change again without a
    change in stat.
    """
    found = None if plan is None else Fingerprint.of(plan)
    return Said(version, what, lane, kind, found, version.is_racy(time.time_ns()))


def _gave_up(plan: Fingerprint | None) -> bool:
    return plan is not None and plan.outcome is Outcome.REFUSE
