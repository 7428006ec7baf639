"""Files that are stored without what they may not tell: ``require: {clean: [...]}``.

What goes into the store is what an app under ``redact`` of the same words would read, whoever wrote it. The
draft keeps what was written, since its writer may go on with it, and may move the file to where it is
stored as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.domain import Patch
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.redact.core.values import Finding, Outcome, Plan
from policyfs.store.tree import Tree

_NAMED: Final = 3
"""Findings that the trail names of a file that was cleaned."""
_PIECE: Final = 1 << 20
_ZEROS: Final = bytes(_PIECE)


@dataclass(slots=True)
class Cleaned:
    """What a draft is without what it may not tell. fd: of an unnamed file, close()'s to close; -1 if nothing
    was to go. note: what went, for the trail. refusal: why it cannot be cleaned.
    """

    kind: str | None
    fd: int = -1
    note: str = ""
    refusal: str = ""

    def close(self) -> None:
        """Give it up."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Cleaner:
    """Cleans drafts of one mount, into unnamed files."""

    def __init__(self, tree: Tree, plans: PlanFinder, copy_all: Callable[[int, int, int], None]) -> None:
        """copy_all: copies so many bytes of a file into an empty one, on a worker thread."""
        self._tree = tree
        self._plans = plans
        self._copy_all = copy_all

    async def clean(self, fd: int, words: frozenset[str], owner: tuple[int, int], lane: Hashable) -> Cleaned:
        """Clean what is behind *fd* (O_RDONLY; nobody writes it meanwhile). owner: uid and gid that the copy
        is counted for. Raises what the store says.
        """
        kind, plan = await self._plans.locate(fd, words, lane=lane, proof=None)
        if plan.outcome is Outcome.REFUSE:
            return Cleaned(kind, refusal=f"cannot be cleaned of {_listed(words)}: {plan.reason}")
        if plan.outcome is Outcome.CLEAN:
            return Cleaned(kind)
        cleaned = Cleaned(kind, self._tree.create_unnamed(self._tree.root_fd, 0o600, 0, *owner))
        try:
            await trio.to_thread.run_sync(self._copy_all, fd, cleaned.fd, os.fstat(fd).st_size)
            await trio.to_thread.run_sync(_patch, cleaned.fd, plan.patches)
        except BaseException:
            cleaned.close()
            raise
        cleaned.note = f"cleaned of {_listed(words)}: {_told(plan)}"
        return cleaned

    async def is_clean(self, fd: int, words: frozenset[str], lane: Hashable) -> bool:
        """True if there is nothing to go from the file behind *fd*."""
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
    """What went, for the trail; never the file's own words."""
    found: tuple[Finding, ...] = plan.findings
    named = "; ".join(f"{one.container} {one.tag} at {one.offset}" for one in found[:_NAMED])
    more = len(found) - _NAMED
    return (named or f"{len(plan.patches)} ranges") + (f" and {more} more" if more > 0 else "")
