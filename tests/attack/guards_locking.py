"""The guards that stand before locks (threat B9), to be taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.fs.data.locks import Locks
from policyfs.store.locking.locks import LockTable
from tests.attack.guards import put


def locks_of_the_kernel() -> None:
    """Locks are not forwarded: the kernel keeps them by node."""
    put(Locks, "requests", lambda self: {})
    put(Locks, "quick_requests", lambda self: {})


def closes_unheard() -> None:
    """The daemon is not told of closed descriptors, as with FOPEN_NOFLUSH."""
    put(Locks, "flushed", lambda self, handle, owner: None)


def changes_unseen() -> None:
    """Who gets a lock goes on with what the kernel keeps."""
    put(Locks, "_changed", lambda self, handle, holder: False)


def locks_unbounded() -> None:
    """An app may have as many lock owners as it likes."""
    put(LockTable, "room", lambda self, app: None)


LOCKING: Final[dict[str, Callable[[], None]]] = {
    "locks-of-the-kernel": locks_of_the_kernel,
    "closes-unheard": closes_unheard,
    "changes-unseen": changes_unseen,
    "locks-unbounded": locks_unbounded,
}
