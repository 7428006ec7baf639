"""Guards of the announcer (threat F5), taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.fs.kernel_cache.announcements import Announcements
from policyfs.kernel import vectors
from tests.attack.guards import put


def anyone_announces() -> None:
    """Each process gets the answers that are meant for the announcer."""
    put(Announcements, "is_from", lambda self, pid: self.process is not None and pid > 0)
    put(vectors, "allow_directory", lambda *_: False)  # the bridge answers no announcer


def old_orders_stay() -> None:
    """A reload leaves the orders about names that the app saw before."""
    put(Announcements, "policy_changed", lambda self: None)


ANNOUNCED: Final[dict[str, Callable[[], None]]] = {
    "anyone-announces": anyone_announces,
    "old-orders-stay": old_orders_stay,
}
