"""JPEG files: every image in them, and all that is around.

The first image starts the file. Images that follow it directly, or where its multi-picture
directory says, are cleaned like it; whatever else is behind (a video, an archive, a maker's
trailer) becomes zeros. So each byte of the result is a checked part of a picture's structure,
compressed picture data, metadata that was understood, or neutral.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.blocks import MAX_NESTING, Cleaned, Note
from policyfs.redact.iptc import clean_iim, clean_irb
from policyfs.redact.markers import Budget, Image, budget_for, is_soi, walk_image
from policyfs.redact.ranges import (
    ByteSource,
    MemorySource,
    apply,
    difference,
    in_order,
    skip_zeros,
    zeros,
)
from policyfs.redact.segments import clean_segments, mpf_offsets
from policyfs.redact.tiff import clean_tiff
from policyfs.redact.xmp import clean_xmp

MAX_IMAGES: Final = 64
"""Pictures in one file that are kept; what is behind the last becomes zeros."""


class NotJpegError(Exception):
    """The bytes are no JPEG picture. The message says why."""


@dataclass(slots=True)
class Found:
    """What is to be done in a file: patches in order, and what they take out."""

    patches: tuple[Patch, ...] = ()
    notes: list[Note] = field(default_factory=list)


def locate_jpeg(source: ByteSource) -> Found:
    """Everything in a JPEG that may tell a place, with what to put there.

    Raises NotJpegError if there is no picture, markers.TooMuchError if it asks for too much work.
    """
    return _Locator(source, budget_for(source), MAX_NESTING).locate()


class _Inner:
    """The cleaners of embedded blocks, for an image that is embedded so deep."""

    __slots__ = ("_budget", "_depth")

    def __init__(self, depth: int, budget: Budget) -> None:
        self._depth = depth
        self._budget = budget

    def jpeg(self, data: bytes) -> Cleaned | None:
        if self._depth <= 0:
            return None
        try:
            found = _Locator(MemorySource(data), self._budget, self._depth - 1).locate()
        except NotJpegError:
            return None
        return Cleaned(apply(data, found.patches), tuple(found.notes))

    def tiff(self, data: bytes) -> Cleaned | None:
        return clean_tiff(data, self)

    def xmp(self, data: bytes) -> Cleaned:
        return clean_xmp(data)

    def iim(self, data: bytes) -> Cleaned:
        return clean_iim(data)

    def irb(self, data: bytes) -> Cleaned | None:
        return clean_irb(data, self)


@dataclass(slots=True)
class _Locator:
    """One run over one file or embedded image. depth: how many levels it may still embed."""

    source: ByteSource
    budget: Budget
    depth: int
    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def locate(self) -> Found:
        if not is_soi(self.source, 0):
            raise NotJpegError("it does not start like a JPEG")
        first = walk_image(self.source, 0, self.budget)
        if not first.is_picture:
            raise NotJpegError("there is no picture in it")
        more = sorted({o for o in self._image(first) if o > first.end})
        self._behind(first.end, more)
        return Found(in_order(self.patches, self.source.size), sorted(self.notes))

    def _image(self, image: Image) -> list[int]:
        """Patches one image; returns where its multi-picture directory says there are others."""
        for start, end in image.junk:
            self._zero(start, end, "junk")
        for offset in image.bad_lengths:
            self.patches.append(Patch(offset, b"\0\2"))
        payloads = [self.source.read(s.offset, s.size) for s in image.segments]
        loaded = clean_segments(image.segments, payloads, _Inner(self.depth, self.budget))
        for segment, content in zip(image.segments, loaded, strict=True):
            self.patches += difference(segment.offset, content.old, content.new)
            if content.new != content.old:
                self.notes += [n._replace(offset=n.offset + segment.offset) for n in content.notes]
        return list(mpf_offsets(image.segments, loaded))

    def _behind(self, at: int, offsets: list[int]) -> None:
        """What follows the first image: further images, and zeros."""
        images = 1
        while (at := skip_zeros(self.source, at)) < self.source.size:
            if images < MAX_IMAGES and is_soi(self.source, at):
                images += 1
                image = walk_image(self.source, at, self.budget)
                if image.complete and image.is_picture:
                    self._image(image)
                    at = image.end
                    continue
            following = next(self._images_behind(at, offsets), self.source.size)
            self._zero(at, following, "trailer")
            at = following

    def _images_behind(self, at: int, offsets: list[int]) -> Iterator[int]:
        return (o for o in offsets if at < o < self.source.size and is_soi(self.source, o))

    def _zero(self, start: int, end: int, tag: str) -> None:
        patches = list(zeros(self.source, start, end))
        if patches:
            self.patches += patches
            self.notes.append(Note(start, end - start, "JPEG", tag))
