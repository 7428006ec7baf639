"""The memory of a mount's saved state: and how daemons of two codes hand the mount over."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SHRINK, fcntl
from typing import Final

from policyfs.errors import PolicyfsError

VERSION: Final = 6
"""The version of the layout."""
READABLE: Final = range(VERSION - 1, VERSION + 1)
"""The versions of the layout that this code continues: its own, and the one before (of which SavedState knows
the sizes)."""
HEADER_BYTES: Final = 4096
_HEAD: Final = struct.Struct("=8sQQ")
"""The mark, the version of the layout, and the number of nodes (SavedState)."""
_MARK: Final = b"policyfs"
_WORD: Final = struct.Struct("=Q")
_HEAD_AT: Final = 2048
_CANDIDATE, _KEEPER, _GIVEN, _TAKEN, _PARKED = range(_HEAD_AT + _HEAD.size, _HEAD_AT + _HEAD.size + 40, 8)


class StateMemory:
    """The memory of a state, in a file without a name. Each process of the mount has it open."""

    def __init__(self, nodes: int, size: int, fd: int = -1, version: int = VERSION) -> None:
        """Make it, or open another keeper's (fd: layout_of() has checked it). Raises OSError."""
        made = (
            os.memfd_create(name_of(os.getpid()), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            if fd < 0
            else os.dup(fd)
        )
        try:
            if fd < 0:
                os.ftruncate(made, size)
                fcntl(made, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK)
            self.map: Final = mmap.mmap(made, size)
        finally:
            os.close(made)  # the map has one of its own
        if fd < 0:
            _HEAD.pack_into(self.map, _HEAD_AT, _MARK, version, nodes)
        self.handover: Final = Handover(self.map)

    @property
    def parked(self) -> int:
        """The descriptor that reports the daemon's death (ParkedThread) to its keeper; 0: none."""
        return int(_WORD.unpack_from(self.map, _PARKED)[0])

    def park(self, pidfd: int) -> None:
        """Note that descriptor; 0: none any more."""
        _WORD.pack_into(self.map, _PARKED, pidfd)

    def forget(self) -> None:
        """Free the memory, for all processes, but not the header."""
        self.map.madvise(mmap.MADV_REMOVE, HEADER_BYTES, len(self.map) - HEADER_BYTES)

    def copy(self, fd: int, parts: Sequence[tuple[int, int, int]]) -> None:
        """Copy what another state's memory has in use, but not its own head and hand-over. fd: its file.
        parts: offset there, offset here, and size in bytes of each."""
        self.map[:_HEAD_AT] = os.pread(fd, _HEAD_AT, 0)
        for start, end in _used(fd):
            for there, here, size in parts:
                first, last = max(start, there), min(end, there + size)
                if first < last:
                    at = here - there
                    self.map[at + first : at + last] = os.pread(fd, last - first, first)


def name_of(keeper: int) -> str:
    """Return the name under which /proc shows the memory of a keeper."""
    return f"policyfs-state-{keeper}"


def layout_of(fd: int) -> tuple[int, int]:
    """Return the number of nodes of a state's memory, and the version of its layout. Raises PolicyfsError if
    this code cannot read it."""
    head = os.pread(fd, _HEAD.size, _HEAD_AT)
    mark, version, nodes = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
    if mark != _MARK or version not in READABLE:
        raise PolicyfsError(
            f"the running daemon saves its state in layout {version}, and this code continues"
            f" {' and '.join(map(str, READABLE))}"
        )
    return int(nodes), int(version)


def _used(fd: int) -> Iterator[tuple[int, int]]:
    end = HEADER_BYTES
    try:
        while True:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            yield start, end
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise


class Handover:
    """The words by which a daemon, its keeper's spare and a candidate (a daemon of other code, with its own
    keeper) agree on who serves. They are in the state of the daemon that serves now.

    INVARIANT: `take` is one step. Before it the spare follows, after it only the candidate's processes."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def _get(self, word: int) -> int:
        return int(_WORD.unpack_from(self._memory, word)[0])

    def _set(self, word: int, value: int) -> None:
        _WORD.pack_into(self._memory, word, value)

    @property
    def candidate(self) -> tuple[int, int]:
        """The pids of the candidate and its keeper; 0 without one."""
        return self._get(_CANDIDATE), self._get(_KEEPER)

    def offer(self, candidate: int, keeper: int) -> None:
        """Note who follows once the daemon has ended."""
        self._set(_KEEPER, keeper)
        self._set(_CANDIDATE, candidate)

    def withdraw(self) -> None:
        """Note that no candidate follows."""
        self._set(_CANDIDATE, 0)
        self._set(_GIVEN, 0)

    @property
    def is_given(self) -> bool:
        """True if the candidate may read the state, and descriptors of the keeper."""
        return bool(self._get(_GIVEN))

    def give(self) -> None:
        """Let the candidate go on: nothing of the ended daemon runs or is open any more."""
        self._set(_GIVEN, 1)

    @property
    def is_taken(self) -> bool:
        """True if the candidate serves the mount."""
        return bool(self._get(_TAKEN))

    def take(self) -> None:
        """Note that the candidate serves from now on. Called before it reads its first request."""
        self._set(_TAKEN, 1)
