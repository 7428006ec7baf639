"""The guards that stand before what is denied (threats B), each by itself, to be taken out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import policyfs.fs.places as places_module
import policyfs.store.facts as facts_module
from policyfs.fs.gate import Gate
from policyfs.fs.shares import Shares
from policyfs.store.tree import Tree
from tests.attack.guards import put

FOLDED: Final = "Folded"
"""The name of a directory that finds names in any case on the store of a `folding` daemon."""


def no_shares() -> None:
    """One app may hold whatever the daemon has."""
    put(Shares, "check", lambda self, holder: None)


def _folds(fd: int) -> bool:
    return FOLDED in os.readlink(f"/proc/self/fd/{fd}").split("/")


def _finding(call: Callable[..., Any]) -> Callable[..., Any]:
    """A system call on a name that finds it in any case, as a file system that folds does."""

    def found(self: Tree, dirfd: int, name: bytes, *more: Any) -> Any:
        if _folds(dirfd):
            known = {other.lower(): other for other, _, _ in self.list_dir(dirfd)}
            name = known.get(name.lower(), name)
        return call(self, dirfd, name, *more)

    return found


def folding() -> None:
    """No guard less, but another store: one directory finds names whatever their case, and its flag
    says so. (Kernels without CONFIG_UNICODE have no such file system to mount.)
    """
    put(facts_module, "_casefold_flag", _folds)
    for name in ("stat", "open_dir", "open_path", "open_file", "unlink"):
        put(Tree, name, _finding(getattr(Tree, name)))


def open_though_folding() -> None:
    """Directories that find names whatever their case are open like any other."""
    put(places_module, "directory_folds_by_flag", lambda fd: False)


def rights_stay() -> None:
    """Who opens a program for writing leaves its suid, sgid and capabilities as they are."""
    put(Tree, "clear_killpriv", lambda self, fd: None)


def specials_shown() -> None:
    """Fifos, sockets and devices of the store are listed like files."""
    put(Gate, "shows", lambda self, who, state, ftype, parent: True)


REACHING: Final[dict[str, Callable[[], None]]] = {
    "no-shares": no_shares,
    "folding": folding,
    "open-though-folding": open_though_folding,
    "rights-stay": rights_stay,
    "specials-shown": specials_shown,
}
