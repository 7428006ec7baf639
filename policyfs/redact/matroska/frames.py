"""Search of the coded frames in a Matroska file's blocks for messages and for metadata of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.bitstreams.frame_table import FrameLooks, form_of
from policyfs.redact.bitstreams.sei import registered_tells
from policyfs.redact.core.categories import NOTHING
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.matroska.ebml import number_at
from policyfs.redact.matroska.elements import child_data
from policyfs.redact.matroska.tracks import Coding

_LACING: Final = 0x06
_XIPH, _FIXED = 2, 4
_LACING_BYTES: Final = 1 << 16
_ADD_ID: Final = 0xEE
_ADDITIONAL: Final = 0xA5
_ALPHA, _T35 = 1, 4
"""Ids of additions to a block: the alpha channel, and messages that ITU-T T.35 registers."""


def is_of_the_picture(more: bytes, inner: Inner) -> bool:
    """Return True if an addition to a block belongs to the picture: its alpha channel, its dynamic range.

    more: the data of a BlockMore element.
    """
    number = int.from_bytes(child_data(more, _ADD_ID) or b"\1")
    if number != _T35:
        return number == _ALPHA
    return registered_tells(child_data(more, _ADDITIONAL) or b"", inner) == NOTHING


@dataclass(slots=True)
class BlockFrames:
    """The frames in the blocks of some tracks. looks: the search of the frames."""

    codings: Mapping[int, Coding]
    source: ByteSource
    inner: Inner
    looks: FrameLooks = field(init=False)
    _forms: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.looks = FrameLooks(self.source, self.inner)
        self._forms = {
            number: self.looks.form(form_of(coding.framing, coding.lead))
            for number, coding in self.codings.items()
        }

    def add(self, track: int, start: int, end: int, flags: int) -> bool:
        """Add the frames of a block with the data [start, end), if they are searched.

        track: number of the block's track. flags: the block's flags. Lacing packs several frames into a
        block. Return False if the sizes of these frames do not fit the block: players drop it. Raises
        NotThisKindError, TooMuchError.
        """
        form = self._forms.get(track)
        if form is None:
            return True
        sizes, length = [end - start], 0
        if flags & _LACING:
            head = self.source.read(start, min(_LACING_BYTES, end - start))
            sizes, length = _laced(head, flags & _LACING, end - start)
        if min(sizes, default=-1) < 0 or start + length + sum(sizes) > end:
            return False
        start += length
        for size in sizes:
            self.looks.add(start, start + size, form)
            start += size
        return True


def _laced(data: bytes, lacing: int, size: int) -> tuple[list[int], int]:
    """Return the sizes of a block's frames, and the length of the lacing header (RFC 9559 section 10.3); no
    sizes if they do not fit. size: of all the block's data.
    """
    count, at = data[0] if data else 0, 1
    sizes: list[int] = []
    if lacing == _FIXED:
        each, rest = divmod(size - at, count + 1)
        return [] if rest else [each] * (count + 1), at
    for _ in range(count):
        if lacing == _XIPH:
            start = at
            while data[at : at + 1] == b"\xff":
                at += 1
            found: tuple[int, int] | None = (255 * (at - start) + data[at], 1) if at < len(data) else None
        else:
            found = number_at(data, at)
        if found is None:
            return [], at
        value, length = found
        if sizes and lacing != _XIPH:  # signed difference to the last size; the middle of the range is 0
            value += sizes[-1] - ((1 << 7 * length - 1) - 1)
        sizes.append(value)
        at += length
    return [*sizes, size - at - sum(sizes)], at
