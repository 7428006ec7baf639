"""Index boxes at the top of a file (ISO/IEC 14496-12 sections 8.8.9 and 8.16.3)."""

from __future__ import annotations

from typing import Final

from policyfs.redact.isobmff.box_rules import Walk, container, fixed_size, rules, searched
from policyfs.redact.isobmff.boxes import Box


def _sidx(walk: Walk, box: Box) -> None:
    """Clean ``sidx``, a segment index: a header of 24 or 32 bytes, then references of 12 bytes each."""
    block, body = walk.block, box.body
    head = 32 if block.data[body : body + 1] == b"\1" else 24
    if walk.holds(box, head):
        walk.trim(box, body + head + 12 * block.number(body + head - 2, 2))


def _tfra(walk: Walk, box: Box) -> None:
    block, body = walk.block, box.body
    if not walk.holds(box, 16):
        return
    widths = block.number(body + 8)
    width = (16 if block.data[body] == 1 else 8) + sum((widths >> shift & 3) + 1 for shift in (0, 2, 4))
    walk.trim(box, body + 16 + width * block.number(body + 12))


INDEX_RULES: Final = rules(
    sidx=searched(_sidx), mfra=container(rules(tfra=searched(_tfra), mfro=fixed_size(8)))
)
"""Rules for the index boxes at the top of a file."""
