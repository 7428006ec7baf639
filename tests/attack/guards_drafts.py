"""Guards of drafts, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.drafts import Drafts
from tests.attack.guards import put
from tests.attack.guards_reading import parsers


def draft_unread() -> None:
    """A draft goes into the store without anybody looking it through."""

    async def nothing(self: Drafts, *arguments: Any) -> None:
        del self, arguments

    put(Drafts, "_judge", nothing)


def odd_unsearched() -> None:
    """What is not understood in a file is not searched: only what is known counts."""
    parsers("tests.attack.parsers_unsearching")


DRAFTS: Final[dict[str, Callable[[], None]]] = {
    "draft-unread": draft_unread,
    "odd-unsearched": odd_unsearched,
}
