"""Redaction plans from workers, and remembered plans. A remembered plan needs proof of the file's version.

A plan serves only the lane for which a worker made it, also if it is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from policyfs.content.cache import KindKey
from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.content.whole_plans import is_short, whole_plan
from policyfs.domain import UNNAMED
from policyfs.fs.redacted.windows import FilmFrames, FilmProof, WindowRoom
from policyfs.fs.sharing.kernel_locks import is_urgent
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.values import Outcome, Plan

PLANS_MAX: Final = 3
"""The limit of plans made for one copy, or under one lease. The words to hide may depend on the kind, or
change with a reload."""


class Proof(NamedTuple):
    """A proof that bytes are of one version of a file. holds: called after the bytes were read; returns True
    if the read lease has held since stat was read."""

    version: KindKey
    holds: Callable[[], bool]


class PlanFinder:
    """A finder of plans that returns a remembered plan, or lets a worker make a plan.

    memory: None if the daemon remembers no plans. times_tell: returns True for a device (st_dev) where a
    file's times show each finished write. Elsewhere no plan is remembered.
    """

    def __init__(
        self,
        source: Sniffer,
        memory: Remembered | None,
        times_tell: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._source = source
        self._memory = memory
        self._times_tell = times_tell
        self._room = WindowRoom()

    def settles(self, proof: Proof) -> bool:
        return self._times_tell(proof.version.dev)

    async def locate(
        self,
        fd: int,
        what: frozenset[str],
        *,
        lane: Hashable,
        proof: Proof | None,
        version: Hashable = None,
        frames_later: bool = False,
        named: bool = False,
    ) -> tuple[str | None, Plan]:
        """Return the kind of the file behind *fd* (O_RDONLY; None: sniffing failed), and the plan to hide
        *what* in it.

        frames_later: True for a caller that looks at the frames of a film as they are read (Plan.frames).
        named: True for a new plan with findings, which take time in the worker and in the daemon. version:
        the file and its version by stat, or None to take both from the proof. If workers fail on the file,
        the daemon remembers the failure for this version.

        INVARIANT: without a proof no plan is remembered, and no remembered plan is used. While the file has a
        writer, stat proves nothing, and an old plan for new bytes would be a leak.
        """
        if not what:  # nothing to hide: only the kind decides
            return await self._source.kind_of_fd(fd, lane=lane), Plan(Outcome.CLEAN)
        if version is None and proof is not None:
            version = proof.version
        memory = self._memory if proof is not None and self.settles(proof) else None
        if memory is not None and proof is not None:
            known = await memory.plan(proof.version, lane, what)
            if known is not None:
                return known
        asked = what if named else what | {UNNAMED}
        kind, plan = await self._ask(fd, asked, lane, version, frames_later=frames_later)
        # Without a kind, sniffing failed, and the next request tries again. INVARIANT: a plan that leaves
        # frames for later is no plan of the whole file, and is never remembered.
        if memory is not None and proof is not None and kind and plan.frames is None and proof.holds():
            memory.put_plan(proof.version, lane, what, kind, plan)
        return kind, plan

    async def _ask(
        self, fd: int, what: frozenset[str], lane: Hashable, version: Hashable, *, frames_later: bool
    ) -> tuple[str | None, Plan]:
        """Let workers find the kind and the plan. A short film is looked at as a whole in any case."""
        first = is_urgent()
        kind, plan = await self._source.index(fd, what, lane=lane, version=version, first=first)
        if kind is None or (frames_later and not is_short(plan)):
            return kind, plan
        return kind, await whole_plan(plan, lambda frames: self._look(fd, kind, what, frames, lane))

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None
    ) -> Plan:
        """Return the plan that hides *what* in these frames of the bytes behind *fd*."""
        return await self._look(fd, kind, what | {UNNAMED}, frames, lane)

    async def _look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, lane: Hashable
    ) -> Plan:
        return await self._source.look(fd, kind, what, frames, lane=lane, first=is_urgent())

    def film(
        self, kind: str | None, plan: Plan, what: frozenset[str], proof: FilmProof | None = None
    ) -> FilmFrames | None:
        """Return a reader that looks at the frames which a plan leaves for later. Return None if it leaves
        none, or if nothing is to be hidden. proof: as FilmFrames has it."""
        if not what or kind is None or plan.frames is None:
            return None
        return FilmFrames(self, self._room, plan.frames, kind, what, proof)
