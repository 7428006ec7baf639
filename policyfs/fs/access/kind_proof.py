"""A read lease proves a file's kind while a decision depends on it: a kind counts as long as nobody writes
the file, and stat(2) does not show every write (docs/decisions/0017-a-kind-counts-under-a-lease.md)."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import trio

from policyfs.linux.statx import Stat
from policyfs.store.locking.leases import Lease


class UnprovenKindError(Exception):
    """The error if a decision needs the kind of a file that a process may write: sniffing proves nothing."""


class KindEvidence:
    """A proof of a file's kind: the read lease under which it was found, kept until the request takes effect.

    asked: True if the decision needed the kind. kind, owner: those that it used, or None. expected: the
    attributes of the only file that may be sniffed, or None. proven_only: set by demand()."""

    __slots__ = ("_fd", "_lease", "asked", "expected", "kind", "owner", "proven_only")

    def __init__(self, expected: Stat | None = None) -> None:
        self._lease: Lease | None = None
        self._fd = -1
        self.asked = False
        self.kind: str | None = None
        self.owner: str | None = None
        self.expected = expected
        self.proven_only = False

    def demand(self) -> None:
        """Require a lease as proof: without one FactFinder raises UnprovenKindError, and sniffs nothing."""
        self.proven_only = True

    def keep(self, fd: int, lease: Lease | None) -> None:
        """Keep a descriptor and the lease on it (None if refused), and close both later."""
        self.close()
        self._fd, self._lease = fd, lease

    def holds(self) -> bool:
        """Return True if nobody has written the file since before its kind was found. INVARIANT: called right
        before the request takes effect, with no await in between."""
        return self._lease is not None and self._lease.holds()

    @property
    def used(self) -> bool:
        """True if the decision used this file's kind or owner. The decision then holds for no other file."""
        return self.asked or self.owner is not None

    def close(self) -> None:
        """Release the lease and close the descriptor. A second call does nothing."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close_later(self) -> None:
        """Release the lease in the next round of the loop, after the reply. Without a lease, close now."""
        if self._lease is None:
            self.close()
        else:
            trio.lowlevel.current_trio_token().run_sync_soon(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
