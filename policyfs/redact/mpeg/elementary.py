"""Elementary streams of MPEG: pictures behind start codes, and sound. They are searched part by part."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.bitstreams.decoder_config import units_behind_codes
from policyfs.redact.bitstreams.frame_table import FrameForm, FrameTable, Work, look
from policyfs.redact.bitstreams.layers import Layers, stated
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, MPEG, START_CODE
from policyfs.redact.core.appended import OVERLAP_BYTES, find_appended
from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError, budget_for
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.mpeg.gathered import Gathered

PART_BYTES: Final = 1 << 16
"""Least size of the parts in which pictures are searched: limits of units and messages are for one part."""
MAX_HELD_BYTES: Final = 32 << 20
"""Maximum size of a picture, or of one unit of it."""
_FIRST_BYTES: Final = 4 << 20
"""Number of bytes of a stream that show its codec."""
_PICTURE: Final = START_CODE + b"\0"
_VOP: Final = START_CODE + b"\xb6"
_MPEG_1_OR_2: Final = START_CODE + b"\xb3"
_MPEG_4: Final = re.compile(rb"\x00\x00\x01[\xb0\xb6]")
_AVC: Final = re.compile(rb"\x00\x00\x01[\x09\x27\x2f\x47\x67\x6f]")
_HEVC: Final = re.compile(rb"\x00\x00\x01[\x40\x42\x46]\x01")


@dataclass(slots=True)
class Video:
    """A stream of pictures: H.264, H.265, MPEG-1, -2 or -4.

    codec: the name of the codec that the file states; empty if it states none.
    """

    edits: Edits
    work: Work
    codec: str = ""
    pieces: Gathered = field(default_factory=Gathered)
    _mark: bytes = b""
    _layers: Layers = Layers.NONE

    def search(self, *, last: bool = False) -> None:
        """Clean the messages in the pictures that are complete. last: True at the end of the stream.

        Raises NotThisKindError, TooMuchError.
        """
        data = self.pieces.join()
        if not self._mark:
            if not data or (len(data) < _FIRST_BYTES and not last):
                return
            self._begin(data)
        cut = len(data) if last else data.rfind(self._mark)
        if cut > 0:
            self._clean(data[:cut])
            self.pieces.drop(cut)
        elif len(data) > MAX_HELD_BYTES:
            raise TooMuchError(f"a picture in it has more than {MAX_HELD_BYTES >> 20} MiB")

    def _begin(self, data: bytes) -> None:
        found = _codec_in(data)
        if not found or self.codec not in ("", found):
            raise NotThisKindError("the codec of its pictures is unknown, or another one than it states")
        self.codec = found
        self._mark = START_CODE
        codec = AVC if found == AVC.name else HEVC
        self._layers = stated(codec, units_behind_codes(data)) if found == codec.name else Layers.NONE
        if self.codec == MPEG.name:
            self._mark = _VOP if _VOP in data else _PICTURE
            if self._mark not in data:
                raise NotThisKindError("there is no picture in it")

    def _clean(self, data: bytes) -> None:
        """Clean messages in whole pictures. Bytes before the first start code of a stream are no picture."""
        begin = max(0, data.find(START_CODE))
        starts, at = array("Q"), begin
        while at >= 0:
            starts.append(at)
            at = data.find(self._mark, at + PART_BYTES)
        ends = starts[1:] + array("Q", (len(data),))
        for piece in self.pieces.ranges(0, begin):
            self.edits.zero(*piece, "before the first picture")
        form = FrameForm(self.codec, layers=self._layers)
        table = FrameTable(starts, ends, array("H", bytes(2 * len(starts))), (form,))
        found = look(table, MemorySource(data), self.edits.inner, self.work, units_only=True)
        self.pieces.put(found, self.edits.found)


def _codec_in(data: bytes) -> str:
    """Return the name of the codec of a stream by its first units; "" if it is unknown.

    No header of a unit of H.264 or H.265 has its highest bit set, as the start codes of MPEG have. But a
    slice of MPEG-2 may have the number of any unit.
    """
    if _MPEG_1_OR_2 in data or _MPEG_4.search(data):
        return MPEG.name
    if _AVC.search(data):
        return AVC.name
    return HEVC.name if _HEVC.search(data) else ""


@dataclass(slots=True)
class Sound:
    """A stream of sound, in which only frames of sound may be."""

    edits: Edits
    pieces: Gathered = field(default_factory=Gathered)

    def search(self, *, last: bool = False) -> None:  # noqa: ARG002  # as Video
        """Search the sound for tags, files and texts. Raises NotThisKindError if it holds any."""
        source = MemorySource(self.pieces.join())
        if find_appended(source, 0, source.size, budget_for(source)) is not None:
            raise NotThisKindError("there is other data in its sound")
        self.pieces.drop(max(0, source.size - OVERLAP_BYTES))


Stream = Video | Sound
