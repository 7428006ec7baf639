"""Shares of a limited resource, divided so that no holder can use it up for the others.

A holder gets more while it has no more than is still free. So one alone can have half of all, two a
third each, and a holder without any always gets some. The number of holders need not be known.
"""

from __future__ import annotations

import errno
from typing import Final

Holder = str | int
"""An app's name, or the uid of a stranger."""


class Shares:
    """Divides one limited resource between apps. limit: its amount; what: its name, for the error. Event loop
    only.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit: Final = limit
        self._what: Final = what
        self._held: dict[Holder, int] = {}
        self.used = 0
        self.refused = 0

    def held(self, holder: Holder) -> int:
        """Return the amount that a holder has."""
        return self._held.get(holder, 0)

    def check(self, holder: Holder) -> None:
        """Raise OSError(EMFILE) if a holder has more than is still free."""
        if self.held(holder) > self.limit - self.used:
            self.refused += 1
            raise OSError(errno.EMFILE, f"this app has as many {self._what} as are left for all other apps")

    def take(self, holder: Holder, amount: int = 1) -> None:
        """Count an amount as a holder's, after check(). An amount beyond the limit counts, too."""
        if amount:
            self._held[holder] = self.held(holder) + amount
            self.used += amount

    def give(self, holder: Holder, amount: int = 1) -> None:
        """Give back an amount of a holder's."""
        left = self.held(holder) - amount
        if left:
            self._held[holder] = left
        else:
            self._held.pop(holder, None)
        self.used -= amount
