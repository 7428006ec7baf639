"""Search of all frames of a film for messages and for metadata of pictures.

C code (_heads.c) looks at the units of each frame, in large chunks that are read one after the other. It
passes over the frames that hold only slices, parameters and numbers, which are nearly all. The other frames
are cleaned one by one (frames.py, photos.py). No frame has an effect on the changes to another frame. So the
result is the same if the film is searched window by window.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams import _heads, frames, obus, sei
from policyfs.redact.bitstreams.decoder_config import Framing
from policyfs.redact.bitstreams.frames import Frame, Restored, UnitLimits, clean_frame, is_picture
from policyfs.redact.bitstreams.layers import Layers, types_of
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC
from policyfs.redact.bitstreams.photos import MAX_PHOTO_BYTES, clean_photo
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import (
    MAX_PARTS,
    Found,
    Inner,
    NotThisKindError,
    TooMuchError,
    budget_for,
)
from policyfs.redact.core.frame_table import MAX_FRAMES, PICTURES, FrameForm, FrameTable
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, apply

__all__ = ["FrameForm", "FrameLooks", "FrameTable", "form_of", "look", "merged", "table_of"]

BYTES_PER_PART: Final = 128
"""Bytes of a film that allow one part more than MAX_PARTS in the frames that are cleaned."""
MAX_OVERLAP: Final = 4
"""Maximum sum of the sizes of all frames, as a multiple of the size of the file. Repetitions do not count."""
_OVERLAP_FLOOR_BYTES: Final = 1 << 20
_BUFFERED_BYTES: Final = 8 << 20
"""Maximum size of a frame that is read as a whole. Of a larger frame, only its units' heads are read."""
_FOUND: Final = 4096
_MAX_NOTES: Final = 500
"""Maximum number of notes with the same container, tag and categories."""
_BATCH: Final = 1 << 16
_BATCH_BYTES: Final = 16 << 20
_BY_NAME: Final = MappingProxyType({codec.name: codec for codec in (AVC, HEVC, VVC, AV1, MPEG)})
_NAL, _OBU, _MPEG, _PICTURES = range(4)
_KINDS: Final = MappingProxyType({AV1.name: _OBU, MPEG.name: _MPEG, PICTURES: _PICTURES})
_PLAIN_TYPES: Final = 256


def form_of(coded: Framing | None, lead: bytes = b"", *, encrypted: bool = False) -> FrameForm:
    """Return the form of a track's frames. coded: None if each frame may be a whole picture."""
    if coded is None:
        return FrameForm(PICTURES, 0, lead)
    return FrameForm(coded.codec.name, coded.length_size, lead, encrypted, coded.layers)


def table_of(
    starts: array[int], ends: array[int], tracks: array[int], forms: tuple[FrameForm, ...]
) -> FrameTable:
    """Return the table of frames that may be in any order. The arrays become a part of the table.

    Frames without bytes and repetitions are left out.
    """
    count = _heads.order(starts, ends, tracks)
    for column in (starts, ends, tracks):
        del column[count:]
    return FrameTable(starts, ends, tracks, forms)


def merged(tables: Iterable[FrameTable]) -> FrameTable:
    """Return one table with the frames of all these tables. Raises TooMuchError if there are too many.

    Tables with checksums must be in the order of their offsets.
    """
    starts, ends, tracks = array("Q"), array("Q"), array("H")
    sums, covered = array("Q"), array("Q")
    forms: dict[FrameForm, int] = {}
    for table in tables:
        sums += table.sums
        covered += table.covered
        numbers = [forms.setdefault(form, len(forms)) for form in table.forms]
        starts += table.starts
        ends += table.ends
        tracks.extend(map(numbers.__getitem__, table.tracks))
        check_count(len(starts))
    return replace(table_of(starts, ends, tracks, tuple(forms)), sums=sums, covered=covered)


def check_count(count: int) -> None:
    """Raise TooMuchError if a film has more than MAX_FRAMES frames of pictures."""
    if count > MAX_FRAMES:
        raise TooMuchError(f"it has more than {MAX_FRAMES:,} frames")


