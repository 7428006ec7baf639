"""Replaced files: files that have just lost their name to another file. An app can still open them briefly.

Natively, an open that has found a file opens that file, even if a rename takes the file's name before the
open is done. Here LOOKUP and OPEN are two requests, and the kernel's second try (after ESTALE) may meet the
next rename. The app would then see ESTALE. So a replaced file can be opened for _KEPT_S longer.

If the file was replaced elsewhere (in the store, or through another mount), the daemon learns of this too
late, and the first OPEN fails. The kernel then looks the name up again. For the next open of the same thread,
the daemon keeps the file that this LOOKUP finds, even if the file loses the name before that open. If several
threads find the file, the daemon keeps it until the last of them has opened it. A later open without a LOOKUP
must get the file that has the name at that time. A stat is a LOOKUP and a GETATTR. For a stat the daemon
keeps the file in the same way.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.node import Node, child_path
from policyfs.store import freeing

_KEPT_S: Final = 0.25
_MOST: Final = 64
_THREADS: Final = 256
"""The limit of threads for each name (of those that will try again) and each node (that is kept for them)."""
_MISSED_S: Final = 5.0
"""The longest time for which the daemon expects another try after an open or a stat that missed its file."""


class ReplacedFiles:
    """A collection of descriptors of replaced files, by node. A replaced file still uses disk space. So the
    collection is small, and keeps a descriptor only for a moment.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, float]] = OrderedDict()
        self._threads: dict[int, set[int]] = {}  # by node; without an entry any open may use the file
        self._missed = Expiring[bytes, set[int]](_MISSED_S, most=_MOST)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, node: Node, fd: int, thread: int | None = None) -> None:
        """Take over a descriptor (O_RDONLY or O_PATH) of a node that loses its last name now, or maybe soon.

        thread: the thread whose next open needs the descriptor, since the node may lose its name before that
        open. None: the node loses its name now, and the descriptor is for any open.
        """
        threads = self._threads.get(node.nodeid) or set()
        self._let_go(node.nodeid)
        if thread is not None:
            if len(threads) >= _THREADS:  # most of these threads did not open the node
                threads.clear()
            threads.add(thread)
            self._threads[node.nodeid] = threads
        self._kept[node.nodeid] = (fd, time.monotonic() + _KEPT_S)
        while len(self._kept) > _MOST:
            self._let_go(next(iter(self._kept)))

    def find(self, node: Node) -> int:
        """Return the descriptor that is kept for a node; -1 if there is none. Callers must not close it."""
        kept = self._kept.get(node.nodeid)
        return -1 if kept is None or kept[1] < time.monotonic() else kept[0]

    def opened(self, node: Node, thread: int) -> None:
        """Note a thread's open of a node. A descriptor that was kept for certain threads is closed when the
        last of these threads opens the node.
        """
        waiting = self._threads.get(node.nodeid)
        if waiting is not None:
            waiting.discard(thread)
            if not waiting:
                self._let_go(node.nodeid)
        if self._missed:
            threads = self._missed.get(path := node.path())
            if threads is not None:
                threads.discard(thread)
                if not threads:
                    self._missed.pop(path)

    def missed(self, node: Node, thread: int) -> None:
        """Note that an open or a stat did not find the file that its LOOKUP found: another file has that
        name now.
        """
        threads = self._missed.get(path := node.path()) or set()
        if len(threads) >= _THREADS:  # most of these threads did not try again
            threads.clear()
        threads.add(thread)
        self._missed.put(path, threads)

    def is_wanted(self, node: Node) -> bool:
        """Return True if an open or a stat by this node's path has just missed its file (see missed()). The
        caller then keeps the file that has the name.

        The answer stays True for some seconds, or until each thread that missed its file has opened the path.
        (The kernel may look up twice before the second try.) Opens of other threads do not count.
        """
        return bool(self._missed and self._missed.get(node.path()))

    def is_path_wanted(self, parent: Node, name: bytes) -> bool:
        """Return True for a name for which is_wanted() would return True."""
        return bool(self._missed and self._missed.get(child_path(parent, name)))

    def expire(self) -> bool:
        """Close descriptors that were kept long enough. Return True if some stay: the caller then calls again
        within 50 ms.
        """
        while self._kept:
            nodeid, (_, until) = next(iter(self._kept.items()))
            if until >= time.monotonic():
                return True
            self._let_go(nodeid)
        return False

    def close(self) -> None:
        """Close all kept descriptors."""
        while self._kept:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, nodeid: int) -> None:
        self._threads.pop(nodeid, None)
        kept = self._kept.pop(nodeid, None)
        if kept is not None:
            freeing.close(kept[0])
