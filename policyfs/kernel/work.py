"""The requests that a killed daemon had begun and not answered, of which one may have killed it (_work.c)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from policyfs.kernel.bridge import library

WORK_BYTES: Final[int] = library.WORK_BYTES
"""The size of the memory in which the bridge keeps the requests in work."""
MOST_DEATHS: Final = 2
"""The number of daemons that a request may kill in their first second. Then it gets EIO."""
MOST_LATE_DEATHS: Final = 4
"""The same, if the last one lived longer: slow requests are in work at many kills by somebody else."""
_PLACE: Final = struct.Struct("=QQIIII")
_SUSPECT: Final = struct.Struct("=QII")


class Suspect(NamedTuple):
    """A request that was in work when daemons were killed. deaths: how many, one after the other. opcode: its
    type in the kernel's words. uid, pid: of the caller."""

    unique: int
    nodeid: int
    opcode: int
    uid: int
    pid: int
    deaths: int


def read(memory: memoryview) -> list[Suspect]:
    """Read the requests that were in work when the daemon before was killed."""
    found = (Suspect(*fields) for fields in _PLACE.iter_unpack(memory))
    return [one._replace(deaths=one.deaths + 1) for one in found if one.unique]


def start(memory: memoryview, suspects: list[Suspect], refused: list[Suspect]) -> None:
    """Keep the requests in work in *memory* from now on, until the next prepare(). refused: those of the
    suspects that get EIO when they come again. Raises ValueError."""
    packed = (_SUSPECT.pack(one.unique, one.deaths, one in refused) for one in suspects)
    library.start_work(memory, b"".join(packed))


def guilty(suspects: list[Suspect], *, was_early: bool) -> list[Suspect]:
    """Return the suspects that get EIO. was_early: True if the last daemon did not live for a second."""
    return [one for one in suspects if one.deaths >= (MOST_DEATHS if was_early else MOST_LATE_DEATHS)]


Outliving = tuple[tuple[memoryview, memoryview | None, memoryview], memoryview, list[Suspect], list[Suspect]]
"""Memory for handles of the access vector cache, for its counts of look-ups (None: it answers none), its own
nodes, and for requests in work; the requests that were in work when the daemon before was killed; those of
them that get EIO."""
