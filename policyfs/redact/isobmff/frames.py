"""SEI messages in frames of H.264 and H.265: cameras and encoders write names, dates and places there.

Such messages become blanks of the same length, so that no byte of a picture moves. First, some frames from
all over a track are tried. If they have something to remove, the others are searched, too: all of them, or
only the frames from which a player can start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.redact.bitstreams import sei
from policyfs.redact.bitstreams.decoder_config import Framing, framing
from policyfs.redact.bitstreams.nal_units import units
from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource, difference
from policyfs.redact.isobmff.stbl import Extents, Samples, numbers, part_of
from policyfs.redact.isobmff.tracks import Track

MAX_SCANNED: Final = 30_000
"""Most samples that are searched after a first try has found user data in some samples."""
TRIED_UNITS: Final = 64
MAX_MESSAGE_BYTES: Final = 32 << 20
MAX_UNITS: Final = 100_000
"""Most units (slices, parameters, messages) of fragments that are searched after user data was found."""
SAMPLE_UNITS: Final = 256
_TRIED: Final = 8
_CONFIG: Final = re.compile(rb"avcC|hvcC")


@dataclass(slots=True)
class _Counter:
    """Numbers of units, and of bytes of messages, that may still be examined."""

    left: int
    room: int = MAX_MESSAGE_BYTES

    def message(self, unit: bytes) -> None:
        """Count a message. Raises TooMuchError.

        A message with emulation prevention bytes costs more.
        """
        self.room -= len(unit) << (4 * (b"\0\0\3" in unit))
        if self.room < 0:
            raise TooMuchError("too much user data in frames")


def clean_frames(track: Track, source: ByteSource, inner: Inner, runs: Extents | None) -> Found:
    """Clean the SEI messages in the frames of a track.

    runs: ranges of further samples in fragments. Raises NotThisKindError, TooMuchError.
    """
    coded = _framing(track)
    if coded is None:
        return Found()
    found = _frames(track, coded, source, inner)
    if runs is not None:
        found.add(_runs(runs, coded, source, inner))
    return found


def _framing(track: Track) -> Framing | None:
    """Return the framing of a track, or None.

    The result is None, too, for encrypted samples, since their bytes may look like a message by chance. If no
    entry has a box for the framing, bytes that look like such a box are used, because lax readers do the
    same. Raises NotThisKindError if there are several framings.
    """
    if {b"encv", b"drmi"} & set(track.entries.formats):
        return None
    if len(track.entries.framings) > 1:
        raise NotThisKindError("its frames are coded in two ways")
    for coded in track.entries.framings:
        return coded
    found = _CONFIG.search(track.parameters)
    return None if found is None else framing(found[0], track.parameters[found.end() :][:32])


def _clean_sample(
    source: ByteSource, at: int, size: int, coded: Framing, inner: Inner, counter: _Counter
) -> Found:
    """Clean the SEI units of one sample, or of several that follow each other.

    It reads the bytes of these units, and only the lengths of the others.
    """
    found, end, codec = Found(), min(at + size, source.size), coded.codec
    for unit in units(source, at, codec, coded.length_size):
        if counter.left <= 0:
            break
        counter.left -= 1
        length = unit.end - unit.start
        if not unit.head or not length or unit.end > end:
            break
        if codec.type(unit.head) in codec.sei and length <= sei.MAX_UNIT_BYTES:
            old = source.read(unit.start, length)
            counter.message(old)
            new = sei.blanked(old, codec.header, inner)
            if new is not None:
                found.patches += difference(unit.start, old, new.data)
                found.notes.append(Note(unit.start, length, codec.name, "SEI user data", new.tells))
    return found


def _runs(runs: Extents, coded: Framing, source: ByteSource, inner: Inner) -> Found:
    """Clean the samples of fragments, run by run: their units follow each other without a gap."""
    tried, found = set(_spread(range(len(runs.starts)))), Found()
    for number in sorted(tried):
        start, size = runs.starts[number], runs.ends[number] - runs.starts[number]
        found.add(_clean_sample(source, start, size, coded, inner, _Counter(TRIED_UNITS)))
    if not found.notes:
        return found
    found, counter = Found(), _Counter(MAX_UNITS)
    for start, end in zip(runs.starts, runs.ends, strict=True):
        found.add(_clean_sample(source, start, end - start, coded, inner, counter))
    if counter.left <= 0:
        raise TooMuchError("user data in too many frames")
    return found


def _frames(track: Track, coded: Framing, source: ByteSource, inner: Inner) -> Found:
    samples = track.samples()
    count, keys = len(samples), _key_frames(track, len(samples))
    some = {0, 1, 2, count - 1, *_spread(keys), *_spread(range(count))}
    tried = sorted(number for number in some if 0 <= number < count)
    found = _cleaned(samples, tried, coded, source, inner)
    told = NOTHING
    for note in found.notes:
        told |= note.tells
    if not told:
        return found
    # Encoders put their name into the frames from which a player can start. Cameras may put a date into every
    # frame.
    wanted = keys if told in Tells.DEVICE | Tells.OTHER else range(count)
    if len(wanted) > MAX_SCANNED:
        raise TooMuchError("user data in too many frames")
    others = sorted(set(wanted).difference(tried))
    found.add(_cleaned(samples, others, coded, source, inner))
    return found


def _key_frames(track: Track, count: int) -> list[int] | range:
    listed = numbers(part_of(track.table.stss, 8, 4), "I")
    return [number - 1 for number in listed if 0 < number <= count] if track.table.stss else range(count)


def _spread(frames: list[int] | range) -> Iterator[int]:
    """Return some of these frames, evenly spread."""
    step = max(1, len(frames) // _TRIED)
    return iter(frames[::step][: _TRIED + 1])


def _cleaned(
    samples: Samples, wanted: Iterable[int], coded: Framing, source: ByteSource, inner: Inner
) -> Found:
    found, counter = Found(), _Counter(SAMPLE_UNITS)
    for at, size in samples.places(wanted):
        counter.left = SAMPLE_UNITS
        found.add(_clean_sample(source, at, size, coded, inner, counter))
    return found
