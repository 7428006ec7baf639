"""Frames that are whole pictures (Motion JPEG, PNG, TIFF): each may have EXIF, XMP and comments of its own.

A time-lapse film is often a row of photos as the camera made them. First, some frames from all over a track
are cleaned. If one of these frames has something to remove, or the track has few frames, all frames are
cleaned as pictures. (A comment counts here only if it holds a place or a time.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policyfs.redact.bitstreams.frames import PICTURE_STARTS, Frame, Frames, Restored
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError, TooMuchError, shifted
from policyfs.redact.core.patches import ByteSource, difference

FEW: Final = 64
"""Maximum number of frames in a short track (a slide show, chapters). All frames of a short track are
cleaned.
"""
MAX_PHOTOS: Final = 500
MAX_PHOTO_BYTES: Final = 1 << 27
"""MAX_PHOTOS: maximum number of frames of a track with more than FEW frames, if its pictures have data to
remove. MAX_PHOTO_BYTES: maximum total size in bytes of the pictures that are read in any track.
"""
LEAD_BYTES: Final = 1 << 10
"""Size in bytes of the start of a frame in which a JPEG is searched: decoders skip bytes before a JPEG."""
_JPEG: Final = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_HEAD_BYTES: Final = 1 << 16
_OF_JPEG: Final = (b"Exif\0\0", b"ns.adobe.com/", b"Photoshop 3.0\0", b"GPSLatitude")
_METADATA: Final = (*_OF_JPEG, b"eXIf")
"""Marks of metadata. Those of JPEG count in any frame: decoders of JPEG search for the next marker."""
_COMMENT: Final = "COM"


def clean_photos(frames: Frames, source: ByteSource, inner: Inner) -> Found:
    """Clean the frames of a track that are pictures. Raises NotThisKindError, TooMuchError.

    A long film stays as it is if only comments would be removed, and no comment holds a place or a time:
    encoders write their name into every frame.
    """
    photos = _Photos(source, inner)
    photos.clean(frames.tried())
    if not photos.read:
        return photos.found
    some = list(islice(frames.each(), FEW + 1))
    if len(some) <= FEW:
        photos.clean(some)
    elif photos.told:
        photos.clean(_at_most(frames.each()))
    else:
        return Found()
    return photos.found


def holds_metadata(source: ByteSource, start: int, end: int) -> bool:
    """Return True if the first 64 KiB of the frame [start, end) have marks of EXIF, XMP or IPTC."""
    head = source.read(start, min(_HEAD_BYTES, end - start))
    return any(mark in head for mark in (_METADATA if head.startswith(PICTURE_STARTS) else _OF_JPEG))


def picture_at(head: bytes) -> int | None:
    """Return the offset of the picture in a frame; None if the frame seems to be no picture.

    head: the first bytes of the frame.
    """
    if head.startswith(PICTURE_STARTS):
        return 0
    found = _JPEG.search(head, 0, LEAD_BYTES)
    return None if found is None else found.start()


def _at_most(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames. Raises TooMuchError if there are more than MAX_PHOTOS."""
    for number, frame in enumerate(frames):
        if number >= MAX_PHOTOS:
            raise TooMuchError(
                f"more than {MAX_PHOTOS} frames of a track would have to be searched for metadata of pictures"
            )
        yield frame


@dataclass(slots=True)
class _Photos:
    """The frames of one track that were read, and the changes to them.

    told: True if some frame has data to remove. A comment counts only if it holds a place or a time.
    """

    source: ByteSource
    inner: Inner
    found: Found = field(default_factory=Found)
    read: int = 0
    told: bool = False
    _seen: set[Frame] = field(default_factory=set)
    _room: int = MAX_PHOTO_BYTES

    def clean(self, frames: Iterable[Frame]) -> None:
        """Clean the frames that begin like a picture. Skip frames that were cleaned before."""
        for frame in frames:
            if frame not in self._seen:
                self._seen.add(frame)
                self._one(frame)

    def _one(self, frame: Frame) -> None:
        whole = Restored(self.source, frame)
        at = picture_at(whole.read(0, LEAD_BYTES))
        cleaned, data = None, b""
        if at is not None:
            self.read += 1
            self._room -= whole.size
            if self._room < 0:
                raise TooMuchError("the pictures in the frames of a track have too many bytes")
            data = whole.read(at, whole.size - at)
            cleaned = self.inner.image(data)
        if at is None or cleaned is None:
            if holds_metadata(whole, 0, whole.size):
                raise NotThisKindError("a picture among its frames is not understood")
            return
        if cleaned.data == data:
            return
        start = frame.at - len(frame.lead) + at
        patches = list(difference(start, data, cleaned.data))
        if any(patch.offset < frame.at for patch in patches):
            raise NotThisKindError("metadata that is stored once for all frames of a track cannot be removed")
        notes = cleaned.notes or (Note(0, len(data), "frame", "metadata"),)
        self.told = self.told or any(_tells(note) for note in notes)
        self.found.patches += patches
        self.found.notes += shifted(notes, start)


def _tells(note: Note) -> bool:
    return note.container != _COMMENT or bool(note.tells & (Tells.LOCATION | Tells.TIME))
