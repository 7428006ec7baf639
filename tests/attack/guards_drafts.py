"""Guards of drafts, taken out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.checked.cleaning import Cleaned, Cleaner
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.inodes.pending_writes import Draft
from policyfs.store import quarantine
from policyfs.store.quarantine import Quarantine
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


def stored_as_written() -> None:
    """What is to be cleaned goes into the store as it was written."""

    async def clean(self: Cleaner, fd: int, *arguments: Any) -> Cleaned:
        del self, fd, arguments
        return Cleaned("image/jpeg")

    put(Cleaner, "clean", clean)


def cleaned_for_good() -> None:
    """What was cleaned once is not written anew where its file is stored as it is."""
    settle = Drafts.settle

    async def settle_once(self: Drafts, handle: Any, draft: Draft, *arguments: Any) -> None:
        await settle(self, handle, draft, *arguments)
        draft.cleaned_of = frozenset()

    put(Drafts, "settle", settle_once)


def shown_while_refused() -> None:
    """A new file keeps its names in sight until it is released, whatever was said to its close."""

    async def nothing(self: WithheldNames, *arguments: Any) -> None:
        del self, arguments

    put(WithheldNames, "hide", nothing)


def kept_in_the_open() -> None:
    """What is quarantined may be read by whoever finds it."""
    keep = Quarantine.keep

    def keep_open(self: Quarantine, *arguments: Any) -> Any:
        entry = keep(self, *arguments)
        for path in (self.directory, *self.directory.rglob("*")):
            path.chmod(0o755)
        return entry

    put(Quarantine, "keep", keep_open)


def kept_without_end() -> None:
    """Nobody counts what is in the quarantine."""
    put(quarantine, "_usage", lambda mine: (0, 0))


def pieces_take_long() -> None:
    """No guard is gone, but each piece of a draft takes a while to get into the store."""
    put_piece = Drafts._put_piece

    def late(self: Drafts, *arguments: Any) -> int:
        reached = put_piece(self, *arguments)
        time.sleep(0.2)
        return reached

    put(Drafts, "_put_piece", late)


DRAFTS: Final[dict[str, Callable[[], None]]] = {
    "draft-unread": draft_unread,
    "odd-unsearched": odd_unsearched,
    "stored-as-written": stored_as_written,
    "shown-while-refused": shown_while_refused,
    "kept-in-the-open": kept_in_the_open,
    "kept-without-end": kept_without_end,
    "cleaned-for-good": cleaned_for_good,
    "pieces-take-long": pieces_take_long,
}
