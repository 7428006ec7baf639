"""Rules for boxes: tables of the boxes allowed in each box, and their shapes.

A box that is not in its table becomes ``free``; bytes behind the last entry of a table become zeros.
Sizes never change, so offsets of media data stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.tracks import Movie, Track
from policyfs.redact.isobmff.udta import FREE_KINDS, clean_meta, clean_user_data, clean_uuid


@dataclass(slots=True)
class Walk:
    """State of a walk through nested boxes. where: the name of the current container."""

    block: Block
    movie: Movie
    track: Track | None = None
    where: str = "moov"

    def holds(self, box: Box, size: int) -> bool:
        """True if a box's body has at least *size* bytes; if not, the box is removed as broken."""
        if box.end < box.body + size:
            self.block.free(box, self.where, broken=True)
            return False
        return True

    def trim(self, box: Box, end: int) -> None:
        """Zero the bytes of a box from an offset on."""
        if end < box.end:
            self.block.wipe(end, box.end, self.where, name_of(box.kind), UNKNOWN)


Rule = Callable[[Walk, Box], None]
"""Cleans one box in place. Raises TooMuchError, NotThisKindError."""


def clean_children(block: Block, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    """Clean the boxes in [start, end) by a table of rules; remove boxes without a rule."""
    _inside(Walk(block, Movie(), None, where), start, end, rules, where)


def _inside(walk: Walk, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    boxes = walk.block.boxes(start, end)
    for child in boxes:
        if child.cut:
            break
        walk.where = where
        rules.get(child.kind, _COMMON.get(child.kind, _unknown))(walk, child)
    walk.block.rest(boxes, end, where)


def container(inside: Mapping[bytes, Rule], skip: int = 0) -> Rule:
    """Make the rule for a box that holds boxes with these rules, behind skip bytes."""

    def rule(walk: Walk, box: Box) -> None:
        _inside(walk, min(box.body + skip, box.end), box.end, inside, name_of(box.kind))

    return rule


def _unknown(walk: Walk, box: Box) -> None:
    walk.block.free(box, walk.where)


def _empty(walk: Walk, box: Box) -> None:
    walk.block.wipe(box.body, box.end, walk.where, name_of(box.kind), UNKNOWN)


def fixed_size(*sizes: int) -> Rule:
    """Make the rule for a box of numbers: its first bytes stay, and those behind become zeros.

    sizes: the number of bytes that stay, by the box's version; the last one is for all higher versions.
    """

    def rule(walk: Walk, box: Box) -> None:
        if box.end == box.body:
            return
        size = sizes[min(walk.block.data[box.body], len(sizes) - 1)]
        walk.trim(box, box.body + size)

    return rule


def table(header: int, *widths: int) -> Rule:
    """Make the rule for a table: a header that ends with the count, entries, zeros behind.

    widths: bytes of an entry, by version.
    """

    def rule(walk: Walk, box: Box) -> None:
        data, body = walk.block.data, box.body
        if not walk.holds(box, header):
            return
        width = widths[min(data[body], len(widths) - 1)]
        end = body + header + width * walk.block.number(body + header - 4)
        walk.trim(box, end)
        if walk.track is not None and walk.where == "stbl":
            walk.track.table.keep(box.kind, memoryview(data)[body : min(end, box.end)])

    return rule


def _meta(walk: Walk, box: Box) -> None:
    clean_meta(walk.block, box)


def _udta(walk: Walk, box: Box) -> None:
    clean_user_data(walk.block, box)


def _uuid(walk: Walk, box: Box) -> None:
    clean_uuid(walk.block, box, walk.where)


def rules(**named: Rule) -> Mapping[bytes, Rule]:
    """Return a table of rules by type."""
    return MappingProxyType({name.encode().ljust(4): rule for name, rule in named.items()})


_COMMON: Final = MappingProxyType(
    dict.fromkeys(FREE_KINDS, _empty) | {b"meta": _meta, b"udta": _udta, b"uuid": _uuid}
)
"""Rules for boxes that may be in any container."""
