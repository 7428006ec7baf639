"""Redaction plans from workers, and remembered plans. A remembered plan needs proof of the file's version.

A worker's plan serves only the lane for which the worker made the plan. Once a second worker has found the
same plan, the daemon remembers the plan and uses it for every app (second_looks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, Protocol

from policyfs.content.cache import KindKey
from policyfs.content.whole_plans import is_short, whole_plan
from policyfs.fs.redacted.second_looks import Said, SecondLooks, said_now
from policyfs.fs.redacted.windows import FilmFrames, WindowRoom
from policyfs.fs.sharing.kernel_locks import is_urgent
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.values import Outcome, Plan

PLANS_MAX: Final = 3
"""The limit of plans made for one copy, or under one lease. The words to hide may depend on the kind, or
change with a reload."""


class PlanSource(Protocol):
    """The part of the sniffer that makes plans."""

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        """Return the content kind of the file behind *fd*, or None if sniffing failed."""

    async def index(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None,
        first: bool = False,
    ) -> tuple[str | None, Plan]:  # fmt: skip
        """Sniff the bytes behind *fd*, and locate *what* in all of them but the frames of a film
        (Plan.frames). version: the file's version by stat, or None. first: True to go before the other
        requests of the lane.
        """

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None,
        first: bool = False,
    ) -> Plan:  # fmt: skip
        """Return the plan that hides *what* in these frames of the bytes behind *fd*."""


class PlanMemory(Protocol):
    """A memory that has the plans of many file versions (content/disk_cache.py)."""

    async def plan(self, key: KindKey, what: frozenset[str]) -> tuple[str, Plan] | None:
        """Return the kind and the plan to hide *what* in this version of a file, or None."""

    def put_plan(self, key: KindKey, what: frozenset[str], kind: str, plan: Plan) -> None:
        """Store the kind of a file version, and the plan to hide *what* in it."""


class Proof(NamedTuple):
    """A proof that bytes are of one version of a file.

    holds: called after the bytes were read; returns True if the read lease has held since stat was read. fd:
    a descriptor of the file itself.
    """

    version: KindKey
    holds: Callable[[], bool]
    fd: int


class Found(NamedTuple):
    """A file's kind (None: sniffing failed) and plan. shared: True if two workers found the same plan. said:
    one worker's result, which a second worker must check (PlanFinder.ask); None if no second look is needed.
    """

    kind: str | None
    plan: Plan
    shared: bool
    said: Said | None = None


PlanNews = Callable[[Said], None]
"""A function that gets the result of one app's worker, after a second worker has checked this result."""


def _ignore(_: Said) -> None:
    pass


class PlanFinder:
    """A finder of plans that returns a remembered plan, or lets a worker make a plan.

    memory: None if the daemon remembers no plans. second: queues checks of results by a second worker (second
    looks); None if there are no second looks. on_confirmed, on_denied: functions that are called with a
    worker's result once a second look has confirmed or denied the result.
    """

    def __init__(
        self, source: PlanSource, memory: PlanMemory | None, second: SecondLooks | None = None
    ) -> None:
        self._source = source
        self._memory = memory
        self._second = second
        self._room = WindowRoom()
        self.on_confirmed: PlanNews = _ignore
        self.on_denied: list[PlanNews] = []

    async def locate(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
        frames_later: bool = False,
    ) -> tuple[str | None, Plan]:
        """Return the kind of the file behind *fd* (O_RDONLY), and the plan to hide *what* in it.

        frames_later: True for a caller that looks at the frames of a film as they are read (Plan.frames).
        version: the file and its version by stat, or None to take both from the proof. If workers fail on the
        file, the daemon remembers the failure for this version.

        INVARIANT: without a proof no plan is remembered, and no remembered plan is used. While the file has a
        writer, stat proves nothing, and an old plan for new bytes would be a leak.
        """
        found = await self.find(
            fd, what, lane=lane, proof=proof, version=version, frames_later=frames_later
        )
        self.ask(found, proof)
        return found.kind, found.plan

    async def find(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
        frames_later: bool = False,
    ) -> Found:
        """Return the kind of the file behind *fd*, and the plan to hide *what* in it, as locate() does.
        Found.shared is True if other lanes may use the result.

        INVARIANT: the caller stores the copy that it patches by the plan, so that a function of on_denied can
        drop this copy. Then the caller calls ask() for the result, with no await between the two steps.
        Otherwise the second look could end before the copy is stored.
        """
        if not what:  # nothing to hide: only the kind decides
            return Found(await self._source.kind_of_fd(fd, lane=lane), Plan(Outcome.CLEAN), shared=False)
        if version is None and proof is not None:
            version = proof.version
        if proof is None:
            kind, plan = await self._ask(fd, what, lane, version, frames_later=frames_later)
            return Found(kind, plan, shared=False)
        known = None if self._memory is None else await self._memory.plan(proof.version, what)
        if known is not None:
            return Found(*known, shared=True)
        kind, plan = await self._ask(fd, what, lane, version, frames_later=frames_later)
        # Without a kind, sniffing failed, and the next request tries again. INVARIANT: a plan that leaves
        # frames for later is no plan of the whole file, and is never remembered.
        if kind is None or plan.frames is not None or self._second is None or not proof.holds():
            return Found(kind, plan, shared=False)
        return Found(kind, plan, shared=False, said=said_now(proof.version, what, lane, kind, plan))

    async def _ask(
        self, fd: int, what: frozenset[str], lane: Hashable, version: Hashable, *, frames_later: bool
    ) -> tuple[str | None, Plan]:
        """Let workers find the kind and the plan. A short film is looked at as a whole in any case."""
        first = is_urgent()
        kind, plan = await self._source.index(fd, what, lane=lane, version=version, first=first)
        if kind is None or (frames_later and not is_short(plan)):
            return kind, plan
        return kind, await whole_plan(plan, lambda frames: self.look(fd, kind, what, frames, lane=lane))

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None
    ) -> Plan:
        """Return the plan that hides *what* in these frames of the bytes behind *fd*."""
        return await self._source.look(fd, kind, what, frames, lane=lane, first=is_urgent())

    def film(self, kind: str | None, plan: Plan, what: frozenset[str]) -> FilmFrames | None:
        """Return a reader that looks at the frames which a plan leaves for later. Return None if it leaves
        none, or if nothing is to be hidden.
        """
        if not what or kind is None or plan.frames is None:
            return None
        return FilmFrames(self, self._room, plan.frames, kind, what)

    def ask(self, found: Found, proof: Proof | None) -> None:
        """Queue a result of find() for a check by a second worker (a second look), if the result needs one.
        proof: the argument of find(). Its fd must still be open.
        """
        if found.said is not None and self._second is not None and proof is not None:
            self._second.ask(proof.fd, found.said, self)

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """Remember a plan for every app, because a second worker has found the same plan."""
        if self._memory is not None and plan is not None and said.what is not None:
            self._memory.put_plan(said.version, said.what, said.kind, plan)
        self.on_confirmed(said)

    def denied(self, said: Said) -> None:
        """Report that the second worker has found another result. The copies that were patched by the plan in
        *said* are then dropped.
        """
        for told in self.on_denied:
            told(said)
