"""JPEG files: every image in them, and all bytes around the images.

The file starts with its first image. Further images are cleaned like the first image if they follow one
another directly, or if the multi-picture directory of the first image points to them. A motion photo's video
is cleaned, too, at any offset. Other data behind the images (an archive, an unknown trailer) becomes zeros.
So each byte of the result is a checked part of a picture's structure, compressed picture data, metadata that
was understood, or neutral.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.filler import range_says_nothing
from policyfs.redact.core.patches import ByteSource, SliceSource, skip_zeros
from policyfs.redact.jpeg.markers import Image, is_soi, walk_image
from policyfs.redact.jpeg.motion_photo import find_video, live_mark_size
from policyfs.redact.jpeg.samsung_trailer import clean_trailer, find_trailer
from policyfs.redact.jpeg.segments import LOOKED_INTO, NAMES, clean_segments, mpf_offsets

MAX_IMAGES: Final = 64
"""Maximum number of pictures that are kept in one file. Further pictures become zeros."""
MAX_METADATA_BYTES: Final = 16 << 20
"""Maximum total size of the examined segments of one picture. A larger total raises TooMuchError."""
_EOI: Final = b"\xff\xd9"
MAX_VIDEOS: Final = 4
"""Maximum number of videos that are kept behind the pictures."""


def locate_jpeg(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a JPEG; return the changes that hide it.

    Raises TooMuchError; NotThisKindError if there is neither a picture nor a segment that is understood.
    """
    return _Locator(source, inner, Edits(source, inner, "JPEG")).locate()


@dataclass(slots=True)
class _Locator:
    source: ByteSource
    inner: Inner
    edits: Edits
    kept: bool = False
    """True if bytes of a segment stay. Then even a file without a frame counts as a JPEG."""

    def locate(self) -> Found:
        if not is_soi(self.source, 0):
            raise NotThisKindError("it does not start like a JPEG")
        trailer = find_trailer(self.source, 2)
        end = trailer.start if trailer is not None else self.source.size
        first = self._first(end)
        if not first.is_picture and trailer is not None:
            trailer, end = None, self.source.size
            first = self._first(end)
        head_only = not first.is_picture and bool(first.scans or not first.complete)
        if head_only:  # later segments become zeros, so no segment may be joined with them
            first.cut(first.whole)
        more = sorted({o for o in self._image(first) if o > first.end})
        if not first.frames and not self.kept:
            raise NotThisKindError("there is no picture in it")
        if head_only:
            first.end = self._end_head(first.whole, end)
        if trailer is not None:
            self.edits.found.add(clean_trailer(self.source, trailer, self.inner))
        self._behind(first, end, more, marked=trailer is None)
        return self.edits.found

    def _first(self, end: int) -> Image:
        """Return the image at the start. One without an EOI ends before a video: its scan would go on through
        it.
        """
        budget = self.inner.budget
        image = walk_image(SliceSource(self.source, 0, end), 0, budget)
        if image.complete or not image.is_picture:
            return image
        video = find_video(SliceSource(self.source, 0, end), image.scan_from, end, budget)
        return image if video is None else walk_image(SliceSource(self.source, 0, video.start), 0, budget)

    def _end_head(self, at: int, end: int) -> int:
        """Put an EOI behind a header without a picture: at zeros, ExifTool gives up and drops a segment."""
        self.edits.put(at, self.source.read(at, min(2, end - at)), _EOI[: end - at])
        return min(at + 2, end)

    def _image(self, image: Image) -> list[int]:
        for start, end in image.junk:
            self.edits.zero(start, end, "junk")
        for offset in image.bad_lengths:
            self.edits.found.patches.append(Patch(offset, b"\0\2"))
        segments = [s for s in image.segments if s.code in LOOKED_INTO]
        if sum(s.size for s in segments) > MAX_METADATA_BYTES:
            raise TooMuchError(f"a picture in it has more than {MAX_METADATA_BYTES >> 20} MiB of metadata")
        for segment in image.segments:
            if segment.code not in LOOKED_INTO:
                self.edits.zero(segment.offset, segment.offset + segment.size, NAMES[segment.code])
        payloads = [self.source.read(s.offset, s.size) for s in segments]
        loaded = clean_segments(segments, payloads, self.inner)
        for segment, content in zip(segments, loaded, strict=True):
            self.kept = self.kept or any(content.new)
            self.edits.block(segment.offset, content.old, Cleaned(content.new, tuple(content.notes)))
        return list(mpf_offsets(segments, loaded))

    def _behind(self, first: Image, end: int, offsets: list[int], *, marked: bool) -> None:
        """Clean the bytes behind the first image: further images (also at *offsets*), videos, other bytes.
        Huawei's mark (*marked*) and filler stay only behind an EOI: readers may take them for a part of the
        image.
        """
        region = SliceSource(self.source, 0, end)
        images, videos, done, index = 1, 0, first.end, 0
        while (at := skip_zeros(region, done)) < end:
            if images < MAX_IMAGES and is_soi(region, at):
                images += 1
                image = walk_image(region, at, self.inner.budget)
                if image.complete and image.is_picture:
                    self._image(image)
                    done = image.end
                    continue
            while index < len(offsets) and (offsets[index] <= at or not is_soi(region, offsets[index])):
                index += 1
            following = min(offsets[index], end) if index < len(offsets) else end
            video = None
            if videos < MAX_VIDEOS:
                video = find_video(region, max(done, at - 3), following, self.inner.budget)
            if video is None:
                done = following
                mark = live_mark_size(region) if marked and first.complete and done == end else 0
                end_of_rest = done - mark if at <= done - mark else done
                if not first.complete or not range_says_nothing(region, at, end_of_rest):
                    self.edits.zero(at, end_of_rest, "trailer")
                continue
            videos += 1
            self.edits.zero(at, video.start, "trailer")
            done = video.end
            found = self.inner.file(video.kind, SliceSource(region, video.start, video.end - video.start))
            if found is None:
                self.edits.zero(video.start, video.end, video.kind, broken=True)
            else:
                self.edits.found.add(found, video.start)
