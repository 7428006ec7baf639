"""`policyfs` with one of its guards taken out: what each attack must be seen to get through.

    python -m tests.attack.weakened GUARD mount --foreground ...

A test that cannot fail proves nothing. So each race here is also run against a daemon that lacks
the very thing which the race is about, and there it has to succeed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

import policyfs.fs.redactor as redactor_module
from policyfs.cli.main import main
from policyfs.content.sniffer import Sniffer
from policyfs.domain import View
from policyfs.fs.entrance import Entrance
from policyfs.fs.lookup import Seeing
from policyfs.fs.nodes import Flavor
from policyfs.fs.views import Views
from policyfs.policy.decide import Engine
from policyfs.store.frozen import Frozen
from policyfs.store.leases import Lease, LeaseKeeper


def locate_in_source() -> None:
    """Places are looked for in the live file, and the copy is patched where they were there."""
    freeze, locate = redactor_module.freeze, Sniffer.locate
    sources: dict[tuple[int, int], int] = {}

    def remembering(src_fd: int, *arguments: Any) -> Frozen:
        frozen = freeze(src_fd, *arguments)
        status = os.fstat(frozen.fd)
        for fd in sources.values():
            os.close(fd)
        sources.clear()
        sources[status.st_dev, status.st_ino] = os.dup(src_fd)
        return frozen

    async def in_source(self: Sniffer, fd: int, what: frozenset[str], **named: Any) -> Any:
        status = os.fstat(fd)
        return await locate(self, sources.get((status.st_dev, status.st_ino), fd), what, **named)

    redactor_module.freeze = remembering
    Sniffer.locate = in_source  # type: ignore[method-assign]


def no_leases() -> None:
    """Large files are served from the live file by the ranges that were found at open."""

    class Granted(Lease):
        __slots__ = ()

        def holds(self) -> bool:
            return not self.released

    def grant(self: LeaseKeeper, fd: int, on_break: Any = None) -> Lease:
        del on_break
        lease = Granted(self, fd, None)
        self._leases[fd] = lease
        return lease

    LeaseKeeper.grant = grant  # type: ignore[method-assign]


def one_view() -> None:
    """Raw and restricted apps share one node, and with it the kernel's pages."""
    shared = View(1, frozenset({"location"}), False)
    Engine.view = lambda self, who, state: shared  # type: ignore[method-assign]
    Views.whose = staticmethod(lambda caller, view, flavor: None)  # type: ignore[method-assign]
    Views.flavor = lambda self, *args, **named: Flavor.LIVE  # type: ignore[method-assign]


def hidden_is_absent() -> None:
    """A directory that is hidden from the caller answers ENOENT to LOOKUP, whoever else is in it."""

    Seeing._held_directory = lambda self, parent, name, stat: None  # type: ignore[method-assign]


def any_node() -> None:
    """OPEN does not ask whether the node is of the caller's view."""
    Entrance.check_view = lambda self, node, caller: None  # type: ignore[method-assign]
    Entrance.check_road = lambda self, *arguments, **named: None  # type: ignore[method-assign]


GUARDS: Final[dict[str, Callable[[], None]]] = {
    "locate-in-source": locate_in_source,
    "no-leases": no_leases,
    "one-view": one_view,
    "hidden-is-absent": hidden_is_absent,
    "any-node": any_node,
}

if __name__ == "__main__":
    GUARDS[sys.argv.pop(1)]()
    raise SystemExit(main())
