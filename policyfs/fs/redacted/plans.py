"""Plans of redaction: from a worker, or remembered where it is certain what the bytes are.

What a worker says serves the app for which it was asked. It is remembered once a second worker has found the
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
        """Content kind of the file behind *fd*, None if sniffing failed."""

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None
    ) -> tuple[str | None, Plan]:
        """Sniff and locate in the very bytes behind *fd*. version: of the file, as far as stat tells it."""


class PlanMemory(Protocol):
    """Plans of earlier times (content/disk_cache.py)."""

    def plan(self, key: KindKey, what: frozenset[str]) -> tuple[str, Plan] | None:
        """What was found in this version of a file with *what* hidden."""

    def put_plan(self, key: KindKey, what: frozenset[str], kind: str, plan: Plan) -> None:
        """Keep it."""


class Proof(NamedTuple):
    """That certain bytes are those of a version of a file.

    holds: asked once the bytes were read: did the read lease hold from the stat on until now. fd: a
    descriptor of the file itself.
    """

    version: KindKey
    holds: Callable[[], bool]
    fd: int


class Found(NamedTuple):
    """A file's kind (None: nobody could look) and plan. shared: two workers found so, not one app's alone."""

    kind: str | None
    plan: Plan
    shared: bool


PlanNews = Callable[[Said], None]
"""Told what came of a plan that was one app's alone."""


def _ignore(_: Said) -> None:
    pass


class PlanFinder:
    """Finds plans. memory: None where nothing is kept; second: None where nothing is looked at again.

    on_confirmed, on_denied: told of plans for which a second look was taken.
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
        """The kind of the file behind *fd* (O_RDONLY), and where in it *what* is hidden.

        version: which version of which file it is, as far as stat tells: where workers fail over it, that
        is remembered. By default the proof's.

        INVARIANT: without a proof nothing is remembered, or taken from memory. While a writer lives stat
        proves nothing, and an old plan on new bytes is a leak.
        """
        kind, plan, _ = await self.find(fd, what, lane=lane, proof=proof, version=version)
        return kind, plan

    async def find(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
    ) -> Found:
        """The same, and whether it may be shown to others than the lane."""
        if not what:  # nothing is to be hidden, and only the kind decides
            return Found(await self._source.kind_of_fd(fd, lane=lane), Plan(Outcome.CLEAN), shared=False)
        if version is None and proof is not None:
            version = proof.version
        if proof is None:
            return Found(*await self._source.locate(fd, what, lane=lane, version=version), shared=False)
        known = None if self._memory is None else self._memory.plan(proof.version, what)
        if known is not None:
            return Found(*known, shared=True)
        kind, plan = await self._source.locate(fd, what, lane=lane, version=version)
        # No kind: nobody could look, the next one tries again.
        if kind is not None and self._second is not None and proof.holds():
            self._second.ask(proof.fd, said_now(proof.version, what, lane, kind, plan), self)
        return Found(kind, plan, shared=False)

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        """A second worker has found the same: everybody may go by it."""
        if self._memory is not None and plan is not None and said.what is not None:
            self._memory.put_plan(said.version, said.what, said.kind, plan)
        self.on_confirmed(said)

    def denied(self, said: Said) -> None:
        """It has found something else."""
        self.on_denied(said)
