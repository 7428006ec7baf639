"""Shares: what there is only so much of, divided so that nobody can use it up for the others.

A holder gets more while it has no more than what is still free. So one alone can have half of all,
two a third each, and whoever has nothing yet is let in always. Nobody has to know how many will come.
"""

from __future__ import annotations

import errno
from typing import Final

Holder = str | int
"""An app's name, or the uid of a stranger."""


class Shares:
    """One such thing. limit: how much there is; what: its name, for the error. Event loop only."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit: Final = limit
        self._what: Final = what
        self._held: dict[Holder, int] = {}
        self.used = 0
        self.refused = 0

    def held(self, holder: Holder) -> int:
        """How much a holder has."""
        return self._held.get(holder, 0)

    def check(self, holder: Holder) -> None:
        """Raises OSError(EMFILE) if a holder has more than what is left for all."""
        if self.held(holder) > self.limit - self.used:
            self.refused += 1
            raise OSError(errno.EMFILE, f"one app has as many {self._what} as are left for all others")

    def take(self, holder: Holder, amount: int = 1) -> None:
        """Count something as a holder's. It was checked before; what exceeds the limit counts, too."""
        if amount:
            self._held[holder] = self.held(holder) + amount
            self.used += amount

    def give(self, holder: Holder, amount: int = 1) -> None:
        """Take back what was counted."""
        left = self.held(holder) - amount
        if left:
            self._held[holder] = left
        else:
            self._held.pop(holder, None)
        self.used -= amount
