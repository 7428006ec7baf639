"""Guards of a reload, taken out; and a daemon that stops with an answer of the policy before it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

import trio

from policyfs.fs.inodes.handles import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.kernel_cache.name_expiry import NameExpiry
from policyfs.fs.kernel_cache.staying_names import StayingNames
from policyfs.fs.namespace.lookup import Lookup
from tests.attack.guards import put
from tests.attack.guards_writing import stopper

LATE: Final = b"late"
"""The name whose answers come late, from the second on: then it is in use."""


def reload_drops_nothing() -> None:
    """A new policy is in force in the daemon, and the kernel hears nothing of it."""

    async def expires_nothing(self: KernelCache) -> bool:
        return True

    put(KernelCache, "forget_attributes_of_all", lambda self: None)
    put(KernelCache, "expire_all_names", expires_nothing)


def reload_by_epoch() -> None:
    """No guard is gone, but a reload drops all names at once: working directories have no path meanwhile."""

    async def at_once(self: NameExpiry, *arguments: Any) -> bool:
        return False

    put(NameExpiry, "_one_by_one", at_once)


def all_names_stay() -> None:
    """After a reload the kernel looks every name up again, but forgets none."""
    put(StayingNames, "stays", lambda self, node: True)


def stops_with_old_answers() -> None:
    """No guard is gone, but under the first policy the daemon holds each answer about a name in use, as a
    kernel does that lets the asking thread wait for a processor."""
    stop, lookup, answers = stopper(), Lookup.lookup, itertools.count()

    async def stopping(self: Lookup, parent: Node, name: bytes, caller: Caller) -> Any:
        first = self._gate.generation == 1
        answer = await lookup(self, parent, name, caller)
        if name == LATE and first and next(answers):
            await trio.to_thread.run_sync(stop)
        return answer

    put(Lookup, "lookup", stopping)


RELOADING: Final[dict[str, Callable[[], None]]] = {
    "reload-drops-nothing": reload_drops_nothing,
    "reload-by-epoch": reload_by_epoch,
    "all-names-stay": all_names_stay,
    "stops-with-old-answers": stops_with_old_answers,
}
