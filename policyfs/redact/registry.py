"""Which locator goes with which kind, and the cleaners that each may use for what a file embeds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.audio.amr import locate_amr
from policyfs.redact.audio.flac import locate_flac
from policyfs.redact.audio.mp3 import locate_adts, locate_mp3
from policyfs.redact.audio.ogg import locate_ogg
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import (
    MAX_NESTING,
    Budget,
    Cleaned,
    Found,
    Locator,
    NotThisKindError,
    budget_for,
)
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.patches import ByteSource, MemorySource, apply
from policyfs.redact.documents.sidecars import locate_takeout, locate_xmp_sidecar
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.heif.heif import locate_heif
from policyfs.redact.images.bmp import locate_bmp, locate_ico
from policyfs.redact.images.gif import locate_gif
from policyfs.redact.images.jxl import locate_jxl
from policyfs.redact.images.png import locate_png
from policyfs.redact.images.webp import locate_webp
from policyfs.redact.isobmff.mp4 import MOVIE_KINDS, locate_movie
from policyfs.redact.jpeg.jpeg import locate_jpeg
from policyfs.redact.jpeg2000.jp2 import locate_jp2
from policyfs.redact.matroska.matroska import locate_matroska
from policyfs.redact.pdf.pdf import locate_pdf
from policyfs.redact.raw.cr3 import locate_cr3
from policyfs.redact.raw.raf import RAF_KIND, locate_raf
from policyfs.redact.raw.tiff import TIFF_KINDS, locate_tiff
from policyfs.redact.riff.aiff import locate_aiff
from policyfs.redact.riff.avi import locate_avi
from policyfs.redact.riff.wav import locate_wav
from policyfs.redact.tags.iptc import clean_iim, clean_irb
from policyfs.redact.xmp.packet import clean_xmp

LOCATORS: Final[Mapping[str, Locator]] = MappingProxyType(
    {
        "image/jpeg": locate_jpeg,
        "image/vnd.microsoft.icon": locate_ico,
        "image/bmp": locate_bmp,
        "audio/amr": locate_amr,
        "audio/x-aiff": locate_aiff,
        "video/x-msvideo": locate_avi,
        "audio/x-wav": locate_wav,
        "application/ogg": locate_ogg,
        "video/ogg": locate_ogg,
        "audio/ogg": locate_ogg,
        "audio/flac": locate_flac,
        "audio/aac": locate_adts,
        "audio/mpeg": locate_mp3,
        "image/gif": locate_gif,
        "image/webp": locate_webp,
        "image/png": locate_png,
        **dict.fromkeys(MOVIE_KINDS, locate_movie),
        **dict.fromkeys(TIFF_KINDS, locate_tiff),
        RAF_KIND: locate_raf,
        "application/pdf": locate_pdf,
        "application/rdf+xml": locate_xmp_sidecar,
        "application/x-location+json": locate_takeout,
        "video/x-matroska": locate_matroska,
        "video/webm": locate_matroska,
        "audio/x-matroska": locate_matroska,
        "audio/webm": locate_matroska,
        "image/heic": locate_heif,
        "image/heic-sequence": locate_heif,
        "image/heif": locate_heif,
        "image/heif-sequence": locate_heif,
        "image/avif": locate_heif,
        "image/x-canon-cr3": locate_cr3,
        "image/jxl": locate_jxl,
        "image/jp2": locate_jp2,
        "image/jpx": locate_jp2,
        "image/jph": locate_jp2,
        "image/x-jp2-codestream": locate_jp2,
    }
)
"""Content kind -> its locator; exactly the kinds that the table calls redacted."""

_PICTURES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51\0", "image/x-jp2-codestream"),
)
"""First bytes -> the kind of an embedded picture."""
_BOXED: Final = MappingProxyType(
    {
        **dict.fromkeys((b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmif2"), "image/heic"),
        **dict.fromkeys((b"ftypavif", b"ftypavis"), "image/avif"),
    }
)
"""Bytes 4 to 12 -> the kind, where a picture starts with a size."""


def locate_in(kind: str, source: ByteSource, hide: Tells) -> Found:
    """What is to be hidden in a file of a kind that has a locator.

    Raises NotThisKindError, TooMuchError; KeyError for a kind without a locator.
    """
    return LOCATORS[kind](source, _Cleaners(hide, budget_for(source), MAX_NESTING))


class _Cleaners:
    """blocks.Inner for a file that may embed others, so many levels deep."""

    __slots__ = ("_depth", "budget", "hide")

    def __init__(self, hide: Tells, budget: Budget, depth: int) -> None:
        self.hide = hide
        self.budget = budget
        self._depth = depth

    def jpeg(self, data: bytes) -> Cleaned | None:
        return self._whole("image/jpeg", data)

    def tiff(self, data: bytes) -> Cleaned | None:
        return clean_tiff(data, self)

    def xmp(self, data: bytes) -> Cleaned:
        return clean_xmp(data, self)

    def iim(self, data: bytes) -> Cleaned:
        return clean_iim(data, self)

    def irb(self, data: bytes) -> Cleaned | None:
        return clean_irb(data, self)

    def image(self, data: bytes) -> Cleaned | None:
        for start, kind in _PICTURES:
            if data.startswith(start):
                return self._whole(kind, data)
        boxed = _BOXED.get(data[4:12])
        return None if boxed is None else self._whole(boxed, data)

    def file(self, kind: str, source: ByteSource) -> Found | None:
        locator = LOCATORS.get(kind)
        if locator is None or self._depth <= 0:
            return None
        try:
            return locator(source, _Cleaners(self.hide, self.budget, self._depth - 1))
        except NotThisKindError:
            return None

    def text(self, data: bytes) -> bool:
        return bool(self.hide & Tells.PEOPLE) or bool(told_in(data, self.hide))

    def _whole(self, kind: str, data: bytes) -> Cleaned | None:
        found = self.file(kind, MemorySource(data))
        return None if found is None else Cleaned(apply(data, found.patches), tuple(found.notes))
