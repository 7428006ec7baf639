"""The record that another policy is in force. Nobody may use what it allows before the record is written."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final

import trio

_PATIENCE_S: Final = 3.0
"""The time in which requests wait for the record, since a disk may be busy. Later all fail. Requests that
hold the kernel's locks wait as long: those that wait for such a lock would otherwise wait for the record.
"""


class PolicyRecord:
    """The state of the record about the policy in force. Event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._written = trio.Event()
        self._written.set()
        self._until_s = 0.0

    @property
    def is_missing(self) -> bool:
        """True if the record is not on the trail yet."""
        return not self._written.is_set()

    def expect(self, written: trio.Event) -> None:
        """Refuse requests until *written* is set: then the record is on the trail."""
        self._written, self._until_s = written, self._clock() + _PATIENCE_S

    async def wait(self) -> None:
        """Wait until the record is on the trail. Raise OSError (EIO) if that takes too long."""
        with trio.move_on_after(max(0.0, self._until_s - self._clock())):
            while self.is_missing:
                await self._written.wait()
        if self.is_missing:
            raise OSError(errno.EIO, "the record of the policy in force is not written")
