"""Search for messages in the coded frames of an AVI."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.frames import Frame, clean_frames, in_rows, scannable, spread
from policyfs.redact.bitstreams.nal_units import AV1, MPEG, START_CODE
from policyfs.redact.bitstreams.photos import clean_photos
from policyfs.redact.core.cleaners import Found, Inner
from policyfs.redact.core.patches import ByteSource

_HEAD_BYTES: Final = 256
"""Number of bytes at the start of a frame in which its first units are searched."""
_TRIED: Final = 16
_DELIMITERS: Final = {"H.264": 9, "H.265": 35, "H.266": 20}
"""A dictionary from the name of a codec to the type of its access unit delimiters. A delimiter is a unit that
may precede a picture.
"""


@dataclass(slots=True)
class StreamFrames:
    """The frames of one stream, one chunk each, in the order of the file, for the search in
    bitstreams.frames.

    coded: the codec, and the size of the length field before each unit; None if a frame may be a whole
    picture.
    """

    source: ByteSource
    coded: Framing | None
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, start: int, end: int) -> None:
        """Add the frame with the bytes [start, end)."""
        self._starts.append(start)
        self._ends.append(end)

    def clean(self, inner: Inner) -> Found:
        """Clean the messages in the frames. If frames may be whole pictures, clean the pictures instead.

        Raises NotThisKindError, TooMuchError.
        """
        if self.coded is None:
            return clean_photos(self, self.source, inner)
        found = clean_frames(self, self.coded, self.source, inner)
        if self.coded.codec is MPEG:  # some recorders call Motion JPEG by such a name
            found.add(clean_photos(self, self.source, inner))
        return found

    def tried(self) -> Iterator[Frame]:
        return map(self._frame, self._tried())

    def rows(self) -> Iterator[Frame]:
        return map(self._frame, in_rows(len(self._starts)))

    def others(self, *, keys: bool) -> Iterator[Frame]:
        wanted = [at for at in range(len(self._starts)) if not keys or self._is_key(at)]
        tried = set(self._tried())
        return (self._frame(at) for at in scannable(wanted) if at not in tried)

    def each(self) -> Iterator[Frame]:
        return map(self._frame, range(len(self._starts)))

    def _tried(self) -> list[int]:
        count = len(self._starts)
        some = {0, 1, 2, count - 1, *spread(range(count), _TRIED)}
        return sorted(number for number in some if 0 <= number < count)

    def _frame(self, number: int) -> Frame:
        return Frame(self._starts[number], self._ends[number] - self._starts[number])

    def _is_key(self, number: int) -> bool:
        """Return False if a frame begins with a slice, or with a delimiter and then a slice.

        Such a frame has neither parameters nor messages before its picture. (The file's index is not used,
        because it may be missing or wrong.)
        """
        if self.coded is None or self.coded.codec is AV1:
            return True
        frame, codec = self._frame(number), self.coded.codec
        head = self.source.read(frame.at, min(_HEAD_BYTES, frame.size))
        at = -1 if self.coded.length_size else head.find(START_CODE)
        while at >= 0 and len(unit := head[at + len(START_CODE) :][: codec.header]) == codec.header:
            if codec.type(unit) != _DELIMITERS.get(codec.name):
                return codec.type(unit) >= codec.slices
            at = head.find(START_CODE, at + len(START_CODE))
        return True
