"""Search for messages in the coded frames of a movie's tracks and fragments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.bitstreams.decoder_config import Framing, framing_in
from policyfs.redact.bitstreams.frames import (
    Counter,
    Frame,
    clean_frame,
    clean_frames,
    in_rows,
    scannable,
    spread,
)
from policyfs.redact.bitstreams.nal_units import CODECS, MPEG
from policyfs.redact.bitstreams.photos import clean_photos, holds_metadata
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.isobmff.stbl import Extents, Samples, numbers, part_of
from policyfs.redact.isobmff.tracks import Track

TRIED_UNITS: Final = 256
MAX_UNITS: Final = 350_000
"""Maximum number of units (slices, parameters, messages) that are searched in all fragments of a track, after
user data was found in some fragments. An hour and a half of film has so many, with 60 frames per second and
one unit in each frame. The search of one unit takes a microsecond.
"""
_ENCRYPTED: Final = frozenset({b"encv", b"drmi"})
"""Formats of encrypted samples. Their bytes may look like a message by chance."""


def clean_messages(track: Track, source: ByteSource, inner: Inner, runs: Extents | None) -> Found:
    """Clean the metadata in a track's frames, unless the frames are encrypted.

    The metadata of a frame are the messages in it. If the frame is a whole picture, its metadata are those of
    the picture. runs: ranges of the track's samples in fragments. Raises NotThisKindError, TooMuchError.
    """
    if _ENCRYPTED & set(track.entries.formats):
        return Found()
    coded = _framing(track)
    if coded is None:
        _check_runs(runs, source)
        return clean_photos(_SampleFrames(track), source, inner)
    found = clean_frames(_SampleFrames(track), coded, source, inner)
    if coded.codec is MPEG:  # "mp4v" may also be Motion JPEG
        _check_runs(runs, source)
        found.add(clean_photos(_SampleFrames(track), source, inner))
    if runs is not None:
        found.add(_runs(runs, coded, source, inner))
    return found


def _framing(track: Track) -> Framing | None:
    """Return the framing of a track (its codec, and the size of the length field before each unit), or None.

    Usually a box in a sample entry states the framing. If there is no such box, the framing comes from bytes
    that look like such a box, because lax readers use these bytes, too. If there are no such bytes, the
    frames of a known codec are searched for start codes. Raises NotThisKindError if there are several
    framings.
    """
    if len(track.entries.framings) > 1:
        raise NotThisKindError("its frames are coded in two ways")
    for coded in track.entries.framings:
        return coded
    found = framing_in(track.parameters)
    codec = next((CODECS[kind] for kind in track.entries.formats if kind in CODECS), None)
    return found if found is not None or codec is None else Framing(codec, 0)


@dataclass(slots=True)
class _SampleFrames:
    """The samples of a track as frames, for the search in bitstreams.frames."""

    track: Track
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
        return (Frame(at, size) for at, size in self._samples.places(wanted))


def _check_runs(runs: Extents | None, source: ByteSource) -> None:
    """Raise NotThisKindError if fragments hold photos with metadata: the end of each photo is not known."""
    for number in spread(range(len(runs.starts))) if runs is not None else ():
        if holds_metadata(source, runs.starts[number], runs.ends[number]):  # type: ignore[union-attr]
            raise NotThisKindError("photos with metadata are among its fragments")


def _key_frames(track: Track, count: int) -> Sequence[int]:
    listed = numbers(part_of(track.table.stss, 8, 4), "I")
    return [number - 1 for number in listed if 0 < number <= count] if track.table.stss else range(count)


def _runs(runs: Extents, coded: Framing, source: ByteSource, inner: Inner) -> Found:
    """Clean the messages in fragments. In a run (``trun``), units follow each other without a gap.

    First, some runs are searched. All runs are searched only if the first ones have something to remove.
    """
    tried, found = set(spread(range(len(runs.starts)))), Found()
    for number in sorted(tried):
        start, size = runs.starts[number], runs.ends[number] - runs.starts[number]
        found.add(clean_frame(source, Frame(start, size), coded, inner, Counter(TRIED_UNITS)))
    if not found.notes:
        return found
    found, counter = Found(), Counter(MAX_UNITS)
    for start, end in zip(runs.starts, runs.ends, strict=True):
        found.add(clean_frame(source, Frame(start, end - start), coded, inner, counter))
    if counter.left <= 0:
        raise TooMuchError(
            f"more than {MAX_UNITS:,} units of a track would have to be searched for hidden messages"
        )
    return found
