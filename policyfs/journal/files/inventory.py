"""Inventory of a trail: the check that the files and lines that a command reads are complete.

It finds missing numbers of segments that no rotation removed, segments that cannot be read, lines that do not
continue each other, and other files, which may be segments that somebody compressed or renamed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policyfs.journal.files.retention import removed_so_far
from policyfs.journal.files.segments import NEW, SegmentDirectory, seal_name, segment_number, sort_names
from policyfs.trail.chain.continuity import Continuity, Hole, Joint
from policyfs.trail.chain.removed import Ranges, not_in
from policyfs.trail.chain.seal import seal_of, split
from policyfs.trail.lines.record import BadLine, Place, Record

if TYPE_CHECKING:
    from policyfs.journal.files.segments import Chain

_OWN: Final = frozenset({"holds", "policies", "keys.public", "quarantine", "brakes.json"})
_SEAL: Final = re.compile(r"\d{8,}-\d{8}T\d{6}Z\.seal")
_SEGMENT: Final = re.compile(r"(\d{8,})-\d{8}T\d{6}Z\.")
_CHAIN: Final = re.compile(r"[0-9a-f]{16}")
_UNPACK: Final = {".gz": "gunzip", ".xz": "unxz", ".bz2": "bunzip2", ".lz4": "unlz4"}


class Inventory:
    """The check of one hash chain. The caller names the segments that it reads, and their lines, in order.
    names: of the segments, oldest first."""

    def __init__(self, chain: Chain, end: int = 0) -> None:
        """end: the number that the last line should have at least; 0: unknown."""
        self.lines: Final = Continuity()
        self._directory: Final = chain.directory
        with SegmentDirectory.at(chain.directory) as place:
            listed = os.listdir(place.fd)
            self.names: Final = sort_names(listed)
            sealed = place.seals()[-1:]
            self._end = max([end, *(_sealed_end(place, name) for name in sealed)])
        self._highest = max(map(_number, [*self.names[-1:], *sealed]), default=0)
        self._others = sorted(name for name in listed if not _is_own(name))
        self._removed: Ranges = ()
        self._segment = ""
        self._begun = 0
        self._is_read = True

    def begin(self, name: str, *, first: bool = False) -> None:
        """Begin a segment, unless this is the present one. first: True if no older ones are read."""
        if name != self._segment:
            self._skip(_number(name) - 1, told=not first)
            self._segment, self._begun, self._is_read = name, _number(name), False

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Note it if the segment cannot be read. It may be missing: then rotation has just removed it."""
        try:
            yield
            self.begin(name)
        except FileNotFoundError:
            pass
        except PermissionError:
            raise
        except OSError as error:
            self.begin(name)
            self.lines.miss(f"{name} cannot be read ({error.strerror or error})")
            self._is_read = True

    def take(self, item: Record | BadLine, raw: bytes) -> Record | BadLine:
        """Check a parsed line, and return it. raw: with its newline."""
        if item.place.segment != self._segment:
            self.begin(item.place.segment)
        self._is_read = True
        seq = item.seq if isinstance(item, Record) else None
        self.lines.take(raw, seq, item.place.segment, item.place.line)
        return item

    def take_joints(self, before: Place, joints: Iterable[Joint], last: bytes) -> None:
        """Check lines that an index has checked, but for its joints. before: the place of the line before.
        last: their last record."""
        self.begin(before.segment)
        for joint in joints:
            self._is_read = True
            if joint.before:
                self.lines.go_on(joint.before)
            self.lines.take(joint.raw, joint.seq, before.segment, before.line + joint.line)
        if last:
            self.lines.go_on(last)

    def end(self) -> list[Hole]:
        """Return what is missing, after the last segment."""
        self._skip(self._highest)
        return [*self.lines.end(self._end), *(Hole(0, 0, _about(name)) for name in self._others)]

    def _skip(self, last: int, *, told: bool = True) -> None:
        """Go over the numbers of segments up to *last*, which the caller does not read."""
        if not self._is_read:
            self.lines.miss(f"{self._segment} is empty")
        first = self._begun + 1
        if last < first:
            return
        if told and not_in(self._removed, first, last):
            # After the list was read: a removal is recorded before it is carried out.
            with suppress(OSError), SegmentDirectory.at(self._directory) as place:
                self._removed = removed_so_far(place)
        gone = not_in(self._removed, first, last) if told else None
        if gone is None or gone[0] > first:
            self.lines.forget()
        if gone is not None:
            others = [name for name in self._others if gone[0] <= _number(name) <= gone[1]]
            self._others = [name for name in self._others if name not in others]
            numbers = f"segments {gone[0]} to {gone[1]} are" if gone[0] < gone[1] else f"segment {gone[0]} is"
            self.lines.miss("; ".join(map(_about, others)) or f"{numbers} missing")


def _number(name: str) -> int:
    found = _SEGMENT.match(name)
    return int(found[1]) if found else 0


def _is_own(name: str) -> bool:
    return (
        name in _OWN
        or segment_number(name) is not None
        or name.startswith((NEW, "daemon.log"))  # also as logrotate renames it
        or bool(_SEAL.fullmatch(name))
    )


def _about(name: str) -> str:
    for end, command in _UNPACK.items():
        if name.endswith(end):
            return f"{name} is compressed: unpack it ({command})"
    return f"{name} is not a file of the trail" + ": give it its old name" * bool(_number(name))


def _sealed_end(place: SegmentDirectory, name: str) -> int:
    """Return the number of the last line that the seal of a segment states, or 0."""
    with suppress(OSError):
        line = split(place.contents(seal_name(name)))
        if line is not None and (seal := seal_of(line.body)) is not None:
            return seal.last_seq
    return 0


def unread(root: Path, chains: Sequence[Chain], ends: Mapping[str, int]) -> Iterator[tuple[str, Hole]]:
    """Yield what is at a trail root and may be a hash chain, but is none of *chains*: its name, and a hole.
    ends: the numbers of the last lines of chains, by name."""
    there = {chain.mount_id for chain in chains}
    is_one = any(chain.directory == root for chain in chains)
    with os.scandir(root) as entries:
        found = [] if is_one and len(chains) == 1 else sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_symlink():
            yield entry.name, Hole(0, 0, "it is a symbolic link: name its target with --trail")
        elif entry.name in there:
            continue
        elif entry.is_dir():
            names = sorted(name for name in os.listdir(entry) if _number(name))
            if names:
                others = [_about(name) for name in names if not _is_own(name)]
                why = "; ".join(others[:3]) or "its segments are missing"
                yield entry.name, Hole(0, ends.get(entry.name, 0), why)
                there.add(entry.name)
        elif _number(entry.name) or _CHAIN.match(entry.name):
            yield entry.name, Hole(0, 0, _about(entry.name))
    if not is_one:
        for name in sorted(ends.keys() - there):
            yield name, Hole(1, ends[name], "the whole directory is missing")
