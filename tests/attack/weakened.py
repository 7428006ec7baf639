"""`policyfs` with one of its guards taken out: what each attack must be seen to get through.

    python -m tests.attack.weakened GUARD[,GUARD...] mount --foreground ...

A test that cannot fail proves nothing. So each race here is also run against a daemon that lacks
the very thing which the race is about, and there it has to succeed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

import trio

import policyfs.fs.redacted.copies as redactor_module
import policyfs.kernel.session as session_module
from policyfs.cli.main import main
from policyfs.content.sniffer import Sniffer
from policyfs.domain import Decision, View
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.path_answers import Unseen
from policyfs.fs.access.views import Views
from policyfs.fs.checked.move_proof import Source
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.namespace.link import Linker
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.rename import Renamer
from policyfs.fs.opening.open_files import BackingFiles
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.sharing.pauses import Pauses
from policyfs.policy.decide import Engine
from policyfs.store.frozen import Frozen
from policyfs.store.locking.leases import Lease, LeaseKeeper
from tests.attack.guards import put
from tests.attack.guards_announced import ANNOUNCED
from tests.attack.guards_beside import BESIDE
from tests.attack.guards_copies import COPIES
from tests.attack.guards_dear import DEAR
from tests.attack.guards_drafts import DRAFTS
from tests.attack.guards_kernel_locks import KERNEL_LOCKS
from tests.attack.guards_locking import LOCKING
from tests.attack.guards_mounted import MOUNTED
from tests.attack.guards_proof import PROOF
from tests.attack.guards_reaching import REACHING
from tests.attack.guards_reading import READING
from tests.attack.guards_recording import RECORDING
from tests.attack.guards_reloading import RELOADING
from tests.attack.guards_remembered import REMEMBERED
from tests.attack.guards_vectors import VECTORS
from tests.attack.guards_ways_in import WAYS_IN
from tests.attack.guards_wearing import WEARING
from tests.attack.guards_writing import WRITING


def descriptors_get_names() -> None:
    """A file without a known name gets a name by the descriptor that is open."""
    asked = Linker._link

    async def link(self: Linker, node: Node, parent: Node, name: bytes, caller: Caller, *rest: Any) -> Any:
        if node.parent is not None or node.open is None:
            return await asked(self, node, parent, name, caller, *rest)
        self._tree.link(node.open.fd, self._resolver.dirfd(parent), name)
        state, stat = self._gate.engine.child(parent.state, name), self._tree.fstat(node.open.fd)
        return self._lookup.entry(parent, name, state, stat, caller)

    put(Linker, "_link", link)


def names_are_files() -> None:
    """One of two names of a file moves as if the file had no other name."""
    put(Renamer, "_lets_in", lambda self, who, old, new: False)


def lost_names_stay() -> None:
    """An open file without a known name is decided by its last name, whatever other name it has."""

    def renamed(self: Gate, decision: Decision, node: Node, before: bool) -> bool:
        return not decision.allowed and node.open is not None and not before and self._resolver.renamed(node)

    put(Gate, "_renamed", renamed)


def moved_files_count_as_unlinked() -> None:
    """A file that has left its known name is opened again by a descriptor, wherever it is now."""
    put(BackingFiles, "_has_names", lambda self, fd: False)


def locate_in_source() -> None:
    """Places are looked for in the live file, and the copy is patched where they were there."""
    freeze, index = redactor_module.freeze, Sniffer.index
    sources: dict[tuple[int, int], int] = {}

    def remembering(src_fd: int, *arguments: Any) -> Frozen:
        frozen = freeze(src_fd, *arguments)
        status = os.fstat(frozen.fd)
        for fd in sources.values():
            os.close(fd)
        sources.clear()
        sources[status.st_dev, status.st_ino] = os.dup(src_fd)
        return frozen

    async def in_source(self: Sniffer, fd: int, what: frozenset[str], **named: Any) -> Any:
        status = os.fstat(fd)
        return await index(self, sources.get((status.st_dev, status.st_ino), fd), what, **named)

    put(redactor_module, "freeze", remembering)
    put(Sniffer, "index", in_source)


def no_leases() -> None:
    """Large files are served from the live file by the ranges that were found at open."""

    class Granted(Lease):
        __slots__ = ()

        def holds(self) -> bool:
            return not self.released

    def grant(self: LeaseKeeper, fd: int, on_break: Any = None) -> Lease:
        del on_break
        lease = Granted(self, fd, None)
        self._leases[fd] = lease
        return lease

    put(LeaseKeeper, "grant", grant)


def one_view() -> None:
    """Raw and restricted apps share one node, and with it the kernel's pages."""
    shared = View(1, frozenset({"location"}), False)
    put(Engine, "view", lambda self, who, state: shared)
    put(Views, "whose", staticmethod(lambda *asked: None))
    put(Views, "byte_path", lambda self, *args, **named: BytePath.LIVE)


