"""Guards of requests during which the kernel holds a lock (threat G1), taken out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

import policyfs.fs.access.audit as audit_module
from policyfs.content.sniffer import Sniffer
from policyfs.fs.namespace.snapshots import Snapshots
from policyfs.fs.sharing.kernel_locks import KernelLocks
from policyfs.journal.writing.accounts import Accounts
from tests.attack.guards import put

SLOW_S: Final = 0.8
"""How long each look of a worker takes at least, with `slow-looks`."""


def slow_looks() -> None:
    """Each look into a file takes long. (This takes out no guard.)"""
    kind_of_fd, index = Sniffer.kind_of_fd, Sniffer.index

    async def kind(self: Sniffer, fd: int, **named: Any) -> Any:
        await trio.sleep(SLOW_S)
        return await kind_of_fd(self, fd, **named)

    async def place(self: Sniffer, fd: int, *what: Any, **named: Any) -> Any:
        await trio.sleep(SLOW_S)
        return await index(self, fd, *what, **named)

    put(Sniffer, "kind_of_fd", kind)
    put(Sniffer, "index", place)


def waits_without_end() -> None:
    """A request under a lock of the kernel waits as long as any other."""
    put(KernelLocks, "under_lock", lambda self, error, *, waits=True: contextlib.nullcontext())
    put(Snapshots, "hangs_on_facts", lambda self, node, who: False)


def dear_records(times: int = 300) -> None:
    """An app has used up its budget for records soon. (This takes out no guard.)"""
    spend = Accounts.spend

    def dear(self: Accounts, event: Any, now_ns: int, size: int | None = None) -> float:
        return spend(self, event, now_ns, times * (size or 500))

    put(Accounts, "spend", dear)


def paid_at_once() -> None:
    """An app that has used up its budget for records waits under a lock of the kernel."""
    put(audit_module, "is_locked", lambda: False)


KERNEL_LOCKS: Final[dict[str, Callable[[], None]]] = {
    "slow-looks": slow_looks,
    "waits-without-end": waits_without_end,
    "dear-records": dear_records,
    "costly-records": partial(dear_records, 15),
    "paid-at-once": paid_at_once,
}
