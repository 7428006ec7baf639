"""Boxes that describe a track's samples, except the boxes of sample sizes, offsets and times.

They describe groups and dependencies. Bytes behind the last value become zeros.
Source: ISO/IEC 14496-12 section 8.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.box_rules import BoxWalk, Rule, fixed_size, rules, searched
from policyfs.redact.isobmff.boxes import Box

TEXT: Final = re.compile(rb"[ -~]{6}")
"""Bytes that are a text, and not numbers."""
_GROUPS: Final = frozenset(
    b"roll,prol,rap ,tele,sync,alst,tsas,stsa,scif,tscl,vipr,refs,nalm,trif,pase".split(b",")
)
_DESCRIPTION_BYTES: Final[Mapping[bytes, Collection[int]]] = {
    **dict.fromkeys((b"roll", b"prol"), (2,)),
    **dict.fromkeys((b"rap ", b"tele", b"sync"), (1,)),
}
"""Sizes of the description of a group, for types with fixed sizes. The first size is also for version 0."""
_ENTRIES_PER_PART: Final = 64
"""Number of entries of a table that cost as much work as one box (cleaners.Budget)."""


def sample_flags(parent: Box, kinds: Collection[bytes], at: int) -> Rule:
    """Return the rule for ``sdtp`` (one byte for each sample) in *parent*.

    The boxes of *kinds* in *parent* have the number of samples, at offset *at* of their bodies.
    """

    def rule(walk: BoxWalk, box: Box) -> None:
        block = walk.block
        count = sum(
            block.number(child.body + at)
            for child in block.children(parent)
            if child.kind in kinds and child.end >= child.body + at + 4
        )
        walk.trim(box, box.body + 4 + count)

    return searched(rule)


def _count(block: Block, entries: int) -> None:
    (block.parts or block.inner.budget).part(entries // _ENTRIES_PER_PART)


def _is_known(block: Block, box: Box) -> bool:
    """Return True if a box is about groups of a known type, which have only numbers for decoders."""
    return block.data[box.body + 4 : box.body + 8] in _GROUPS and box.end >= box.body + 12


def _groups(walk: BoxWalk, box: Box) -> None:
    """Clean ``sbgp``: for each run of samples, their number and the number of their group."""
    block = walk.block
    at = box.body + (12 if block.data[box.body : box.body + 1] == b"\1" else 8)
    if not _is_known(block, box) or box.end < at + 4:
        block.free(box, walk.where)
    else:
        walk.trim(box, at + 4 + 8 * block.number(at))


def _descriptions(walk: BoxWalk, box: Box) -> None:
    block = walk.block
    end = _end_of_descriptions(block, box) if _is_known(block, box) else None
    if end is None:
        block.free(box, walk.where)
    else:
        walk.trim(box, end)


def _end_of_descriptions(block: Block, box: Box) -> int | None:
    version, kind, at = block.data[box.body], block.data[box.body + 4 : box.body + 8], box.body + 8
    sizes = _DESCRIPTION_BYTES.get(kind, ())
    default = 0
    if version == 0:
        if not sizes:
            return None
        default = next(iter(sizes))
    else:
        default, at = block.number(at), at + (8 if version > 1 else 4)
    count, at = block.number(at), at + 4
    _count(block, min(count, box.size))
    for _ in range(count):
        size = default
        if not size:
            size, at = block.number(at), at + 4
        if at + size > box.end or (sizes and size not in sizes):
            return None
        if not sizes and TEXT.search(block.data, at, at + size) is not None:
            return None
        at += size
    return at if at <= box.end else None


SAMPLE_BOXES: Final[Mapping[str, Rule]] = {
    "sgpd": searched(_descriptions),
    "sbgp": searched(_groups),
}
"""Rules for the boxes that may be in a sample table (``stbl``) and in a track fragment (``traf``)."""
FRAGMENT_RULES: Final = rules(**SAMPLE_BOXES, tfdt=fixed_size(8, 12))
"""Rules for the boxes of a ``traf``, except its header ``tfhd``, its runs ``trun`` and ``sdtp``."""
