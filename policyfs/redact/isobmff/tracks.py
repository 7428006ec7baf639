"""Tracks of a movie, as the boxes of the movie describe them.

moov.py fills these objects. The readers of samples and of fragments use them later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.stbl import Samples, SampleTable
from policyfs.redact.isobmff.stsd import NO_ENTRIES, Entries


@dataclass(slots=True)
class Track:
    """One track, as its boxes describe it: the first is ``trak``.

    parameters: the bytes of its ``stsd`` box, cleaned.
    """

    box: Box
    number: int = 0
    handler: bytes = b""
    entries: Entries = NO_ENTRIES
    table: SampleTable = field(default_factory=SampleTable)
    parameters: bytes = b""
    _samples: Samples | None = None

    def samples(self) -> Samples:
        """Return the offsets and sizes of the track's samples. Raises TooMuchError, NotThisKindError."""
        if self._samples is None:
            self._samples = Samples(self.table)
        return self._samples


@dataclass(slots=True)
class Movie:
    """The data of a movie box that are needed to read the rest of the file.

    defaults: a dictionary from the id of a track to the default size of its samples in fragments (``trex``).
    """

    tracks: list[Track] = field(default_factory=list)
    defaults: dict[int, int] = field(default_factory=dict)
