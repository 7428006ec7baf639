"""This module refuses written content, records the refusal, and removes the file."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NoReturn

from policyfs.domain import Audit, Decision, RuleMatch
from policyfs.errors import CONTENT_REFUSED
from policyfs.fs.access.audit import Call
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import NamesForgotten, Node

_ON_THE_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EBUSY})
"""Errors of a search for a file that another program moves or removes meanwhile. EBUSY: a daemon that is
stopped has the name's lock. The empty file then stays."""


class Rejections(FsPart):
    """The part of a mount that refuses written content: held heads and drafts."""

    def __init__(self, fs: FsContext, forget_names: NamesForgotten) -> None:
        super().__init__(fs)
        self._forget_names = forget_names

    def refuse(self, handle: Handle, decision: Decision, kind: str | None, note: str) -> NoReturn:
        """Record the refusal of content, with its content rules, and raise FUSEError(EPERM)."""
        rules = self.rules_of(decision)
        refusal = Decision(allowed=False, errno=CONTENT_REFUSED, rules=rules, audit=Audit.REQUIRED)
        self._gate.refuse(
            handle.caller, Call("write", "write"), handle.node.path(), refusal, kind=kind, note=note
        )

    @staticmethod
    def rules_of(decision: Decision) -> tuple[RuleMatch, ...]:
        """Return the content rules among the rules of a decision."""
        return tuple(match for match in decision.rules if match.effect == "content")

    async def remove(self, handle: Handle, is_last: Callable[[], bool]) -> None:
        """Remove all known names of an empty file after its content was refused, even if it was moved. What
        takes a name meanwhile stays, and the file if it has bytes, or if is_last() returns False: another
        handle writes it."""
        stat, who, is_removed = self._tree.fstat(handle.fd), handle.caller.holder, False
        if stat.size:
            return

        def remove(dirfd: int, name: bytes) -> bool:
            return self._tree.remove_same(dirfd, name, stat, lambda now: not now.size and is_last())

        for parent, name in self._names_of(handle.node):
            with _on_the_way():
                async with self._name_lock.on(who, (self._resolver.dirfd(parent), name)):
                    is_removed |= remove(self._resolver.dirfd(parent), name)
        with _on_the_way():
            if self._tree.fstat(handle.fd).nlink:  # most files have no name by now: no search is needed
                dirfd, name = self._tree.find(handle.fd)
                try:
                    async with self._name_lock.on(who, (dirfd, name)):
                        is_removed |= remove(dirfd, name)
                finally:
                    os.close(dirfd)
        if is_removed:
            self._forget_names(handle.node)

    def _names_of(self, node: Node) -> list[tuple[Node, bytes]]:
        """Return the known names of a file in all its views. A node keeps at most KEPT_NAMES names."""
        same = (each for each in self._nodes.same_inode(node.ino) if each.btime_ns == node.btime_ns)
        names = dict.fromkeys(known for each in same for known in each.all_names())
        return [(parent, name) for parent, name in names if not parent.out_of_reach]


@contextlib.contextmanager
def _on_the_way() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _ON_THE_WAY:
            raise


def must_be(content: Iterable[frozenset[str]]) -> str:
    """Return the note for the trail about content of a kind that fails content requirements."""
    wanted = " and ".join("one of " + ", ".join(sorted(patterns)) for patterns in content)
    return f"content must be {wanted}"