def hidden_is_absent() -> None:
    """A directory that is hidden from the caller answers ENOENT to LOOKUP, whoever else is in it."""
    put(Lookup, "_held_directory", lambda self, parent, name: None)


def looked_at_first() -> None:
    """What is hidden by its path is looked at in the store all the same, and only then denied."""
    nothing = Unseen(None, None)
    put(Gate, "asked_for", lambda self, who, above, name: (self.engine.child(above, name), nothing))


def any_node() -> None:
    """OPEN does not ask whether the node is of the caller's view."""
    put(Preconditions, "check_view", lambda self, opening: None)
    put(Preconditions, "check_path", lambda self, opening: None)


def moved_unsettled() -> None:
    """What is moved to where content is required may have writers, and be another file by then."""

    async def settled(self: Renamer, stack: Any, caller: Any, parent: Any, name: Any, stat: Any,
                      end: Any, to: Any) -> Any:  # fmt: skip
        del stack, caller, parent, name, stat, to
        await trio.sleep(0.01)  # a slow look, so that the swap falls into it
        return end, None

    put(Renamer, "_settled", settled)
    put(Resolver, "still", lambda self, parent, name, decided: None)
    put(Source, "without_kind", lambda self, to: None)


def written_in_place() -> None:
    """Under redaction a file of another owner may be written without emptying it."""
    put(Preconditions, "check_emptying", lambda self, opening: None)


def whole_listings() -> None:
    """A directory is listed in one go, while everybody else waits."""
    put(Pauses, "due", lambda self, work=1: False)


def moved_with_time() -> None:
    """A name that is moved keeps the time that it had where it was."""
    put(Renamer, "_forget_times", lambda self, *arguments: None)


def one_line() -> None:
    """All users wait in one line, as the kernel makes it."""
    take_turns = session_module.take_turns
    put(session_module, "take_turns", lambda *_: take_turns(0))


SORTS: Final = (
    ANNOUNCED, BESIDE, COPIES, DEAR, DRAFTS, KERNEL_LOCKS, LOCKING, MOUNTED, PROOF, REACHING, READING,
    RECORDING, RELOADING, REMEMBERED, VECTORS, WAYS_IN, WEARING, WRITING,
)  # fmt: skip
OTHERS: Final = {name: guard for sort in SORTS for name, guard in sort.items()}
assert len(OTHERS) == sum(map(len, SORTS)), "two guards have one name"
GUARDS: Final[dict[str, Callable[[], None]]] = OTHERS | {
    "named-descriptors": descriptors_get_names,
    "names-are-files": names_are_files,
    "lost-names-stay": lost_names_stay,
    "moved-as-unlinked": moved_files_count_as_unlinked,
    "locate-in-source": locate_in_source,
    "no-leases": no_leases,
    "one-view": one_view,
    "hidden-is-absent": hidden_is_absent,
    "looked-at-first": looked_at_first,
    "any-node": any_node,
    "moved-unsettled": moved_unsettled,
    "written-in-place": written_in_place,
    "one-line": one_line,
    "moved-with-time": moved_with_time,
    "whole-listings": whole_listings,
}

if __name__ == "__main__":
    for guard in sys.argv.pop(1).split(","):
        GUARDS[guard]()
    raise SystemExit(main())
