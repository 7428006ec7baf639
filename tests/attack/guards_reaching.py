"""The guards that stand before what is denied (threats B), each by itself, to be taken out."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, Final

import policyfs.fs.inodes.resolver as places_module
import policyfs.fs.namespace.xattr as xattr_module
import policyfs.kernel.session as session_module
import policyfs.store.facts as facts_module
import policyfs.store.tree as tree_module
import policyfs.trail.lines.table as table_module
import policyfs.trail.text.render as render_module
from policyfs.domain import Decision
from policyfs.fs.access import path_answers
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.path_answers import Unseen
from policyfs.fs.access.shown_modes import ShownModes
from policyfs.fs.inodes.handles import SharedDescriptors
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.resolver import Resolver
from policyfs.fs.kernel_cache.attributes import LONG_S, Timeouts
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.snapshots import Snapshots
from policyfs.fs.sharing.shares import Shares
from policyfs.kernel.protocol import InitFlag
from policyfs.policy.decide import Engine
from policyfs.policy.rules.distinctions import Distinctions
from policyfs.store.tree import Tree
from tests.attack.guards import named, put
from tests.support.models.directory_entries import PlainEntries

FOLDED: Final = "Folded"
"""The name of a directory that finds names in any case on the store of a `folding` daemon."""


def told_to_all() -> None:
    """The kernel keeps what one app was told of owners and modes, and tells it to others."""
    put(Timeouts, "attr", lambda self, state, node, stat: self.entry(state))


def everyones_own() -> None:
    """Whoever is shown modes by the policy is shown everything as its own."""
    shown = ShownModes.shown

    def own(self: ShownModes, stat: Any, node: Node, caller: Any) -> Any:
        return shown(self, stat, node, caller)._replace(uid=caller.uid)

    put(ShownModes, "shown", own)


def no_shares() -> None:
    """One app may hold whatever the daemon has."""
    put(Shares, "check", lambda self, holder: None)


def charges_stay() -> None:
    """A draft counts in the share of the app that began it, whoever else keeps the file open."""
    put(SharedDescriptors, "hand_on", lambda self, node, holders: None)


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
    """No guard less, but another store: one directory finds names whatever their case, and its flag says so.
    (Kernels without CONFIG_UNICODE have no such file system to mount.)"""
    put(facts_module, "casefold_flag", _folds)
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
    put(path_answers, "_SPECIAL", 0)


def moves_not_compared() -> None:
    """A link or rename needs what it needs at both ends, and nobody asks who gains by it."""
    yes = Decision(allowed=True, errno=0)
    put(Engine, "rename", lambda self, *ends, **named: yes)
    put(Engine, "link", lambda self, *ends, **named: yes)


def follows_links() -> None:
    """The daemon opens by name whatever the name leads to, and does not compare it with what it was."""

    def open_dir(self: Tree, dirfd: int, name: bytes) -> int:
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)

    def open_file(self: Tree, dirfd: int, name: bytes, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=dirfd)

    put(Tree, "open_dir", open_dir)
    put(Tree, "open_file", open_file)
    put(NodeTable, "is_same", lambda self, node, stat: True)


def kept_for_all() -> None:
    """The kernel keeps what one caller was told for a day, and answers everybody with it."""
    put(Timeouts, "entry", lambda self, state, ftype=None: LONG_S)
    put(Timeouts, "attr", lambda self, state, node, stat: LONG_S)
    put(Timeouts, "listing", lambda self, state: True)


def nobody_differs() -> None:
    """The policy's analysis finds that all callers see the same at every path."""
    for question in ("sight", "node", "below"):
        put(Distinctions, question, lambda self, state: False)


def uids_alike() -> None:
    """All callers of an app mount get the same answers, whatever the rules say about uids."""
    put(Engine, "uids_matter", lambda self, app: False)


def shown_as_is() -> None:
    """Whoever reads the trail on a terminal gets names as they are."""
    for module in (render_module, table_module):
        for name in ("shown", "shown_path"):
            if hasattr(module, name):
                put(module, name, _plainly)


