"""Conversion of one file to canonical form: the same meaning, all comments, and stable when repeated."""

from __future__ import annotations

from policyfs.errors import PolicyfsError
from policyfs.policy.layout.comments import attach, comments_of
from policyfs.policy.layout.tree import Collection, Node, Scalar, read_tree
from policyfs.policy.layout.writer import Writer
from policyfs.policy.text.document import KIND


class LostCommentError(PolicyfsError):
    """The error if the converted text would lack a comment: a bug. The file must stay as it is."""


def canonical(text: str) -> str:
    """Return the text of a valid file in canonical form. Raise LostCommentError."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n"):
        text += "\n"
    top, spans = read_tree(text)
    header = attach(text, top, spans)
    made = Writer(sort=not _is_anchored(top), globs=_kind(top) == KIND).text(top, header)
    before, after = comments_of(text, spans), comments_of(made, read_tree(made)[1])
    if sorted(before) != sorted(after):
        raise LostCommentError(
            "the canonical form would lose a comment, so the file stays as it is; please report this file"
        )
    return made


def _kind(top: Collection) -> str:
    for entry in top.entries:
        if entry.key is not None and entry.key.text == "kind" and isinstance(entry.value, Scalar):
            return entry.value.text
    return ""


def _is_anchored(node: Node) -> bool:
    """Return True if a node has YAML anchors. Then the order of its keys must not change."""
    if not isinstance(node, Collection):
        return bool(getattr(node, "anchor", None))
    return bool(node.anchor) or any(_is_anchored(entry.value) for entry in node.entries)
