"""Guards of the access vector cache, taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.vectors import NO_VECTORS, AccessVectors
from policyfs.kernel import vectors
from tests.attack.guards import put

_EVERYONE: Final = range(10010, 10014)


def vectors_of_anyone() -> None:
    """What was decided for one uid is answered to others."""
    install = AccessVectors.install

    def for_all(
        self: AccessVectors, node: Any, parent: int, fd: int, name: bytes, _: int, *rest: Any
    ) -> bool:
        installed = [install(self, node, parent, fd, name, uid, *rest) for uid in _EVERYONE]
        return all(installed)

    put(AccessVectors, "install", for_all)
    readers_on()


def vectors_kept_at_reload() -> None:
    """A new policy drops no vector."""
    put(AccessVectors, "drop_all", lambda self: None)
    readers_on()


def vectors_kept_at_rename() -> None:
    """A node that gets or loses a name keeps its vectors."""
    for name in ("add_name", "drop_name"):
        change = getattr(NodeTable, name)

        def keeping(self: NodeTable, *words: Any, change: Any = change) -> None:
            own, self.vectors = self.vectors, NO_VECTORS
            try:
                change(self, *words)
            finally:
                self.vectors = own

        put(NodeTable, name, keeping)
    put(AccessVectors, "drop_nodes", lambda self, nodes: None)  # nor does the watch's word for it drop them
    readers_on()


def readers_on() -> None:
    """The readers read the device from the first request on."""
    vectors.set_shares(0, 0)


VECTORS: Final[dict[str, Callable[[], None]]] = {
    "vectors-of-anyone": vectors_of_anyone,
    "vectors-kept-at-reload": vectors_kept_at_reload,
    "vectors-kept-at-rename": vectors_kept_at_rename,
    "readers-on": readers_on,
}
