"""The refusal of written content: the answer, the record, and the removal of the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final, NoReturn

from policyfs.domain import Audit, Decision, RuleMatch
from policyfs.fs.access.audit import Call
from policyfs.fs.context import FsContext
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import NamesForgotten
from policyfs.linux.statx import Stat

_ON_THE_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
"""Errors of a search for a file that is moved or removed meanwhile."""


class Rejections:
    """Refuses content, for held heads and for drafts alike."""

    def __init__(self, fs: FsContext, forget_names: NamesForgotten) -> None:
        self._tree = fs.tree
        self._exact_names = fs.exact_names
        self._resolver = fs.resolver
        self._gate = fs.gate
        self._forget_names = forget_names

    def refuse(self, handle: Handle, decision: Decision, kind: str | None, note: str) -> NoReturn:
        """Raise FUSEError(EPERM), on record with the content rules of the decision."""
        rules = self.rules_of(decision)
        refusal = Decision(allowed=False, errno=errno.EPERM, rules=rules, audit=Audit.REQUIRED)
        self._gate.refuse(
            handle.caller, Call("write", "write"), handle.node.path(), refusal, kind=kind, note=note
        )

    @staticmethod
    def rules_of(decision: Decision) -> tuple[RuleMatch, ...]:
        """Return the rules of a decision that require something of content."""
        return tuple(match for match in decision.rules if match.effect == "content")

    def remove(self, handle: Handle) -> None:
        """Remove the name of an empty file whose content was refused, also if the file was moved.

        Another file that takes the name meanwhile stays, and so does this one if another program has written
        it by then.
        """
        for removed in (self._by_name, self._by_descriptor):
            try:
                if removed(handle):
                    self._forget_names(handle.node)
                    return
            except OSError as error:
                if error.errno not in _ON_THE_WAY:
                    raise

    def _by_name(self, handle: Handle) -> bool:
        dirfd, name, stat = self._resolver.locate(handle.node)
        return self._exact_names.unlink(dirfd, name, stat, _is_empty)

    def _by_descriptor(self, handle: Handle) -> bool:
        """Remove a file that was moved in the store or another mount, and not looked up here since."""
        dirfd, name = self._tree.find(handle.fd)
        try:
            return self._exact_names.unlink(dirfd, name, self._tree.fstat(handle.fd), _is_empty)
        finally:
            os.close(dirfd)


def _is_empty(stat: Stat) -> bool:
    return not stat.size


def must_be(content: Iterable[frozenset[str]]) -> str:
    """Return the note of a refusal for a kind that fails content requirements."""
    wanted = " and ".join("one of " + ", ".join(sorted(patterns)) for patterns in content)
    return f"content must be {wanted}"
