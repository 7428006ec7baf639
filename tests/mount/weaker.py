"""`policyfs` with one of its guards taken out, for the tests that must notice it.

python -m tests.mount.weaker GUARD mount --foreground ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import policyfs.fs.checked.head_writes as checked_module
from policyfs.cli.main import main
from policyfs.domain import OWNER_NONE
from policyfs.fs.namespace.snapshots import Snapshots
from policyfs.policy.moves.moves import Mover
from policyfs.store.owner import Owners
from tests.attack.weakened import put, written_in_place
from tests.support.models.directory_entries import PlainEntries


def moved_for_gain() -> None:
    """Nobody asks who could do more at the new path."""
    put(Mover, "gain", lambda self, *arguments, **named: False)


def replaced_unasked() -> None:
    """What a rename replaces need not be the caller's to delete."""
    rename = Mover.rename

    def lenient(self: Mover, engine: Any, who: Any, old: Any, new: Any, replaced: Any, **named: Any) -> Any:
        return rename(self, engine, who, old, new, replaced if named["exchange"] else None, **named)

    put(Mover, "rename", lenient)


def content_unasked() -> None:
    """Whatever is written is of the right kind."""
    put(checked_module, "meets", lambda kind, content: True)


def owner_stays() -> None:
    """A file stays its owner's, whoever else writes it."""
    set_owner = Owners.set

    def keep(self: Owners, fd: int, stat: Any, app: str) -> None:
        if app != OWNER_NONE:
            set_owner(self, fd, stat, app)

    put(Owners, "set", keep)


def hidden_listed() -> None:
    """Listings show all names."""

    async def everything(self: Snapshots, listing: Any) -> Any:
        names = self._tree.list_dir(self._resolver.dirfd(listing.node))
        return PlainEntries((place, *entry) for place, entry in enumerate(names, 3))

    put(Snapshots, "take", everything)


GUARDS: Final[dict[str, Callable[[], None]]] = {
    "moved-for-gain": moved_for_gain,
    "replaced-unasked": replaced_unasked,
    "content-unasked": content_unasked,
    "owner-stays": owner_stays,
    "hidden-listed": hidden_listed,
    "written-in-place": written_in_place,
}

if __name__ == "__main__":
    GUARDS[sys.argv.pop(1)]()
    raise SystemExit(main())
