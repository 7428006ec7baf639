"""This module refuses written content, records the refusal, and removes the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NoReturn

from policyfs.domain import Audit, Decision, RuleMatch
from policyfs.fs.access.audit import Call
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import NamesForgotten, Node
from policyfs.linux.statx import Stat

_ON_THE_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
"""Errors of a search for a file that another program moves or removes meanwhile."""


class Rejections:
    """The part of a mount that refuses written content: held heads and drafts."""

    def __init__(self, fs: FsContext, forget_names: NamesForgotten) -> None:
        self._tree = fs.tree
        self._nodes = fs.nodes
        self._exact_names = fs.exact_names
        self._resolver = fs.resolver
        self._gate = fs.gate
        self._forget_names = forget_names

    def refuse(self, handle: Handle, decision: Decision, kind: str | None, note: str) -> NoReturn:
        """Record the refusal of content, with the content rules of the decision, and raise
        FUSEError(EPERM).
        """
        rules = self.rules_of(decision)
        refusal = Decision(allowed=False, errno=errno.EPERM, rules=rules, audit=Audit.REQUIRED)
        self._gate.refuse(
            handle.caller, Call("write", "write"), handle.node.path(), refusal, kind=kind, note=note
        )

    @staticmethod
    def rules_of(decision: Decision) -> tuple[RuleMatch, ...]:
        """Return the content rules among the rules of a decision."""
        return tuple(match for match in decision.rules if match.effect == "content")

    def remove(self, handle: Handle) -> None:
        """Remove all known names of an empty file after its content was refused, even if the file was moved.

        If another file takes one of the names meanwhile, that file stays. The refused file stays, too, if
        another program has written bytes into it meanwhile.
        """
        stat = self._tree.fstat(handle.fd)
        ways = [partial(self._by_name, *known, stat) for known in self._names_of(handle.node)]
        removed = [_is_removed(way) for way in (*ways, partial(self._by_descriptor, handle))]
        if any(removed):
            self._forget_names(handle.node)

    def _names_of(self, node: Node) -> list[tuple[Node, bytes]]:
        """Return the known names of a file in all its views. A node keeps at most KEPT_NAMES names."""
        same = (each for each in self._nodes.same_inode(node.ino) if each.btime_ns == node.btime_ns)
        names = dict.fromkeys(known for each in same for known in each.all_names())
        return [(parent, name) for parent, name in names if not parent.out_of_reach]

    def _by_name(self, parent: Node, name: bytes, stat: Stat) -> bool:
        return self._exact_names.unlink(self._resolver.dirfd(parent), name, stat, _is_empty)

    def _by_descriptor(self, handle: Handle) -> bool:
        """Remove a file that was moved in the store or another mount, and that no look-up has found since."""
        # The link count is read again: most files have no name by now, and a search would be slow, or fail.
        stat = self._tree.fstat(handle.fd)
        if not stat.nlink:
            return False
        dirfd, name = self._tree.find(handle.fd)
        try:
            return self._exact_names.unlink(dirfd, name, stat, _is_empty)
        finally:
            os.close(dirfd)


def _is_removed(remove: Callable[[], bool]) -> bool:
    """Call *remove* to remove one name. Return False if the name no longer leads to the file."""
    try:
        return remove()
    except OSError as error:
        if error.errno not in _ON_THE_WAY:
            raise
        return False


def _is_empty(stat: Stat) -> bool:
    return not stat.size


def must_be(content: Iterable[frozenset[str]]) -> str:
    """Return the note for the trail about content of a kind that fails content requirements."""
    wanted = " and ".join("one of " + ", ".join(sorted(patterns)) for patterns in content)
    return f"content must be {wanted}"