def _plainly(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")


def real_uid() -> None:
    """Who asks is whom /proc names as the process's real uid, not whom the kernel sends."""
    asked = Gate.caller

    def caller(self: Gate, ctx: Any) -> Any:
        found = asked(self, ctx)
        with open(f"/proc/{ctx.pid}/status", encoding="ascii", errors="replace") as lines:
            found.uid = next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))
        return found

    put(Gate, "caller", caller)


def first_name_decides() -> None:
    """Of a node with several names only the first one counts."""
    put(Node, "states", lambda self: (self.state,))
    put(
        Gate,
        "judge",
        lambda self, who, ops, node, facts: self.decide(who, ops, node.state, node.ftype, facts, node.parent),
    )


def any_file_of_the_name() -> None:
    """What has a node's name now is taken for the node."""
    put(NodeTable, "is_same", lambda self, node, stat: True)


def any_xattr() -> None:
    """Extended attributes of every namespace go through to the store."""
    put(xattr_module, "_is_user", lambda name: True)
    put(tree_module, "_user_xattr", lambda name: name)


def hidden_keep_places() -> None:
    """A listing leaves hidden names out, and keeps their places."""
    snapshot = Snapshots.take

    async def with_gaps(self: Snapshots, listing: Any) -> Any:
        shown = {entry[1:] for entry in await snapshot(self, listing)}
        entries = enumerate(self._tree.list_dir(self._resolver.dirfd(listing.node)), 3)
        return PlainEntries((place, *entry) for place, entry in entries if entry in shown)

    put(Snapshots, "take", with_gaps)


def hidden_are_counted() -> None:
    """A directory's number of links and size are the store's, whatever is hidden in it."""
    put(Gate, "shows_all_in", lambda self, who, state: True)


def hidden_is_refused() -> None:
    """What is hidden answers EACCES instead of ENOENT, and is looked at in the store first."""
    nothing = Unseen(None, None)
    put(Gate, "asked_for", lambda self, who, above, name: (self.engine.child(above, name), nothing))

    def not_there(self: Lookup, *asked: Any) -> Any:
        raise OSError(errno.EACCES, "hidden")

    put(Lookup, "_not_there", not_there)


def nobody_refused() -> None:
    """What is decided is recorded, and carried out all the same."""

    async def require(self: Gate, caller: Any, ops: Any, node: Any, *more: Any, **named: Any) -> Decision:
        return Decision(allowed=True, errno=0)

    put(Gate, "require", require)


def everybody_admitted() -> None:
    """An app mount with several groups lets everybody in."""
    put(Gate, "admits", lambda self, ctx: True)


def names_kept() -> None:
    """The kernel may keep names and attributes of such a mount, and tells them to those not admitted."""
    put(Timeouts, "entry", lambda self, state, ftype=None: LONG_S)


def handles_given() -> None:
    """The kernel may give file handles of what is in the mount."""
    put(session_module, "WANTED", session_module.WANTED & ~InitFlag.NO_EXPORT_SUPPORT)


def moved_keep_rules() -> None:
    """A directory that the store has moved is found again, and decided by the path that it had."""
    reach = Resolver._reach

    def anywhere(self: Resolver, node: Node) -> int:
        try:
            return reach(self, node)
        except OSError:
            fd = os.dup(self._tree.root_fd)
            for name in self._handles.path_of(node) or ():
                fd = self._tree.open_dir(fd, name)
            self._fds[node.nodeid] = places_module._Kept(fd, time.monotonic(), self._moves)
            return fd

    put(Resolver, "_reach", anywhere)
    put(Resolver, "_find", lambda self, node: False)


REACHING: Final = named(
    handles_given, moved_keep_rules, everybody_admitted, names_kept, no_shares, charges_stay, told_to_all,
    everyones_own, folding, open_though_folding, moves_not_compared, follows_links, kept_for_all,
    nobody_differs, uids_alike, shown_as_is, real_uid, first_name_decides, any_file_of_the_name,
    any_xattr, hidden_is_refused, nobody_refused, hidden_keep_places, hidden_are_counted, rights_stay,
    specials_shown,
)  # fmt: skip
