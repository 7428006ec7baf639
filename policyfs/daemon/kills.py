"""Records of processes that the daemon has killed, because the whole mount waited for them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from policyfs.journal.writing.journal import Journal


class Killed(NamedTuple):
    """A killed process. reason: the cause, in words. blocked_s: the time for which the daemon saw the
    process's read or write wait, in seconds."""

    pid: int
    uid: int
    exe: str
    reason: str
    blocked_s: float

    def fields(self) -> dict[str, object]:
        """Return the fields for a record of the trail."""
        return {**self._asdict(), "blocked_s": round(self.blocked_s, 1)}


class Kills:
    """A queue of kills until flush() puts them on record. INVARIANT: add() never waits for the trail's disk:
    the thread that kills also ends the mount if a kill does not help."""

    def __init__(self, journal: Journal) -> None:
        self._journal: Final = journal
        self._pending: Final[deque[Killed]] = deque()

    def add(self, killed: Killed) -> None:
        """Note a kill. Any thread may call this."""
        self._pending.append(killed)

    @property
    def is_due(self) -> bool:
        """True if a kill is not on record yet."""
        return bool(self._pending)

    def flush(self) -> None:
        """Record all noted kills. May wait for the disk."""
        while self._pending:
            killed = self._pending[0]
            self._journal.tell("killed", killed.fields())
            self._pending.popleft()
