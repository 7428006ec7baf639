"""Plans of redaction: from a worker, or remembered where it is certain what the bytes are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

from policyfs.content.cache import KindKey
from policyfs.redact.plan import Outcome, Plan


class PlanSource(Protocol):
    """The sniffer, as far as redaction needs it."""

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        """Content kind of the file behind *fd*, None if sniffing failed."""

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None
    ) -> tuple[str | None, Plan]:
        """Sniff and locate in the very bytes behind *fd*. version: of the file, as far as stat tells it."""


class PlanMemory(Protocol):
    """Plans of earlier times (content/remembered.py)."""

    def plan(self, key: KindKey, what: frozenset[str]) -> tuple[str, Plan] | None:
        """What was found in this version of a file with *what* hidden."""

    def put_plan(self, key: KindKey, what: frozenset[str], kind: str, plan: Plan) -> None:
        """Keep it."""


class Proof(NamedTuple):
    """That certain bytes are those of a version of a file.

    holds: asked once the bytes were read: did the read lease hold from the stat on until now.
    """

    version: KindKey
    holds: Callable[[], bool]


class PlanFinder:
    """Finds plans. memory: None where nothing is kept."""

    def __init__(self, source: PlanSource, memory: PlanMemory | None) -> None:
        self._source = source
        self._memory = memory

    async def locate(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
    ) -> tuple[str | None, Plan]:
        """The kind of the file behind *fd* (O_RDONLY), and where in it *what* is hidden.

        version: which version of which file it is, as far as stat tells: where workers fail over it, that
        is remembered. By default the proof's.

        INVARIANT: without a proof nothing is remembered, or taken from memory. While a writer lives stat
        proves nothing, and an old plan on new bytes is a leak.
        """
        if not what:  # nothing is to be hidden, and only the kind decides
            return await self._source.kind_of_fd(fd, lane=lane), Plan(Outcome.CLEAN)
        if version is None and proof is not None:
            version = proof.version
        if proof is None or self._memory is None:
            return await self._source.locate(fd, what, lane=lane, version=version)
        known = self._memory.plan(proof.version, what)
        if known is not None:
            return known
        kind, plan = await self._source.locate(fd, what, lane=lane, version=version)
        if kind is not None and proof.holds():  # no kind: nobody could look, the next one tries again
            self._memory.put_plan(proof.version, what, kind, plan)
        return kind, plan
