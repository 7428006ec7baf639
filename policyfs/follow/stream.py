"""The stream: the lines of all hash chains, each written out once or more, and in the order of its chain.

INVARIANT: the cursor moves past a line only after its reader took the line, or a hole that contains it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from policyfs.follow.cursor import Cursor, Positions
from policyfs.follow.follower import ChainFollower, Position
from policyfs.follow.output import Output, StoppedError
from policyfs.follow.source import Access
from policyfs.trail.lines.event import Event

_POLL_S: Final = 0.2
_SAVE_S: Final = 1.0


class Stream:
    """The lines of all hash chains, from the cursor on; without one, from the oldest line on."""

    def __init__(
        self, access: Access, output: Output, cursor: Cursor | None, wanted: Callable[[Event], bool],
        log: Callable[[str], None],
    ) -> None:  # fmt: skip
        """wanted: selects events; all other records are written. log: gets errors that may pass."""
        self._access: Final = access
        self._output: Final = output
        self._cursor: Final = cursor
        self._wanted: Final = wanted
        self._log: Final = log
        self._followers: Final[dict[str, ChainFollower]] = {}
        self._positions: Positions = {}
        self._saved: Positions | None = None
        self._saved_s = 0.0
        self._errors: dict[str, str] = {}

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Write lines until is_stopped() returns True. Raises PolicyfsError if they, or the cursor, cannot be
        written; OSError if the trail cannot be listed at the start, or the opener has ended."""
        known = self._cursor.load() if self._cursor is not None else None
        self._positions = dict.fromkeys(self._access.chains()) if known is None else known
        try:
            self._save()  # before the first line: if this failed later, each start would repeat the lines
            while not is_stopped():
                moved = self._round(is_stopped)
                if time.monotonic() >= self._saved_s + _SAVE_S:
                    self._save()
                if not moved:
                    self._output.wait(_POLL_S)
            self._save()
        except StoppedError:
            pass

    def _round(self, is_stopped: Callable[[], bool]) -> bool:
        moved, errors = False, dict[str, str]()
        try:
            listing = self._access.chains()
        except ConnectionError:  # the opener has ended
            raise
        except OSError as exc:
            listing, errors = {}, {"": f"cannot read the trail: {exc.strerror or exc}"}
        else:
            for gone in self._followers.keys() - listing.keys():
                self._followers.pop(gone).close()  # an open descriptor keeps removed files on disk
        for mount_id, names in listing.items():
            if is_stopped():
                break
            if mount_id not in self._followers:
                position = self._positions.get(mount_id, Position())
                self._followers[mount_id] = ChainFollower(self._access, mount_id, position)
            follower = self._followers[mount_id]
            try:
                lines = follower.read(names)
            except OSError as exc:  # the other chains are still read
                errors[mount_id] = f"cannot read the trail of {mount_id}: {exc.strerror or exc}"
                continue
            wanted = [line.raw for line in lines if line.event is None or self._wanted(line.event)]
            self._output.write(b"".join(wanted))
            self._positions = self._positions | {mount_id: follower.position}
            moved = moved or bool(lines)
        for key, error in errors.items():
            if self._errors.get(key) != error:
                self._log(f"{error}; trying again")
        self._errors = errors
        return moved

    def _save(self) -> None:
        if self._cursor is not None and self._positions != self._saved:
            self._output.wait_until_taken()
            self._cursor.save(self._positions)
            self._saved = self._positions
        self._saved_s = time.monotonic()
