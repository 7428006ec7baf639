"""Guards of drafts, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.drafts import Drafts
from tests.attack.guards import put


def draft_unread() -> None:
    """A draft goes into the store without anybody looking it through."""

    async def nothing(self: Drafts, *arguments: Any) -> None:
        del self, arguments

    put(Drafts, "_judge", nothing)


DRAFTS: Final[dict[str, Callable[[], None]]] = {"draft-unread": draft_unread}
