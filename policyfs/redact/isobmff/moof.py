"""Movie fragments (``moof``): the samples of fragmented files and of recordings.

Sources: ISO/IEC 14496-12 section 8.8.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.box_rules import BoxWalk, Rule, clean_children, fixed_size, searched
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.sample_boxes import FRAGMENT_RULES, sample_flags
from policyfs.redact.isobmff.stbl import Runs, numbers

_BASE: Final = 0x1
_BASE_IS_MOOF: Final = 0x20000
_DESCRIPTION, _DURATION, _SIZE, _FLAGS = 0x2, 0x8, 0x10, 0x20
_RUN_OFFSET, _RUN_FIRST_FLAGS = 0x1, 0x4
_RUN_DURATION, _RUN_SIZE, _RUN_FLAGS, _RUN_TIME = 0x100, 0x200, 0x400, 0x800


@dataclass(slots=True)
class Fragments:
    """The samples in a file's fragments, as ranges.

    defaults: a dictionary from the id of a track to the default size of its samples (``trex``). limit: the
    file's size. runs: a dictionary from the id of a track to its runs. A run (``trun``) is a sequence of
    samples without gaps.
    """

    defaults: Mapping[int, int]
    limit: int
    runs: dict[int, Runs] = field(default_factory=dict)

    def read(self, block: Block, box: Box) -> None:
        """Clean a ``moof`` box in place, and record the ranges of its runs of samples. Raises
        TooMuchError.
        """
        state = _Moof(self, block, block.offset + box.start)
        rules: dict[bytes, Rule] = {b"mfhd": fixed_size(8), b"traf": state.traf}
        clean_children(block, box.body, box.end, rules, "moof")


@dataclass(slots=True)
class _Moof:
    """The walk through one ``moof`` box. at: offset of the next run's data. base: the origin of runs'
    offsets.
    """

    fragments: Fragments
    block: Block
    start: int
    at: int = field(init=False)
    base: int = field(init=False)
    track: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self.at = self.base = self.start

    def traf(self, _walk: BoxWalk, box: Box) -> None:
        rules: dict[bytes, Rule] = {
            **FRAGMENT_RULES,
            b"tfhd": searched(self._header),
            b"trun": searched(self._run),
        }
        rules[b"sdtp"] = sample_flags(box, (b"trun",), 4)
        self.track = self.size = 0
        self.base = self.at
        clean_children(self.block, box.body, box.end, rules, "traf")

    def _header(self, walk: BoxWalk, box: Box) -> None:
        block, at = self.block, box.body + 8
        flags = block.number(box.body + 1, 3)
        said = 8 * (flags & _BASE) + sum(4 for bit in (_DESCRIPTION, _DURATION, _SIZE, _FLAGS) if flags & bit)
        if not walk.holds(box, 8 + said):
            return
        self.track = block.number(box.body + 4)
        self.size = self.fragments.defaults.get(self.track, 0)
        if flags & _BASE:
            self.base = block.number(at, 8)
            at += 8
        elif flags & _BASE_IS_MOOF:
            self.base = self.start
        at += 4 * bool(flags & _DESCRIPTION) + 4 * bool(flags & _DURATION)
        if flags & _SIZE:
            self.size = block.number(at)
            at += 4
        at += 4 * bool(flags & _FLAGS)
        walk.trim(box, at)
        self.at = self.base

    def _run(self, walk: BoxWalk, box: Box) -> None:
        block, at = self.block, box.body + 8
        flags, count = block.number(box.body + 1, 3), block.number(box.body + 4)
        if not walk.holds(box, 8 + 4 * (flags & _RUN_OFFSET)):
            return
        if flags & _RUN_OFFSET:
            shift = block.number(at)
            self.at = max(0, self.base + (shift - (shift >> 31 << 32)))
            at += 4
        at += 4 * bool(flags & _RUN_FIRST_FLAGS)
        columns = [bit for bit in (_RUN_DURATION, _RUN_SIZE, _RUN_FLAGS, _RUN_TIME) if flags & bit]
        end = at + 4 * len(columns) * count
        if _RUN_SIZE in columns:
            entries = numbers(memoryview(block.data)[at : min(end, box.end)], "I")
            sizes = entries[columns.index(_RUN_SIZE) :: len(columns)]
            total = sum(sizes)
        else:
            sizes, total = array("I", (self.size,)), self.size * count
        walk.trim(box, end)
        limit = self.fragments.limit
        start, behind = min(self.at, limit), min(self.at + total, limit)
        self.fragments.runs.setdefault(self.track, Runs()).add_run(start, behind - start, sizes)
        self.at += total
