"""Cleaning removes forbidden data from a file before the file is stored (``require: {clean: [...]}``).

Whoever the writer, the store gets what an app under ``redact`` of the same words would read. The draft keeps
the bytes as written, for further writes, and for a move to a path without cleaning."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.domain import Patch
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.redact.core.values import Outcome, Plan, RemovedPart
from policyfs.store import freeing, ranges
from policyfs.store.tree import Tree

_NAMED: Final = 3
"""The limit of removed pieces of data that the trail names for one cleaned file."""
_PIECE: Final = 1 << 20
_ZEROS: Final = bytes(_PIECE)


@dataclass(slots=True)
class Cleaned:
    """The result of the cleaning of a draft. kind: None if sniffing failed. fd: an unnamed file, the cleaned
    copy, until close(); -1 without one. note: the removed data, for the trail. refusal: why it cannot be
    cleaned, or ""."""

    kind: str | None
    fd: int = -1
    note: str = ""
    refusal: str = ""

    def close(self) -> None:
        """Close the unnamed file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            freeing.close(fd)  # the space of a large copy is freed on a thread


class Cleaner:
    """The cleaner of one mount: it writes cleaned copies of drafts into unnamed files."""

    def __init__(self, tree: Tree, plans: PlanFinder) -> None:
        self._tree = tree
        self._plans = plans

    async def clean(self, fd: int, words: frozenset[str], owner: tuple[int, int], lane: Hashable) -> Cleaned:
        """Clean the file behind *fd* (O_RDONLY), which nobody writes meanwhile, into an unnamed file, if it
        has forbidden data. owner: uid and gid, whose disk quota has the copy. Raise OSError of the store."""
        kind, plan = await self._plans.locate(fd, words, lane=lane, proof=None, named=True)
        if plan.outcome is Outcome.REFUSE:
            return Cleaned(kind, refusal=f"cannot be cleaned of {_listed(words)}: {plan.reason}")
        if plan.outcome is Outcome.CLEAN:
            return Cleaned(kind)
        cleaned = Cleaned(kind, self._tree.create_unnamed(self._tree.root_fd, 0o600, 0, *owner))
        try:
            await trio.to_thread.run_sync(ranges.copy_all, fd, cleaned.fd, os.fstat(fd).st_size)
            await trio.to_thread.run_sync(_patch, cleaned.fd, plan.patches)
        except BaseException:
            cleaned.close()
            raise
        cleaned.note = f"cleaned of {_listed(words)}: {_told(plan)}"
        return cleaned

    async def is_clean(self, fd: int, words: frozenset[str], lane: Hashable) -> bool:
        """Return True if the file behind *fd* has no data of these words."""
        if not os.fstat(fd).st_size:
            return True
        _, plan = await self._plans.locate(fd, words, lane=lane, proof=None)
        return plan.outcome is Outcome.CLEAN


def _patch(fd: int, patches: tuple[Patch, ...]) -> None:
    for patch in patches:
        at = patch.offset
        while at < patch.end:
            end = min(patch.end, at + _PIECE)
            data = patch.part(at, end) if patch.data else _ZEROS[: end - at]
            at += os.pwrite(fd, data, at)


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _told(plan: Plan) -> str:
    """Return the removed data for the trail: names (perhaps of the file's writer) and offsets, no values."""
    found: tuple[RemovedPart, ...] = plan.findings
    named = "; ".join(f"{one.container} {one.tag} at {one.offset}" for one in found[:_NAMED])
    more = len(found) - _NAMED
    return (named or f"{len(plan.patches)} ranges") + (f" and {more} more" if more > 0 else "")
