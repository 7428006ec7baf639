"""Frames that are whole pictures (Motion JPEG, PNG, TIFF): each may have EXIF, XMP and comments of its own.

A time-lapse film is often a row of photos as the camera made them. First, some frames from all over a track
are cleaned. If one of these frames has something to remove, or the track has few frames, all frames are
cleaned as pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policyfs.redact.bitstreams.frames import Frame, Frames, Restored
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
_STARTS: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"GIF8",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_START_BYTES: Final = 8
_HEAD_BYTES: Final = 1 << 16
_METADATA: Final = (b"Exif\0\0", b"eXIf", b"ns.adobe.com/", b"Photoshop 3.0\0", b"GPSLatitude")
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
    """Return True if bytes [start, end) begin like a picture with EXIF, XMP or IPTC."""
    head = source.read(start, min(_HEAD_BYTES, end - start))
    return head.startswith(_STARTS) and any(mark in head for mark in _METADATA)


def _at_most(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames. Raises TooMuchError if there are more than MAX_PHOTOS."""
    for number, frame in enumerate(frames):
        if number >= MAX_PHOTOS:
            raise TooMuchError("metadata in too many frames")
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
    _seen: set[int] = field(default_factory=set)
    _room: int = MAX_PHOTO_BYTES

    def clean(self, frames: Iterable[Frame]) -> None:
        """Clean the frames that begin like a picture. Skip frames that were cleaned before."""
        for frame in frames:
            if frame.at not in self._seen:
                self._seen.add(frame.at)
                self._one(frame)

    def _one(self, frame: Frame) -> None:
        whole, lead = Restored(self.source, frame), len(frame.lead)
        if not whole.read(0, _START_BYTES).startswith(_STARTS):
            return
        self.read += 1
        self._room -= whole.size
        if self._room < 0:
            raise TooMuchError("the pictures in the frames of a track have too many bytes")
        data = whole.read(0, whole.size)
        cleaned = self.inner.image(data)
        if cleaned is None:
            if holds_metadata(whole, 0, whole.size):
                raise NotThisKindError("a picture among its frames is not understood")
            return
        if cleaned.data == data:
            return
        patches = list(difference(frame.at - lead, data, cleaned.data))
        if any(patch.offset < frame.at for patch in patches):
            raise NotThisKindError("metadata that is stored once for all frames of a track cannot be removed")
        notes = cleaned.notes or (Note(0, len(data), "frame", "metadata"),)
        self.told = self.told or any(_tells(note) for note in notes)
        self.found.patches += patches
        self.found.notes += shifted(notes, frame.at - lead)


def _tells(note: Note) -> bool:
    return note.container != _COMMENT or bool(note.tells & (Tells.LOCATION | Tells.TIME))
