"""Notifications that wait in the daemon until another notification, which hangs in the kernel, is written."""

from __future__ import annotations

from typing import Final, TypeAlias

from policyfs.kernel import messages
from policyfs.kernel.messages import Call

Message: TypeAlias = tuple[bytes, Call | None]
"""A notification, and the function to call after it was written (None: no function)."""


class WaitingMessages:
    """Waiting messages, by the directory's lock or the file's pages that they wait for (messages.awaited): at
    most *capacity*, because an app decides how many directories it locks, and how many names change there."""

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._by_what: Final[dict[bytes, dict[Message, None]]] = {}

    def begin(self, hanging: bytes) -> None:
        """Make further messages for the same directory or pages wait for the message *hanging*."""
        if (what := messages.awaited(hanging)) is not None:
            self._by_what.setdefault(what, {})

    def add(self, message: bytes, done: Call | None) -> bool:
        """Keep a message if another one hangs for the same directory or pages, and there is room. True: it
        was kept."""
        kept = self._by_what.get(messages.awaited(message) or b"") if self._by_what else None
        return kept is not None and self._keep(kept, (message, done))

    def add_to_any_directory(self, message: bytes) -> bool:
        """Keep a message until one of the locked directories is free. Return False if none is, or there is no
        room."""
        directories = (kept for what, kept in self._by_what.items() if messages.is_directory(what))
        kept = next(directories, None)
        return kept is not None and self._keep(kept, (message, None))

    def end(self, written: bytes) -> list[Message]:
        """Return, in order, the messages that waited for the message *written*, which is now written."""
        return list(self._by_what.pop(messages.awaited(written) or b"", ()))

    def _keep(self, kept: dict[Message, None], message: Message) -> bool:
        has_room = sum(map(len, self._by_what.values())) < self._capacity
        if has_room:
            kept[message] = None
        return has_room
