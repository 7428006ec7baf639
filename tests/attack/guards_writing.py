"""Guards of what is written (threats C), taken out; and daemons that stop where a race is decided."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.alone import Alone
from policyfs.fs.checked import Checker
from policyfs.store.latches import Latches
from tests.attack.guards import put

STOPS: Final = "POLICYFS_TEST_STOPS"
WAITS: Final = "POLICYFS_TEST_WAITS"


def stopper() -> Callable[[], None]:
    """Says in the first of two fifos that it has come so far, and goes on when the other says so."""
    says, hears = (os.open(path, os.O_RDWR) for path in os.environ[STOPS].split(":"))

    def stop() -> None:
        os.write(says, b".")
        os.read(hears, 1)

    return stop


def stops_when_judged() -> None:
    """No guard is gone, but the daemon stops when a change is judged and not made yet."""
    stop, take = stopper(), Latches.take

    def stopping(self: Latches, fd: int) -> int | None:
        stop()
        return take(self, fd)

    put(Latches, "take", stopping)


def stops_when_looked() -> None:
    """No guard is gone, but the daemon stops between its last look at a file and the change."""
    stop, is_still = stopper(), Checker._is_still

    def stopping(self: Checker, handle: Any, judged: bytes | None) -> bool:
        found = is_still(self, handle, judged)
        stop()
        return found

    put(Checker, "_is_still", stopping)


def says_that_it_waits() -> None:
    """No guard is gone, but the daemon says in a fifo that another daemon is in its way."""
    says, waited = os.open(os.environ[WAITS], os.O_RDWR), Alone._waited

    async def saying(self: Alone, fd: int) -> int:
        os.write(says, b".")
        return await waited(self, fd)

    put(Alone, "_waited", saying)


def not_looked_again() -> None:
    """What was judged is written, whatever the file is by then."""
    put(Checker, "_is_still", lambda self, handle, judged: True)


def latches_open() -> None:
    """Nobody waits for the change of another daemon to end."""
    put(Latches, "take", lambda self, fd: 0)
    put(Latches, "give", lambda self, at: None)


WRITING: Final[dict[str, Callable[[], None]]] = {
    "stops-when-judged": stops_when_judged,
    "stops-when-looked": stops_when_looked,
    "says-that-it-waits": says_that_it_waits,
    "not-looked-again": not_looked_again,
    "latches-open": latches_open,
}
