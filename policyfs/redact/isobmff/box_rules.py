"""Rules for boxes: the boxes that may stay in each container, and the length of their content.

A box without a rule becomes a ``free`` box. In a box with a table, bytes behind the last entry become zeros.
Sizes never change, so offsets of media data stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.tracks import Movie, Track
from policyfs.redact.isobmff.udta import FREE_KINDS, clean_meta, clean_user_data, clean_uuid


@dataclass(slots=True)
class BoxWalk:
    """The state of a walk through nested boxes. where: the name of the current container."""

    block: Block
    movie: Movie
    track: Track | None = None
    where: str = "moov"

    def holds(self, box: Box, size: int) -> bool:
        """Return True if a box's body has at least *size* bytes.

        Otherwise remove the box as not understood, and return False.
        """
        if box.end < box.body + size:
            self.block.free(box, self.where, broken=True)
            return False
        return True

    def trim(self, box: Box, end: int) -> None:
        """Zero the bytes of a box from the offset `end` on."""
        if end < box.end:
            self.block.wipe(end, box.end, self.where, name_of(box.kind), UNKNOWN)


Rule = Callable[[BoxWalk, Box], None]
"""Function that cleans one box in place. Raises TooMuchError, NotThisKindError."""
_NEEDED: Final = {*b"stsc stsz stz2 stco co64 stss mvhd tkhd mdhd vmhd smhd trun tfhd mfhd".split(b" ")}
"""Types of boxes of numbers without which policyfs and players would not find, or know, the samples."""


def searched(rule: Rule) -> Rule:
    """Return the rule that also searches a box of numbers: a box that still holds a block of metadata, or a
    place if LOCATION is hidden, is removed.
    """

    def checked(walk: BoxWalk, box: Box) -> None:
        block, found = walk.block, walk.block.found
        patches, notes = len(found.patches), len(found.notes)
        rule(walk, box)
        changes = [patch.shifted(-block.offset - box.body) for patch in found.patches[patches:]]
        if any(patch.offset < 0 for patch in changes):
            return  # the box has become free space
        data = apply(block.body(box), changes) if changes else block.body(box)
        if not told_in_kept(data, block.inner.hide & Tells.LOCATION, block.inner.budget, numbers=True):
            return
        if box.kind in _NEEDED:
            raise NotThisKindError(f"its {name_of(box.kind)} box holds metadata")
        del found.patches[patches:], found.notes[notes:]
        block.free(box, walk.where)

    return checked


def clean_children(block: Block, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    """Clean the boxes in [start, end) by a table of rules; remove boxes without a rule."""
    _inside(BoxWalk(block, Movie(), None, where), start, end, rules, where)


def _inside(walk: BoxWalk, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    boxes = walk.block.boxes(start, end)
    for child in boxes:
        if child.cut:
            break
        walk.where = where
        rules.get(child.kind, _COMMON.get(child.kind, _unknown))(walk, child)
    walk.block.rest(boxes, end, where)


def container(inside: Mapping[bytes, Rule], skip: int = 0) -> Rule:
    """Return the rule for a box that holds boxes.

    inside: the rules for the boxes inside. skip: number of bytes in the outer box's body before the first of
    these boxes.
    """

    def rule(walk: BoxWalk, box: Box) -> None:
        _inside(walk, min(box.body + skip, box.end), box.end, inside, name_of(box.kind))

    return rule


def _unknown(walk: BoxWalk, box: Box) -> None:
    walk.block.free(box, walk.where)


def _empty(walk: BoxWalk, box: Box) -> None:
    walk.block.wipe(box.body, box.end, walk.where, name_of(box.kind), UNKNOWN)


def fixed_size(*sizes: int) -> Rule:
    """Return the rule for a box of numbers with a fixed size: bytes behind this size become zeros.

    sizes: the size of the body in bytes, for each version of the box. The last size is also for higher
    versions.
    """

    def rule(walk: BoxWalk, box: Box) -> None:
        if box.end == box.body:
            return
        size = sizes[min(walk.block.data[box.body], len(sizes) - 1)]
        walk.trim(box, box.body + size)

    return searched(rule)


def table(header: int, *widths: int) -> Rule:
    """Return the rule for a table: a header that ends with the number of entries, then the entries.

    Bytes behind the last entry become zeros. header: size of the header in bytes. widths: size of an entry in
    bytes, for each version. The last width is also for higher versions.
    """

    def rule(walk: BoxWalk, box: Box) -> None:
        data, body = walk.block.data, box.body
        if not walk.holds(box, header):
            return
        width = widths[min(data[body], len(widths) - 1)]
        end = body + header + width * walk.block.number(body + header - 4)
        walk.trim(box, end)
        if walk.track is not None and walk.where == "stbl":
            walk.track.table.keep(box.kind, memoryview(data)[body : min(end, box.end)])

    return searched(rule)


def _meta(walk: BoxWalk, box: Box) -> None:
    clean_meta(walk.block, box)


def _udta(walk: BoxWalk, box: Box) -> None:
    clean_user_data(walk.block, box)


def _uuid(walk: BoxWalk, box: Box) -> None:
    clean_uuid(walk.block, box, walk.where)


def rules(**named: Rule) -> Mapping[bytes, Rule]:
    """Return a dictionary from the type of a box, padded to four bytes, to its rule."""
    return MappingProxyType({name.encode().ljust(4): rule for name, rule in named.items()})


_COMMON: Final = MappingProxyType(
    dict.fromkeys(FREE_KINDS, _empty) | {b"meta": _meta, b"udta": _udta, b"uuid": _uuid}
)
"""Rules for boxes that may be in any container."""
