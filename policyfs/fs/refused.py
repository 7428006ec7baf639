"""What becomes of content that may not be where it was written: told, on record, and gone."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NoReturn

from policyfs.domain import Audit, Decision
from policyfs.fs.gate import Gate
from policyfs.fs.nodes import NamesForgotten, Node
from policyfs.fs.openfile import Handle
from policyfs.fs.places import Places
from policyfs.fs.record import Call
from policyfs.store.tree import Tree


class Refusals:
    """Refuses content, for held heads and for drafts alike."""

    def __init__(self, tree: Tree, places: Places, gate: Gate, forget_names: NamesForgotten) -> None:
        self._tree = tree
        self._places = places
        self._gate = gate
        self._forget_names = forget_names

    def refuse(self, handle: Handle, decision: Decision, kind: str | None, note: str) -> NoReturn:
        """Raises FUSEError(EPERM), on record with the content rules of the decision."""
        rules = tuple(match for match in decision.rules if match.effect == "content")
        refusal = Decision(allowed=False, errno=errno.EPERM, rules=rules, audit=Audit.REQUIRED)
        self._gate.refuse(
            handle.caller, Call("write", "write"), handle.node.path(), refusal, kind=kind, note=note
        )

    def remove(self, node: Node) -> None:
        """Remove the name of a file whose content was refused, if it is still this file's."""
        try:
            dirfd, name, _ = self._places.locate(node)
            self._tree.unlink(dirfd, name)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ESTALE}:
                raise
        else:
            self._forget_names(node)


def must_be(content: Iterable[frozenset[str]]) -> str:
    """The note of a refusal for a kind that some content requirements do not have."""
    wanted = " and ".join("one of " + ", ".join(sorted(patterns)) for patterns in content)
    return f"content must be {wanted}"
