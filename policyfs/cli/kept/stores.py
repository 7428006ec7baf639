"""The store of a mount, opened for commands that read or change what is kept in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.cli.common.live_mounts import known, part
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.store.kept.bins import Bins, machine_id
from policyfs.store.kept.kept_files import KeptFiles
from policyfs.store.kept.room import Room
from policyfs.store.names.aside_names import KEPT
from policyfs.store.tree import Tree
from policyfs.trail.lines.table import shown

_LARGEST: Final = 1 << 62


class Store(NamedTuple):
    """An open store. trails: the directories of the trails of its mounts that run."""

    path: str
    tree: Tree
    bins: Bins
    kept: KeptFiles
    trails: tuple[str, ...]


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
    running = [status for status in _statuses() if path in {status.get("mountpoint"), status.get("store")}]
    store = str(running[0]["store"]) if running else path
    beside = [status for status in _statuses() if status.get("store") == store]
    return store, tuple(str(part(status, "trail")["directory"]) for status in beside)


def _statuses() -> list[control.Json]:
    found = []
    for socket in sorted(control.runtime_dir().glob("*.sock")):
        with contextlib.suppress(control.ControlError):
            found.append(control.ask(socket, "status", 5.0))
    return found