@dataclass(slots=True)
class Work:
    """The number of parts that may still be examined in the frames of a film."""

    left: int

    @classmethod
    def on(cls, source: ByteSource) -> Work:
        """Return the work that is allowed on a film, by its size."""
        return cls(MAX_PARTS + source.size // BYTES_PER_PART)


def look(
    table: FrameTable, source: ByteSource, inner: Inner, work: Work | None = None, *, units_only: bool = False
) -> Found:
    """Clean the messages and the metadata in all frames of a table.

    The changes to a frame depend on its own bytes and its form only. Each frame must lie within the source,
    else ValueError is raised: the source of a window must reach from the first start to the last end. work:
    the work that is left for the film, if only a part of its frames is in the table. units_only: True if the
    frames are cut from a row of units, so that none is a picture of another sort. Raises NotThisKindError,
    TooMuchError.
    """
    if not table.starts:
        return Found()
    if max(table.ends) > source.size:
        raise ValueError("a frame lies outside of the bytes")
    if sum(table.ends) - sum(table.starts) > MAX_OVERLAP * source.size + _OVERLAP_FLOOR_BYTES:
        raise TooMuchError("its frames overlap each other too often")
    search = _Search(table, inner, work or Work.on(source), units_only)
    spare = replace(inner.budget)
    try:
        for number, near in _suspects(table, source, inner):
            search.clean(number, near)
    finally:
        inner.budget.become(spare)
    return search.found


@dataclass(slots=True)
class _Search:
    table: FrameTable
    inner: Inner
    work: Work
    units_only: bool
    found: Found = field(default_factory=Found)
    _codings: list[Framing | None] = field(init=False)
    _noted: Counter[tuple[str, str, Tells, bool]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        layers_of = [Layers(form.layers) for form in self.table.forms]
        self._codings = [
            None if form.codec == PICTURES else Framing(_BY_NAME[form.codec], form.length_size, layers)
            for form, layers in zip(self.table.forms, layers_of, strict=True)
        ]

    def clean(self, number: int, source: ByteSource) -> None:
        """Clean a frame, with a budget of its own. Raises NotThisKindError, TooMuchError."""
        table, inner = self.table, self.inner
        track, start, before = table.tracks[number], table.starts[number], len(self.found.patches)
        form, coded = table.forms[track], self._codings[track]
        frame = Frame(start, table.ends[number] - start, form.lead)
        inner.budget.become(budget_for(Restored(source, frame)))
        units = Found()
        if coded is not None:
            units = clean_frame(source, frame, coded, inner, UnitLimits(), encrypted=form.encrypted)
            self._add(units)
        if coded is None or coded.codec is MPEG or is_picture(source, frame):  # recorders mix them up
            photo = clean_photo(_changed(source, frame, units), frame, inner)
            if photo.patches and (units.patches or self.units_only):
                raise NotThisKindError("a frame in it is a row of units, and a picture of another sort")
            self._add(photo)
        patches = len(self.found.patches) - before
        self.work.left -= max(1, MAX_PARTS - inner.budget.parts, patches)
        if self.work.left < 0:
            raise TooMuchError("its frames have too many messages, or too much metadata")

    def _add(self, found: Found) -> None:
        self.found.patches += found.patches
        for note in found.notes:
            key = (note.container, note.tag, note.tells, note.broken)
            self._noted[key] += 1
            if self._noted[key] <= _MAX_NOTES:
                self.found.notes.append(note)


@dataclass(slots=True)
class _Buffer:
    """The bytes from the offset *base* on of another source, which gives all other bytes."""

    data: bytes
    base: int
    source: ByteSource

    @property
    def size(self) -> int:
        return self.source.size

    def read(self, offset: int, size: int, /) -> bytes:
        at = offset - self.base
        if at >= 0 and at + size <= len(self.data):
            return self.data[at : at + size]
        return self.source.read(offset, size)


def _changed(source: ByteSource, frame: Frame, found: Found) -> ByteSource:
    """Return a source that has a frame as its changes leave it. Raises TooMuchError for a huge frame."""
    if not found.patches:
        return source
    if frame.size > MAX_PHOTO_BYTES:
        raise TooMuchError("a frame in it has too many bytes")
    patches = sorted((patch.shifted(-frame.at) for patch in found.patches), key=lambda patch: patch.offset)
    return _Buffer(apply(source.read(frame.at, frame.size), patches), frame.at, source)


def _suspects(table: FrameTable, source: ByteSource, inner: Inner) -> Iterator[tuple[int, ByteSource]]:
    """Yield the frames that must be cleaned, with a source of their bytes in memory."""
    starts, ends = table.starts, table.ends
    rules = array("Q", chain.from_iterable(_rule(form, inner.hide) for form in table.forms))
    leads, found = tuple(form.lead for form in table.forms), array("I", bytes(4 * _FOUND))
    number, count = 0, len(table)
    while number < count:
        start, end = starts[number], ends[number]
        if end - start > _BUFFERED_BYTES:
            yield number, source
            number += 1
            continue
        last = bisect_left(starts, start + CHUNK_BYTES, number) - 1
        size = max(end - start, min(CHUNK_BYTES, ends[last] - start))
        near = _Buffer(source.read(start, size), start, source)
        stop, some = _heads.suspects(
            near.data, start, starts, ends, table.tracks, rules, leads, number, found
        )
        if stop <= number:
            raise ValueError("the source has fewer bytes than it states")
        for suspect in found[:some]:
            yield suspect, near
        number = stop


def _rule(form: FrameForm, hide: Tells) -> list[int]:
    """Return the numbers that describe a form of frames for _heads.c (RULE_NUMBERS there)."""
    codec = _BY_NAME.get(form.codec, MPEG)
    kind = _KINDS.get(form.codec, _NAL)
    tells = obus.METADATA_TELLS if kind == _OBU else sei.MESSAGE_TELLS
    plain = {number for number, told in tells.items() if not told & hide}
    if kind == _NAL and not sei.MARK_TELLS & hide:
        plain.add(sei.UNREGISTERED)
    types = types_of(codec, Layers(form.layers))
    kept = types.parameters | frames.DOLBY_VISION.get(codec.name, frozenset()) if kind in (_NAL, _OBU) else ()
    unsplit = types.slices if kind in (_NAL, _OBU) else frozenset()
    messages = codec.sei if kind == _NAL else ()
    numbers = [kind, form.length_size, codec.header, codec.byte, codec.shift, codec.mask]
    searched = unsplit - frames.unsearched(types, form.encrypted) if kind == _NAL else ()
    numbers += [_bits(kept), _bits(messages), _bits(unsplit), _bits(searched), types.number_bits]
    return numbers + [_bits(n - at for n in plain if at <= n < at + 64) for at in range(0, _PLAIN_TYPES, 64)]


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


@dataclass(slots=True)
class FrameLooks:
    """The search of frames as a walk over a file finds them, in batches, or later (Inner.frames_later).

    The bytes of a batch were just read, so they are in memory. found: the changes so far.
    """

    source: ByteSource
    inner: Inner
    found: Found = field(default_factory=Found)
    _work: Work = field(init=False)
    _forms: dict[FrameForm, int] = field(default_factory=dict)
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))
    _tracks: array[int] = field(default_factory=lambda: array("H"))

    def __post_init__(self) -> None:
        self._work = Work.on(self.source)

    def form(self, form: FrameForm) -> int:
        """Return the number of a form of frames, for add()."""
        return self._forms.setdefault(form, len(self._forms))

    def add(self, start: int, end: int, form: int) -> None:
        """Add the frame [start, end), cut at the file's end. Clean all frames of the batch if it is large
        enough. Raises NotThisKindError, TooMuchError.
        """
        self._starts.append(start)
        self._ends.append(min(end, self.source.size))
        self._tracks.append(form)
        if self.inner.frames_later:
            check_count(len(self._starts))
        elif len(self._starts) >= _BATCH or end - self._starts[0] >= _BATCH_BYTES:
            self.finish()

    def finish(self) -> None:
        """Clean the frames that were added last. Raises NotThisKindError, TooMuchError."""
        self.found.add(look(self.left(), self.source, self.inner, self._work))

    def left(self) -> FrameTable:
        """Return the frames that were added, but not searched. The caller must search them."""
        table = table_of(self._starts, self._ends, self._tracks, tuple(self._forms))
        self._starts, self._ends, self._tracks = array("Q"), array("Q"), array("H")
        return table
