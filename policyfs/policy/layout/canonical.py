"""Conversion of one file to canonical form: the same meaning, all comments, and stable when repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policyfs.errors import PolicyfsError
from policyfs.policy.layout.tree import Collection, Comment, Entry, Node, Scalar, read_tree
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


class _Found(NamedTuple):
    """A comment, with its place in the text. own: True if the comment has a line of its own."""

    at: int
    column: int
    own: bool
    comment: Comment


class _Known(NamedTuple):
    """An entry of a file, with the lists and mappings that contain it, the outermost first."""

    entry: Entry
    around: tuple[Collection, ...]


def comments_of(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Return the texts of comments of a file, in order. spans: the places of single values in the text."""
    return [found.comment.text for found in _found(text, spans)]


def _found(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[_Found]:
    at = 0
    for start, end in [*spans, (len(text), len(text))]:
        stop = start
        if text[start : start + 1] in {"|", ">"}:  # a comment can follow the sign that begins the block
            stop = text.find("\n", start)
        while at < stop:
            if text[at] == "#" and (at == 0 or text[at - 1].isspace()):
                line = text.rfind("\n", 0, at) + 1
                finish = text.find("\n", at)
                finish = len(text) if finish < 0 else finish
                above = text[:line].rstrip(" \n").count("\n"), text[:line].count("\n")
                gap = bool(text[:line].strip()) and above[1] - above[0] > 1
                own = not text[line:at].strip()
                yield _Found(at, at - line, own, Comment(text[at:finish].rstrip(), gap and own))
                at = finish
            at += 1
        at = max(at, end)


def attach(text: str, top: Collection, spans: Sequence[tuple[int, int]]) -> list[Comment]:
    """Give comments and blank lines to entries. Return the comments at the beginning of the file."""
    known = sorted(_entries(top, (top,)), key=lambda one: one.entry.start)
    header: list[Comment] = []
    first = known[0].entry.start if known else len(text)
    for found in _found(text, spans):
        if found.own and found.at < first:
            header.append(found.comment)
        elif not (not found.own and _beside(text, known, found)):
            _above(known, found, top)
    for one in known:
        one.entry.gap = _blank_above(text, one.entry.start)
    return header


def _entries(collection: Collection, around: tuple[Collection, ...]) -> Iterator[_Known]:
    for entry in collection.entries:
        yield _Known(entry, around)
        if isinstance(entry.value, Collection):
            yield from _entries(entry.value, (*around, entry.value))


def _blank_above(text: str, start: int) -> bool:
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip(" -"):
        return False
    above = text[:line].rstrip(" ")
    return above.endswith("\n\n") or above.rstrip(" \n").count("\n") < above.count("\n") - 1


def _beside(text: str, known: Sequence[_Known], found: _Found) -> bool:
    """Give a comment to the entry before it on the same line. Return False if there is no such entry."""
    best: tuple[int, int, Entry, bool] | None = None
    line = text.rfind("\n", 0, found.at) + 1
    for one in known:
        entry, depth = one.entry, len(one.around)
        places = [(entry.end, False), (entry.head, True)]
        if isinstance(entry.value, Collection) and entry.value.flow:
            places.append((entry.value.start + 1, True))
        block = text[entry.value.start : entry.value.start + 1] in {"|", ">"}
        if block and not isinstance(entry.value, Collection):
            places = [(entry.value.start + 1, True)]
        for at, is_head in places:
            if line <= at <= found.at and (best is None or (at, depth) >= best[:2]):
                best = (at, depth, entry, is_head)
    if best is None:
        return False
    (best[2].header if best[3] else best[2].trailing).append(found.comment)
    return True


def _above(known: Sequence[_Known], found: _Found, top: Collection) -> None:
    """Give a comment to a list or mapping of its indentation that ends above it, or to the next entry."""
    following = next((one for one in known if one.entry.start > found.at), None)
    before = [one for one in known if one.entry.start < found.at]
    inside = {id(collection) for collection in following.around} if following is not None else set()
    floor = following.entry.column if following is not None else -1
    chain = before[-1].around if before else (top,)
    last = before[-1].entry.value if before else None
    if isinstance(last, Collection):
        chain = (*chain, last)
    for collection in reversed(chain):
        if id(collection) in inside:
            break
        if collection.flow:
            if found.at < collection.end:
                collection.footer.append(found.comment)
                return
        elif collection.column <= found.column and collection.column > floor:
            collection.footer.append(found.comment)
            return
    if following is None:
        top.footer.append(found.comment)
    else:
        following.entry.leading.append(found.comment)
