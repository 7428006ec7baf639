"""Readers of all trails below a trail root, which daemons may write at the same time. Errors are OSError. If
rotation removes an old segment meanwhile, that is none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from policyfs.journal.files.inventory import Inventory
from policyfs.journal.files.segments import (
    Chain,
    open_segment,
    plain_name,
    read_tail,
    segment_number,
    settled_lines,
    unfinished_from,
)
from policyfs.trail.lines.record import BadLine, Place, Record, parse_line

_BLOCK: Final = 64 * 1024
_POLL_S: Final = 0.02


def find_chains(root: Path) -> list[Chain]:
    """Return the hash chains below a trail root, sorted by name. A root with segments is a chain itself."""
    chains = [Chain(root.resolve().name, root), *(Chain(name, root / name) for name in _below(root))]
    return [chain for chain in chains if chain.segments()]


def find_machines(root: Path) -> list[Chain]:
    """Return find_chains(), and those in directories without segments, which are trail roots of machines."""
    chains = find_chains(root)
    known = {chain.directory for chain in chains}
    for name in _below(root) if root not in known else ():
        if root / name not in known:
            chains += [chain._replace(machine=name) for chain in find_chains(root / name)]
    return chains


def _below(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def root_of(trail: str | os.PathLike[str]) -> Path:
    """Return the trail root for a path that is the root, or the directory of one hash chain in it."""
    root = Path(os.path.realpath(trail))
    is_one = root.is_dir() and any(segment_number(name) is not None for name in os.listdir(root))
    return root.parent if is_one else root


def raw_lines(directory: Path, segment: str, patience_s: float = 0.0) -> Iterator[bytes]:
    """Yield the lines of a segment as bytes, with their newlines (the last one may lack it). patience_s: the
    longest wait, in seconds, for the rest of a last line that is being written."""
    deadline = time.monotonic() + patience_s
    with os.fdopen(open_segment(directory / segment), "rb") as stream:
        for line in stream:
            whole = line
            while not whole.endswith(b"\n") and time.monotonic() < deadline:
                time.sleep(_POLL_S)
                whole += stream.readline()
            yield whole


def records(chain: Chain, inventory: Inventory | None = None) -> Iterator[Record | BadLine]:
    """Yield the parsed lines of a hash chain, oldest first, without a last one that lacks its newline.
    inventory: gets what is missing."""
    inventory = inventory or Inventory(chain)
    for name in inventory.names:
        with inventory.reading(name):
            for number, raw in enumerate(raw_lines(chain.directory, name), start=1):
                if raw.endswith(b"\n"):
                    yield inventory.take(parse_line(raw, Place(chain.name, name, number)), raw)


def last_records(chain: Chain, count: int, inventory: Inventory | None = None) -> list[Record | BadLine]:
    """Return the last *count* lines of a hash chain, parsed, oldest first, reading little more. Their line
    numbers are negative: -1 is a file's last line. inventory: gets what is missing."""
    inventory = inventory or Inventory(chain)
    number, missing = len(inventory.names), count
    while number and missing > 0:
        number -= 1
        with suppress(OSError):
            missing -= len(_last_lines(chain.directory / inventory.names[number], missing))
    found: list[Record | BadLine] = []
    for name in inventory.names[number:]:
        with inventory.reading(name):
            lines = _last_lines(chain.directory / name, count)
            inventory.begin(name, first=not found)
            if not found and len(lines) == count:
                inventory.lines.forget()  # lines before these are in the segment, and are not read
            for back, raw in enumerate(lines, start=-len(lines)):
                found.append(inventory.take(parse_line(raw, Place(chain.name, name, back)), raw + b"\n"))
    return found[-count:]


def _last_lines(path: Path, count: int) -> list[bytes]:
    fd = open_segment(path)
    try:
        position = os.fstat(fd).st_size
        blocks: list[bytes] = []
        newlines = 0
        while position > 0 and newlines <= count:
            step = min(_BLOCK, position)
            position -= step
            blocks.append(os.pread(fd, step, position))
            newlines += blocks[-1].count(b"\n")
    finally:
        os.close(fd)
    *full, _unfinished = b"".join(reversed(blocks)).split(b"\n")
    return full[-count:]  # the first line is left out, because its beginning may be missing


class _Reading:
    """A position in a hash chain: file, offset in bytes, and the number of lines before it."""

    __slots__ = ("line", "offset", "segment")

    def __init__(self, segment: str, offset: int) -> None:
        self.segment = segment
        self.offset = offset
        self.line = 0


class Follower:
    """A reader of all lines written below a trail root from now on, also of chains that begin later."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reading: dict[str, _Reading] = {}
        for chain in self._chains():
            names = chain.segments()
            self._reading[chain.name] = _Reading(names[-1], _end(chain.directory / names[-1]))

    def poll(self) -> list[Record | BadLine]:
        """Return the parsed lines that were completed since the last call, or [] if there are none."""
        found: list[Record | BadLine] = []
        for chain in self._chains():
            found.extend(self._poll_chain(chain))
        return found

    def _chains(self) -> list[Chain]:
        try:
            return find_machines(self._root)
        except FileNotFoundError:
            return []  # no trail yet, or none any more

    def _poll_chain(self, chain: Chain) -> Iterator[Record | BadLine]:
        names = chain.segments()
        reading = self._reading.setdefault(chain.name, _Reading(names[0], 0))
        if is_anew(names, reading.segment):
            reading = self._reading[chain.name] = _Reading(names[0], 0)
        for name in [name for name in names if _order(name) >= _order(reading.segment)]:
            if _order(name) == _order(reading.segment):
                reading.segment = name  # the segment may have been compressed meanwhile
            else:
                reading.segment, reading.offset, reading.line = name, 0, 0
            try:
                yield from _read_on(chain, reading)
            except FileNotFoundError:
                continue


def _end(path: Path) -> int:
    fd = open_segment(path)
    try:
        return read_tail(fd, unfinished_from(fd)).offset
    finally:
        os.close(fd)


def is_anew(names: list[str], segment: str) -> bool:
    """Return True if a chain was removed and begun again after *segment* was read. names: the present
    segments."""
    newer = [name for name in names if _order(name) >= _order(segment)]
    if not newer:  # the time tells a new chain from an old one whose newest segments were removed
        return plain_name(names[-1]).partition("-")[2] >= plain_name(segment).partition("-")[2]
    return _order(newer[0]) == _order(segment) and plain_name(newer[0]) != plain_name(segment)


def _order(name: str) -> int:
    return segment_number(name) or 0


def _read_on(chain: Chain, reading: _Reading) -> Iterator[Record | BadLine]:
    fd = open_segment(chain.directory / reading.segment)
    try:
        # Only settled lines: after a failed write, the writer removes the lines of this write again.
        while block := settled_lines(fd, reading.offset, _BLOCK):
            reading.offset += len(block)
            for raw in block[:-1].split(b"\n"):
                reading.line += 1
                yield parse_line(raw, Place(chain.name, reading.segment, reading.line))
    finally:
        os.close(fd)
