"""Libmagic's answers, converted to content kinds: one name per kind, contradictions unknown.

A content kind depends on the first SNIFF_BYTES of a file and on nothing else, for a finished file
and for a write being checked alike. If a kind depended on bytes behind the head that checked writes
hold back, a write there could change it unseen.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.domain import KIND_EMPTY

SNIFF_BYTES: Final = 64 * 1024
"""Bytes at the start of a file that decide its kind.

More would cost time and gain little: tar, ISO 9660 and every media container are recognised within
64 KiB. Longer JSON is text/plain to libmagic.
"""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")

_ALIASES: Final = {
    "application/x-empty": KIND_EMPTY,
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/mp4": "video/mp4",
    "application/xml": "text/xml",
    "application/x-ogg": "application/ogg",
    "application/vnd.adobe.photoshop": "image/vnd.adobe.photoshop",
    "audio/aiff": "audio/x-aiff",
    "audio/mp3": "audio/mpeg",
    "audio/mpegapplication/octet-stream": "audio/mpeg",  # file 5.3x after an ID3 tag
    "audio/vnd.wave": "audio/x-wav",
    "audio/wav": "audio/x-wav",
    "audio/wave": "audio/x-wav",
    "audio/x-flac": "audio/flac",
    "audio/x-hx-aac-adif": "audio/aac",
    "audio/x-hx-aac-adts": "audio/aac",
    "audio/x-midi": "audio/midi",
    "audio/x-mp3": "audio/mpeg",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-adobe-dng": "image/tiff",
    "image/x-ms-bmp": "image/bmp",
    "image/x-nikon-nef": "image/tiff",
    "image/x-pentax-pef": "image/tiff",
    "image/x-png": "image/png",
    "image/x-samsung-srw": "image/tiff",
    "image/x-sony-arw": "image/tiff",
    "image/x-webp": "image/webp",
    "text/json": "application/json",
    "video/avi": "video/x-msvideo",
    "video/mkv": "video/x-matroska",
    "video/msvideo": "video/x-msvideo",
    "video/x-mp4": "video/mp4",
}
"""Names that versions of libmagic, and other tools, use for one kind -> the name used here.

It is libmagic 5.44's name, except where that is a private one.
"""

_SIGNATURES: Final = (
    (re.compile(rb"\xff\xd8\xff"), re.compile(r"image/jpeg")),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), re.compile(r"image/a?png")),
    (re.compile(rb"GIF8"), re.compile(r"image/gif")),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), re.compile(r"image/webp")),
    (re.compile(rb"(?:II[*+]\0|MM\0[*+])"), re.compile(r"image/.*")),
    (
        re.compile(rb"\0\0\0\x0c(?:jP  |JXL )\r\n\x87\n"),
        re.compile(r"image/.*|video/mj2|application/octet-stream"),
    ),
    (re.compile(rb"\xff\x4f\xff\x51\0"), re.compile(r"image/.*")),
    (re.compile(rb"....ftyp", re.DOTALL), re.compile(r"(?:image|video|audio)/.*|application/octet-stream")),
)
"""First bytes that every reader relies on -> the kinds allowed for them."""

_UNNAMED: Final = ((b"IIU\0", "image/x-panasonic-rw2"),)
"""First bytes -> kinds without a name in libmagic."""


def normalise(answer: str) -> str | None:
    """Return the content kind for libmagic's answer (a MIME type, perhaps with a charset).

    None for an answer that is no MIME type: libmagic's complaints ("cannot open ...") and the
    run-together answers of some versions. ``application/octet-stream`` is an answer, not a failure.
    """
    name = answer.partition(";")[0].strip().lower()
    name = _ALIASES.get(name, name)
    if not _NAME.fullmatch(name):
        half = len(name) // 2  # "image/x-iconimage/x-icon": two entries matched, one said it twice
        if name[:half] != name[half:]:
            return None
        name = _ALIASES.get(name[:half], name[:half])
    return name if _NAME.fullmatch(name) else None


def is_kind(text: str) -> bool:
    """True if a text is a content kind as this module writes them."""
    return _NAME.fullmatch(text) is not None


def settle(kind: str, head: bytes) -> str | None:
    """Return the kind, or None (unknown) if the head has the signature of another kind.

    libmagic tries some tests before others (tar's checksum before JPEG's first bytes). So a file can be
    made that it calls one kind while every image viewer opens it as another. Either name would be wrong
    for some rule; unknown fails closed for all of them.
    """
    for signature, kinds in _SIGNATURES:
        if signature.match(head) and not kinds.fullmatch(kind):
            return None
    if kind == "application/octet-stream":
        return next((name for start, name in _UNNAMED if head.startswith(start)), kind)
    return kind


_NO_MOVIE: Final = frozenset(
    b"heic,heix,heim,heis,hevc,hevx,hevm,hevs,mif1,mif2,msf1,miaf,avif,avis,jp2 ,jpx ,jpm ,jxl ,crx ,j2ki,"
    b"j2is,j2k1,jpgs".split(b",")
)
"""Brands of pictures in the same kind of boxes: no movies, or not only movies."""
_MOVIE_STARTS: Final = frozenset(b"wide free skip pnot udta uuid junk thum PICT pict moov mdat".split(b" "))
_SOUND_BRANDS: Final = (b"aax ", b"aaxc")


_PICTURE_BRANDS: Final = (
    (frozenset((b"crx ",)), "image/x-canon-cr3"),
    (frozenset((b"avif", b"avis", b"avio", b"MA1A", b"MA1B")), "image/avif"),
    (frozenset((b"heic", b"heix", b"hevc", b"hevx", b"MiHB", b"MiHE", b"MiHA")), "image/heic"),
    (frozenset((b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"heim", b"heis")), "image/heif"),
    (frozenset((b"jph ",)), "image/jph"),
)
"""Compatible brands, the most specific ones first -> the picture's kind."""
_JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"


def picture_kind(head: bytes) -> str | None:
    """Return the kind of a still picture in boxes whose brand libmagic does not know, else None.

    These are raw photos, HEIF by its compatible brands, and JPEG 2000 with other entropy coding.
    """
    at = len(_JP2_SIGNATURE) if head.startswith(_JP2_SIGNATURE) else 0
    size = int.from_bytes(head[at : at + 4])
    if head[at + 4 : at + 8] != b"ftyp" or size % 4 or not 16 <= size <= 1024:
        return None
    brands = {head[at + 8 : at + 12], *(head[i : i + 4] for i in range(at + 16, at + size, 4))}
    return next((kind for those, kind in _PICTURE_BRANDS if brands & those), None)


def movie_kind(head: bytes) -> str | None:
    """Return the kind of a movie whose brand or first box libmagic does not know, else None.

    These are ISO base media and QuickTime files that libmagic calls ``application/octet-stream``:
    cameras' own brands, and QuickTime files that start with padding or a preview.
    """
    at = 0
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4])
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(size, 264), 4))}
        if size % 4 or not 16 <= size <= 4096 or brands & _NO_MOVIE:
            return None
        return "audio/mp4" if head[8:12] in _SOUND_BRANDS else "video/mp4"
    while len(head) - at >= 16:
        size, kind, header = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8], 8
        if kind not in _MOVIE_STARTS:
            return None
        if size == 1:
            size, header = int.from_bytes(head[at + 8 : at + 16]), 16
        if kind in (b"moov", b"mdat"):
            return "video/quicktime" if size >= header or size == 0 else None
        if size < header:
            return None
        at += size
    return None
