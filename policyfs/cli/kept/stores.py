"""The store of a mount, opened for commands that read or change what is kept in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.live_mounts import known, part
from policyfs.cli.common.on_record import record, starter
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.store.kept.bins import Bins, machine_id
from policyfs.store.kept.kept_files import KeptFiles
from policyfs.store.kept.room import Room
from policyfs.store.names.aside_names import KEPT
from policyfs.store.tree import Tree
from policyfs.trail.lines.record import Fields
from policyfs.trail.lines.table import shown
from policyfs.trail.query.query import compile_glob

_LARGEST: Final = 1 << 62


class Store(NamedTuple):
    """An open store. trails: the directories of the trails of its mounts that run."""

    path: str
    tree: Tree
    bins: Bins
    kept: KeptFiles
    trails: tuple[str, ...]

    def tell(self, how: str, fields: Fields) -> None:
        """Write on the trail of each mount of the store that runs what a command (*how*) is about to do."""
        for trail in self.trails:
            root, name = os.path.split(trail)
            record(Path(root), name, "undo", fields | starter(how), end=starter(how))


@contextlib.contextmanager
def opened(given: str) -> Iterator[Store]:
    """Open the store at a path, or that of the mount at it. Raises PolicyfsError."""
    path, trails = _store_of(given)
    if os.geteuid() != 0:
        raise PolicyfsError("only root may use what is kept: run this command with sudo")
    try:
        tree = Tree.open(path)
    except OSError as error:
        raise PolicyfsError(f"{shown(path)}: {error.strerror}") from error
    with tree, contextlib.closing(Bins(tree.root_fd, machine_id())) as bins:
        if not bins.machines():
            raise PolicyfsError(
                f"nothing is kept in {shown(path)} (it has no {os.fsdecode(KEPT)}): name a store, or a mount"
                " whose policy has a rule with `keep`"
            )
        kept = KeptFiles(tree, bins, Room(tree.root_fd, _LARGEST), most_bytes=_LARGEST)
        yield Store(path, tree, bins, kept, trails)


def _store_of(given: str) -> tuple[str, tuple[str, ...]]:
    """Return the path of the store, and the directories of the trails of its mounts."""
    path = known(given)
    statuses = _statuses()
    running = [status for status in statuses if path in {status.get("mountpoint"), status.get("store")}]
    store = str(running[0]["store"]) if running else path
    beside = [status for status in statuses if status.get("store") == store]
    return store, tuple(str(part(status, "trail")["directory"]) for status in beside)


def choice_of(globs: Sequence[str] | None) -> Callable[[bytes], bool]:
    """Return a function that tells whether a path matches one of the globs; without globs, each does. Raises
    ValueError with a message for people."""
    patterns = [compile_glob(glob) for glob in globs or ()]
    return lambda path: not patterns or any(pattern.fullmatch(path) for pattern in patterns)


def _statuses() -> list[control.Json]:
    found = []
    for socket in sorted(control.runtime_dir().glob("*.sock")):
        with contextlib.suppress(control.ControlError):
            found.append(control.ask(socket, "status", 5.0))
    return found
