"""Guards of a reload, taken out; and a daemon that stops with an answer of the policy before it."""

from __future__ import annotations

import itertools
from typing import Any, Final

import trio

from policyfs.daemon.high_water import HighWaterMark
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.ledger import PolicyRecord
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.fs.kernel_cache.name_expiry import ListedNames, NameExpiry, StayingNames
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.kernel.bridge import FH_CACHE_DIR, FH_KEEP_CACHE
from tests.attack.guards import named, put
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


def stops_with_old_listings() -> None:
    """No guard is gone, but under the first policy the daemon holds each beginning of a listing in which the
    name is, as if the directory was long."""
    stop, readdir = stopper(), DirectoryListings.readdir

    async def stopping(self: DirectoryListings, index: int, start: int, token: Any) -> None:
        await readdir(self, index, start, token)
        listed = self.open.find(index).entries or ()
        if start == 0 and self._gate.generation == 1 and any(entry[1] == LATE for entry in listed):
            await trio.to_thread.run_sync(stop)

    put(DirectoryListings, "readdir", stopping)


def listed_names_stay() -> None:
    """Names of listings under way are not told when all names are dropped."""
    put(ListedNames, "add", lambda self, *name: None)


def reload_drops_late() -> None:
    """No guard is gone, but the kernel is not yet told to drop attributes and listings when a reload ends."""
    put(KernelCache, "forget_attributes_of_all", lambda self: None)


def old_listings_stay() -> None:
    """The kernel may use a listing of the policy before."""
    put(DirectoryListings, "_cached", lambda self, node: FH_CACHE_DIR | FH_KEEP_CACHE)


def old_directories_are_read() -> None:
    """Who has a directory open goes on reading it, whatever the kernel may keep of that."""
    put(DirectoryListings, "_check_kept", lambda self, listing: None)


def ends_are_forgotten() -> None:
    """No end of an exception is kept: what the clock says is all."""
    put(HighWaterMark, "pass_ends", lambda self, policy: None)


def overtaken_unnoticed() -> None:
    """What was decided under one policy is done under the next one."""
    put(Gate, "unchanged", lambda self, generation: None)


def unrecorded_counts() -> None:
    """A policy that allows more may be used before it is on record."""
    put(PolicyRecord, "expect", lambda self, written: None)


RELOADING: Final = named(
    reload_drops_nothing, reload_by_epoch, all_names_stay, stops_with_old_answers,
    stops_with_old_listings, listed_names_stay, reload_drops_late, old_listings_stay,
    old_directories_are_read, ends_are_forgotten, overtaken_unnoticed, unrecorded_counts,
)  # fmt: skip
