"""Guards of frozen copies and leases, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policyfs.fs.redactor import Redactor
from tests.attack.guards import put


def no_shares() -> None:
    """One app may have all the room for frozen copies in use."""
    put(Redactor, "payer", lambda self, who: None)


COPIES: Final[dict[str, Callable[[], None]]] = {
    "no-shares": no_shares,
}
