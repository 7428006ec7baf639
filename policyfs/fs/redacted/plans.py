"""Redaction plans: from a worker, or from memory if the version of the bytes is proven.

A worker's plan serves the app for which it was made. It is remembered once a second worker has found the
same (second_looks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

from policyfs.content.cache import KindKey
from policyfs.fs.redacted.second_looks import Said, SecondLooks, said_now
from policyfs.redact.core.values import Outcome, Plan


class PlanSource(Protocol):
    """The sniffer, as far as redaction needs it."""

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        """Return the content kind of the file behind *fd*, None if sniffing failed."""

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None
    ) -> tuple[str | None, Plan]:
        """Sniff the bytes behind *fd*, and locate *what* in them. version: the file's, as stat shows it."""


class PlanMemory(Protocol):
    """Remembered plans (content/disk_cache.py)."""

    def plan(self, key: KindKey, what: frozenset[str]) -> tuple[str, Plan] | None:
        """Return the kind and the plan to hide *what* in this version of a file, or None."""

    def put_plan(self, key: KindKey, what: frozenset[str], kind: str, plan: Plan) -> None:
        """Store a kind and a plan."""


class Proof(NamedTuple):
    """A proof that bytes are of one version of a file.

    holds: called after the bytes were read; True if the read lease held from the stat until now. fd: a
    descriptor of the file itself.
    """

    version: KindKey
    holds: Callable[[], bool]
    fd: int


class Found(NamedTuple):
    """A file's kind (None: sniffing failed) and plan. shared: True if two workers found the same. said: one
    worker's result, for a second look (PlanFinder.ask); None if there is nothing to compare.
    """

    kind: str | None
    plan: Plan
    shared: bool
    said: Said | None = None


PlanNews = Callable[[Said], None]
"""Called after the second look at a plan that until then served one app alone."""


def _ignore(_: Said) -> None:
    pass


class PlanFinder:
    """Finds plans: remembered, or made by a worker. memory: None if no plans are kept. second: None without
    second looks.

    on_confirmed, on_denied: called with plans after their second look.
    """

    def __init__(
        self, source: PlanSource, memory: PlanMemory | None, second: SecondLooks | None = None
    ) -> None:
        self._source = source
        self._memory = memory
        self._second = second
        self.on_confirmed: PlanNews = _ignore
        self.on_denied: PlanNews = _ignore

    async def locate(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
    ) -> tuple[str | None, Plan]:
        """Find the kind of the file behind *fd* (O_RDONLY), and the plan to hide *what* in it.

        version: the file and its version, as far as stat shows it; by default the proof's. Failures of
        workers on this version are remembered.

        INVARIANT: without a proof nothing is remembered, and nothing remembered is used. While a writer
        lives, stat proves nothing, and an old plan on new bytes is a leak.
        """
        found = await self.find(fd, what, lane=lane, proof=proof, version=version)
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
    ) -> Found:
        """Find kind and plan as locate() does, and tell whether other lanes may use them.

        INVARIANT: the caller passes the result to ask(), and no await comes between that and the place where
        on_denied finds what was made by the plan. A second look may be quicker than the caller.
        """
        if not what:  # nothing to hide: only the kind decides
            return Found(await self._source.kind_of_fd(fd, lane=lane), Plan(Outcome.CLEAN), shared=False)
        if version is None and proof is not None:
            version = proof.version
        if proof is None:
            return Found(*await self._source.locate(fd, what, lane=lane, version=version), shared=False)
        known = None if self._memory is None else self._memory.plan(proof.version, what)
        if known is not None:
            return Found(*known, shared=True)
        kind, plan = await self._source.locate(fd, what, lane=lane, version=version)
        # No kind: sniffing failed, and the next request tries again.
        if kind is None or self._second is None or not proof.holds():
            return Found(kind, plan, shared=False)
        return Found(kind, plan, shared=False, said=said_now(proof.version, what, lane, kind, plan))

    def ask(self, found: Found, proof: Proof | None) -> None:
        """Queue a second look at a result of find(), if it needs one. proof: as for find(), fd still open."""
        if found.said is not None and self._second is not None and proof is not None:
            self._second.ask(proof.fd, found.said, self)

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """Remember a plan that a second worker has found, too: every app may use it."""
        if self._memory is not None and plan is not None and said.what is not None:
            self._memory.put_plan(said.version, said.what, said.kind, plan)
        self.on_confirmed(said)

    def denied(self, said: Said) -> None:
        """Report that the second worker has found something else."""
        self.on_denied(said)
