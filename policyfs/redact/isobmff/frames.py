"""Search for messages in the coded frames of a movie's tracks and fragments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policyfs.redact.bitstreams.decoder_config import Framing, framing_in
from policyfs.redact.bitstreams.frames import (
    SAMPLE_UNITS,
    TOO_MANY_UNITS,
    Counter,
    Frame,
    clean_frame,
    clean_frames,
    in_rows,
    is_clear,
    scannable,
    spread,
)
from policyfs.redact.bitstreams.nal_units import MPEG, codec_of
from policyfs.redact.bitstreams.photos import FEW, clean_photos, holds_metadata
from policyfs.redact.core.cleaners import Budget, Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.isobmff.stbl import Runs, Samples, numbers, part_of
from policyfs.redact.isobmff.tracks import Track

TRIED_UNITS: Final = 256
MAX_UNITS: Final = 350_000
"""Maximum number of units (slices, parameters, messages) that are searched in all fragments of a track, after
user data was found in some fragments. An hour and a half of film has so many, with 60 frames per second and
one unit in each frame. The search of one unit takes a microsecond.
"""
_ENCRYPTED: Final = frozenset({b"encv", b"drmi"})
"""Formats of encrypted samples. Usually only the slices in a frame are encrypted (ISO/IEC 23001-7)."""
_ORIGINAL: Final = re.compile(rb"frma(.{4})", re.DOTALL)
"""The box that states the format of samples before their encryption."""
_SKIPPED_PER_PART: Final = 16
"""Number of skipped frames that cost as much work as one part of a file. MAX_PARTS allows an hour and a half
of film with 120 frames per second.
"""


def clean_messages(track: Track, source: ByteSource, inner: Inner, runs: Runs | None) -> Found:
    """Clean the metadata in a track's frames.

    The metadata of a frame are the messages in it. If the frame is a whole picture, its metadata are those of
    the picture. A frame that is encrypted as a whole stays. runs: the track's samples in fragments. Raises
    NotThisKindError, TooMuchError.
    """
    coded = _framing(track)
    if coded is None:
        _check_runs(runs, source)
        return clean_photos(_SampleFrames(track), source, inner)
    encrypted = None if _ENCRYPTED.isdisjoint(track.entries.formats) else coded
    clear = _ClearFrames(source, inner.budget, encrypted)
    found = clean_frames(_SampleFrames(track, clear), coded, source, inner)
    if coded.codec is MPEG:  # "mp4v" may also be Motion JPEG
        _check_runs(runs, source)
        found.add(clean_photos(_SampleFrames(track), source, inner))
    if runs is not None:
        found.add(_runs(runs, clear, coded, inner))
    return found


def _framing(track: Track) -> Framing | None:
    """Return the framing of a track (its codec, and the size of the length field before each unit), or None.

    Usually a box in a sample entry states the framing. If there is no such box, the framing comes from bytes
    that look like such a box, because lax readers use these bytes, too. If there are no such bytes, the
    frames of a known codec are searched for start codes. Raises NotThisKindError if there are several
    framings.
    """
    if len(track.entries.framings) > 1:
        raise NotThisKindError("the frames of a track have several codecs, or length fields of several sizes")
    for coded in track.entries.framings:
        return coded
    found = framing_in(track.parameters)
    kinds = (*track.entries.formats, *_ORIGINAL.findall(track.parameters))
    codec = next((codec for kind in kinds if (codec := codec_of(kind)) is not None), None)
    return found if found is not None or codec is None else Framing(codec, 0)


@dataclass(slots=True)
class _ClearFrames:
    """The choice of the frames to search. encrypted: the framing of the frames if they may be encrypted."""

    source: ByteSource
    budget: Budget
    encrypted: Framing | None

    def among(self, samples: Iterable[tuple[int, int]]) -> Iterator[Frame]:
        """Yield the samples (offset, size) as frames, without those that are encrypted as a whole. Raises
        TooMuchError.
        """
        skipped = 0
        for at, size in samples:
            frame = Frame(at, size)
            if self.encrypted is None or is_clear(self.source, frame, self.encrypted, self.budget):
                yield frame
                continue
            skipped += 1
            if skipped % _SKIPPED_PER_PART == 0:
                self.budget.part()


@dataclass(slots=True)
class _SampleFrames:
    """The samples of a track as frames, for the search in bitstreams.frames.

    clear: the choice of these frames; None for all.
    """

    track: Track
    clear: _ClearFrames | None = None
    _samples: Samples = field(init=False)
    _keys: Sequence[int] = field(init=False)
    _tried: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        self._samples = self.track.samples()
        count = len(self._samples)
        self._keys = _key_frames(self.track, count)
        some = {0, 1, 2, count - 1, *spread(self._keys), *spread(range(count))}
        self._tried = sorted(number for number in some if 0 <= number < count)

    def tried(self) -> Iterator[Frame]:
        return self._frames(self._tried)

    def rows(self) -> Iterator[Frame]:
        return self._frames(in_rows(len(self._samples)))

    def others(self, *, keys: bool) -> Iterator[Frame]:
        wanted = scannable(self._keys if keys else range(len(self._samples)))
        return self._frames(sorted(set(wanted).difference(self._tried)))

    def each(self) -> Iterator[Frame]:
        return self._frames(range(len(self._samples)))

    def _frames(self, wanted: Sequence[int]) -> Iterator[Frame]:
        places = self._samples.places(wanted)
        return self.clear.among(places) if self.clear else (Frame(at, size) for at, size in places)


def _check_runs(runs: Runs | None, source: ByteSource) -> None:
    """Raise NotThisKindError if fragments hold photos with metadata. Some frames are examined."""
    if runs is None:
        return
    for number in spread(range(len(runs.starts))):
        for at, size in islice(runs.samples(number), FEW):
            if holds_metadata(source, at, at + size):
                raise NotThisKindError("photos with metadata are among its fragments")


def _key_frames(track: Track, count: int) -> Sequence[int]:
    listed = numbers(part_of(track.table.stss, 8, 4), "I")
    return [number - 1 for number in listed if 0 < number <= count] if track.table.stss else range(count)


def _runs(runs: Runs, clear: _ClearFrames, coded: Framing, inner: Inner) -> Found:
    """Clean the messages in fragments.

    First, some runs (``trun``) are searched. All runs are searched only if the first ones have something to
    remove.
    """
    count, found = len(runs.starts), Found()
    for number in sorted(set(spread(range(count)))):
        left = TRIED_UNITS
        for frame in clear.among(runs.samples(number)):
            counter = Counter(SAMPLE_UNITS)
            found.add(clean_frame(clear.source, frame, coded, inner, counter))
            if counter.left < 0:
                raise TooMuchError(TOO_MANY_UNITS)
            left -= max(1, SAMPLE_UNITS - counter.left)
            if left <= 0:
                break
    if not found.notes:
        return found
    found, counter = Found(), Counter(MAX_UNITS)
    for frame in clear.among(sample for number in range(count) for sample in runs.samples(number)):
        left = counter.left
        found.add(clean_frame(clear.source, frame, coded, inner, counter))
        counter.left = min(counter.left, left - 1)
        if counter.left < 0:
            raise TooMuchError(
                f"more than {MAX_UNITS:,} units of a track would have to be searched for hidden messages"
            )
    return found
