"""Guards of frozen copies and leases, taken out."""

from __future__ import annotations

import os
from typing import Any, Final

import trio

import policyfs.fs.redacted.leased as leased_module
import policyfs.store.tree as tree_module
from policyfs.domain import NO_RANGES
from policyfs.fs.inodes.open_state import LeasedBytes
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.leased import LeasedFiles
from policyfs.fs.redacted.windows import FilmFrames
from policyfs.fs.saved.saved_handle import SavedHandle
from policyfs.store.frozen import Frozen, freeze
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.page_cache import read_store
from tests.attack.guards import named, put


def copies_not_shared() -> None:
    """One app may have all the room for frozen copies in use."""
    put(Redactor, "payer", lambda self, who: None)


FIFOS: Final = "POLICYFS_TEST_FIFOS"


def late() -> None:
    """No guard is gone, but the daemon's loop stands still between the question for the lease and the read:
    it says so in the first of two fifos, and goes on when something is written to the other."""
    read = leased_module.read_store
    says, hears = (os.open(path, os.O_RDWR) for path in os.environ[FIFOS].split(":"))

    async def late_read(fd: int, offset: int, size: int) -> bytes:
        os.write(says, b".")
        os.read(hears, 1)
        return await read(fd, offset, size)

    put(leased_module, "read_store", late_read)


def lease_not_asked() -> None:
    """What was read under a lease is sent without the question whether the lease still holds."""
    put(LeasedFiles, "_current", lambda self, shown: not shown.lease.released)


def plans_late() -> None:
    """No guard is gone, but each plan under a lease takes 0.1 s longer."""
    locate = LeasedFiles._locate

    async def late(self: LeasedFiles, *request: Any) -> Any:
        await trio.sleep(0.1)
        return await locate(self, *request)

    put(LeasedFiles, "_locate", late)


def shown_before_located() -> None:
    """A lease that is taken anew counts before it is known what to hide under it."""
    locate = LeasedFiles._locate

    async def early(self: LeasedFiles, caller: Any, what: Any, lease: Any) -> Any:
        for node in self._nodes:
            if node.open is not None and node.open.lease is lease:
                node.open.shown = LeasedBytes(lease, self._gate.generation, (), None, frozenset(), NO_RANGES)
        return await locate(self, caller, what, lease)

    put(LeasedFiles, "_locate", early)
    put(LeasedFiles, "_hides_enough", lambda self, shown, handle: True)


def released_by_the_loop() -> None:
    """Leases in a pool are released by the event loop, as elsewhere."""
    put(LeaseKeeper, "release_early", lambda self: None)


def server_not_asked() -> None:
    """A server that may have restarted is not asked whether the file is as before."""

    async def told(fd: int) -> tuple[int, int, int]:
        return 0, 0, 0

    put(leased_module, "_told", told)


def pool_controlled() -> None:
    """The xattrs of mergerfs are like all others in user.*."""
    put(tree_module, "_POOL", b"-")


def cloned_on_the_loop() -> None:
    """Files are copied where all requests wait for it."""

    async def copied(self: Redactor, fd: int, stat: Any, *, clones: bool, unwritten: bool) -> Frozen:
        root = self._tree.root_fd if clones else None
        return freeze(fd, 0 if clones else self._size_cap, root, clones, self._places)

    put(Redactor, "_copied", copied)


def films_not_looked_at() -> None:
    """The frames of a long film are shown without a look at them."""

    async def read(self: FilmFrames, fd: int, offset: int, size: int, lane: Any) -> tuple[memoryview, str]:
        return await read_store(fd, offset, size), ""

    put(FilmFrames, "read", read)


def callers_forgotten() -> None:
    """After a take-over, all open files are those of the first app (decision 70)."""
    handles = SavedState.handles

    def alike(self: SavedState) -> list[SavedHandle]:
        found = handles(self)
        return [one._replace(uid=min(other.uid for other in found)) for one in found]

    put(SavedState, "handles", alike)


COPIES: Final = named(
    callers_forgotten,
    copies_not_shared, cloned_on_the_loop, films_not_looked_at, late, released_by_the_loop,
    pool_controlled, lease_not_asked, plans_late, server_not_asked, shown_before_located,
)  # fmt: skip
