"""Notifications that wait until another one, which hangs in the kernel, is written."""

from __future__ import annotations

from typing import Final, TypeAlias

from policyfs.kernel import messages
from policyfs.kernel.messages import Call

Message: TypeAlias = tuple[bytes, Call | None]
"""A message, and the function to call after it was written."""


class WaitingMessages:
    """Messages by the lock or pages that they wait for: a directory's, or a file's (messages.awaited).

    An app decides how many directories it keeps locked, and how many names change there. So together no more
    than *capacity* messages wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._by_what: Final[dict[bytes, dict[Message, None]]] = {}

    def begin(self, hanging: bytes) -> None:
        """Let further messages for the same directory or pages wait for a message that hangs."""
        if (what := messages.awaited(hanging)) is not None:
            self._by_what.setdefault(what, {})

    def add(self, message: bytes, done: Call | None) -> bool:
        """Keep a message if another one hangs for the same directory or pages, and if there is room."""
        kept = self._by_what.get(messages.awaited(message) or b"") if self._by_what else None
        return kept is not None and self._keep(kept, (message, done))

    def add_to_any_directory(self, message: bytes) -> bool:
        """Keep a message until some directory is free. False without such a directory, and without room."""
        directories = (kept for what, kept in self._by_what.items() if messages.is_directory(what))
        kept = next(directories, None)
        return kept is not None and self._keep(kept, (message, None))

    def end(self, written: bytes) -> list[Message]:
        """Return, in order, the messages that waited for a message that was written now."""
        return list(self._by_what.pop(messages.awaited(written) or b"", ()))

    def _keep(self, kept: dict[Message, None], message: Message) -> bool:
        has_room = sum(map(len, self._by_what.values())) < self._capacity
        if has_room:
            kept[message] = None
        return has_room
