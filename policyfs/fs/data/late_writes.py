"""Late writes (Head.late) are checked and stored after a second, if no FLUSH or fsync comes before."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from policyfs.fs.inodes.node import Node
from policyfs.kernel.bridge import pyfuse3

_WAIT_S: Final = 1.0
_END_S: Final = 5.0
"""The longest time that the end of the daemon waits for the checks."""


class LateWrites:
    """The list of nodes with writes that wait for their check. settle: checks and stores a node's writes."""

    def __init__(self, settle: Callable[[Node], Awaitable[None]]) -> None:
        self._settle = settle
        self._due: dict[Node, float] = {}
        self._under_way: set[Node] = set()
        self._some = trio.Event()

    def note(self, node: Node) -> None:
        """Check a node's writes after a second. Further calls until then change nothing."""
        self._due.setdefault(node, trio.current_time() + _WAIT_S)
        self._some.set()

    def restored(self, node: Node) -> None:
        """Check the writes of a node, as a daemon before has noted, once run() begins."""
        self._due[node] = 0.0
        self._some.set()

    async def run(self) -> None:
        """Check the noted writes when they are due; when cancelled, all at once: no FLUSH comes then."""
        try:
            await self._run()
        finally:
            with trio.move_on_after(_END_S, shield=True):
                async with trio.open_nursery() as nursery:
                    for node in {*self._due, *self._under_way}:
                        nursery.start_soon(self._check, node)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._some.wait()
                node, due = next(iter(self._due.items()))
                await trio.sleep_until(due)
                del self._due[node]
                if not self._due:
                    self._some = trio.Event()
                self._under_way.add(node)
                nursery.start_soon(self._check, node)

    async def _check(self, node: Node) -> None:
        # An error leaves the writes to the next FLUSH or fsync, which answers with the error.
        with contextlib.suppress(OSError, pyfuse3.FUSEError):
            await self._settle(node)
        self._under_way.discard(node)
