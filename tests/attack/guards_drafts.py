"""Guards of drafts, taken out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.access.views import Views
from policyfs.fs.checked import draft_storage
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.cleaning import Cleaned, Cleaner
from policyfs.fs.checked.draft_storage import DraftStorage
from policyfs.fs.checked.drafts import Drafts
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.inodes.pending_writes import Draft
from policyfs.fs.opening.byte_paths import LivePath
from policyfs.store import quarantine
from policyfs.store.quarantine import Quarantine
from tests.attack.guards import named, put
from tests.attack.guards_reading import parsers

_LATE_S: Final = 1.0


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


def drafts_of_any_kind() -> None:
    """What waits for its check is read whoever wrote it, also by an app whom the file's kind lets in."""
    put(LivePath, "_of_unknown_kind", lambda *_: False)


def cleaned_for_good() -> None:
    """What was cleaned once is not written anew where its file is stored as it is."""
    settle = Drafts.settle

    async def settle_once(self: Drafts, handle: Any, draft: Draft, *arguments: Any) -> bool:
        stored = await settle(self, handle, draft, *arguments)
        draft.cleaned_of = frozenset()
        return stored

    put(Drafts, "settle", settle_once)


def one_draft_for_all() -> None:
    """All apps with one view share a file's draft, also apps that may not write the file."""
    put(Views, "_may_write", staticmethod(lambda *asked: True))


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
    put_piece = DraftStorage._put_piece

    def late(self: DraftStorage, *arguments: Any) -> None:
        put_piece(self, *arguments)
        time.sleep(0.2)

    put(DraftStorage, "_put_piece", late)


def threads_begin_late() -> None:
    """No guard is gone, but a thread begins to change a file only after the file was changed elsewhere."""
    in_thread = ChangeLock.in_thread

    async def late(self: ChangeLock, fd: int, fence: Any, change: Callable[[], Any]) -> Any:
        def delayed() -> Any:
            before, until = os.fstat(fd).st_ctime_ns, time.monotonic() + _LATE_S
            while os.fstat(fd).st_ctime_ns == before and time.monotonic() < until:
                time.sleep(0.001)
            return change()

        return await in_thread(self, fd, fence, delayed)

    put(ChangeLock, "in_thread", late)


def tries_without_end() -> None:
    """A draft waits for a moment in which nobody changes its file, however long that takes."""
    put(draft_storage, "_TRIES", 1 << 60)


def times_stop_a_draft() -> None:
    """After any change of its file a draft is not stored any further."""
    put(draft_storage, "_alike", lambda *_: False)


def written_under_locks() -> None:
    """A draft gets to the disk while the kernel holds the lock of the file that is to share its blocks."""
    put(draft_storage, "_write_out", lambda *_: None)


DRAFTS: Final = named(
    drafts_of_any_kind, draft_unread, one_draft_for_all, odd_unsearched, stored_as_written,
    shown_while_refused, kept_in_the_open, kept_without_end, cleaned_for_good, pieces_take_long,
    threads_begin_late, tries_without_end, written_under_locks, times_stop_a_draft,
)  # fmt: skip
