"""Content kinds from libmagic's answers: one name for each kind, and no kind if an answer contradicts the
bytes.

A content kind depends only on the first SNIFF_BYTES of a file, for finished files and for files that are
being written. Checked writes hold back only these bytes. If a kind depended on later bytes, a write there
could change the kind without a check.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.formats import BRANDS, OTHER_NAMES, REDACTABLE_KINDS, STARTS, Use

SNIFF_BYTES: Final = 64 * 1024
"""Bytes at the start of a file that decide its kind.

More would cost time and gain little: tar, ISO 9660 and every media container are recognised within
64 KiB. Longer JSON is text/plain to libmagic.
"""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")

FIRST_BYTES: Final = 40
"""Bytes at the start of a file by which other programs recognise pictures, films, sounds and PDF files."""
_WEAK: Final = re.compile("audio/x-ape|image/x-os2-.*")
"""Kinds that libmagic finds by two to four letters, and so gives to other files, too: to a table that begins
with "MAC Address", or to an archive that begins with a file in CI/."""
_OPENED_BY_FIRST_BYTES: Final = re.compile(r"(?:image|video|audio)/.*|application/(?:ogg|pdf)")

_ONLY: Final = tuple((one, re.compile(one.only)) for one in STARTS if one.only)
_UNNAMED: Final = tuple(one for one in STARTS if Use.UNNAMED in one.uses)


def normalise(answer: str) -> str | None:
    """Return the content kind for libmagic's answer (a MIME type, perhaps with a charset).

    Return None for an answer that is not a MIME type: an error text of libmagic ("cannot open ..."), or two
    different types without a space between them, which some versions give. ``application/octet-stream`` is an
    answer, not a failure.
    """
    name = answer.partition(";")[0].strip().lower()
    name = OTHER_NAMES.get(name, name)
    if not _NAME.fullmatch(name):
        half = len(name) // 2  # "image/x-iconimage/x-icon": two entries matched, with the same name
        if name[:half] != name[half:]:
            return None
        name = OTHER_NAMES.get(name[:half], name[:half])
    return name if _NAME.fullmatch(name) else None


def is_kind(text: str) -> bool:
    """Return True if a text has the form of a content kind."""
    return _NAME.fullmatch(text) is not None


def agreed(kind: str, first: str) -> str | None:
    """Return the kind of a file, or None (unknown) if its first bytes have the kind of another picture, film,
    sound or PDF.

    kind: libmagic's answer for the whole head, not a kind with a locator. first: libmagic's answer for the
    first bytes alone (FIRST_BYTES). libmagic prefers some tests of later bytes: the checksum of a tar header,
    a boot sector, the mark of a disk image. But other programs open such a file by its first bytes.
    """
    if not _OPENED_BY_FIRST_BYTES.fullmatch(first) or _WEAK.fullmatch(first):
        return kind
    if kind == "application/octet-stream":
        return first
    if first in REDACTABLE_KINDS:
        return None
    return kind if kind.startswith(first.partition("/")[0]) else None


def settle(kind: str, head: bytes) -> str | None:
    """Return the kind, or None (unknown) if the head has the signature of another kind.

    For ``application/octet-stream``, return the kind of the head's signature, if policyfs knows one.

    libmagic tries some tests before others (tar's checksum before JPEG's first bytes). So somebody can make a
    file to which libmagic gives one kind, and which every image viewer opens as another kind. With either
    kind some rule would fail to protect the file. With an unknown kind all rules decide against the caller.
    """
    for start, allowed in _ONLY:
        at, more = start.also
        if (
            head.startswith(start.data, start.offset)
            and head.startswith(more, at)
            and not allowed.fullmatch(kind)
        ):
            return None
    brands = _brands(head)
    if _UNREAD in brands:
        return None
    if kind == "application/octet-stream":
        starts = (one for one in _UNNAMED if head.startswith(one.data, one.offset))
        return next((one.kinds[0] for one in starts if head.startswith(one.also[1], one.also[0])), kind)
    if not kind.startswith("image/") and brands & _PICTURE_BRANDS:
        return None
    return _FILM_BRANDS.get(head[4:12], kind)


_PICTURE_BRANDS: Final = frozenset(
    b"heic,heix,heim,heis,hevc,hevx,hevm,hevs,mif1,mif2,msf1,miaf,avif,avis,jp2 ,jpx ,jpm ,jxl ,crx ,j2ki,"
    b"j2is,j2k1,jpgs".split(b",")
).union(*(brands for _, brands in BRANDS))
"""Brands of pictures in ISO base media boxes. A file with such a brand is no movie, or not only a movie."""
_UNREAD: Final = b""
"""The brand that stands for brands behind the head."""
_FILM_BRANDS: Final = {b"ftypMSNV": "video/mp4"}
"""Major brands of films (Sony's cameras) that libmagic calls audio/mp4."""
_MOVIE_STARTS: Final = frozenset(
    b"ftyp wide free skip pnot udta uuid junk thum PICT pict moov mdat".split(b" ")
)
_PACKETS: Final = ((0, 188), (4, 192))
"""Offset of the first mark, and distance of the marks, in transport streams without and with clocks."""
_MARK: Final = b"G"
_MARKS, _LEAST_MARKS = 5, 3
"""Numbers of marks that are compared, and that a file must have."""
_SOUND_BRANDS: Final = (b"aax ", b"aaxc")


def picture_kind(head: bytes) -> str | None:
    """Return the kind of a still picture that libmagic does not recognise by its brand, else None.

    The picture consists of ISO base media boxes. It is a raw photo, a HEIF file that names HEIF only among
    its compatible brands, or a JPEG 2000 file with the entropy coding of HTJ2K.
    """
    brands = _brands(head)
    return next((kind for kind, those in BRANDS if brands & those), None)


def movie_kind(head: bytes) -> str | None:
    """Return the kind of a movie whose brand or first box libmagic does not know, else None.

    These are ISO base media and QuickTime files that libmagic calls ``application/octet-stream``:
    cameras' own brands, and QuickTime files that start with padding or a preview.
    """
    at = 0
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if not brands or brands & _PICTURE_BRANDS:
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


def stream_kind(head: bytes) -> str | None:
    """Return the kind of an MPEG transport stream, else None. libmagic knows only those that begin with a
    certain packet, and none with a clock before each packet (M2TS).
    """
    for start, step in _PACKETS:
        marks = head[start : _MARKS * step : step]
        if len(marks) >= _LEAST_MARKS and not marks.strip(_MARK):
            return "video/mp2t"
    return None


def _brands(head: bytes) -> frozenset[bytes]:
    """Return the brands (major and compatible) of a file of boxes: ISO base media or JPEG 2000. Return none
    for any other file. The set has _UNREAD if some brands lie behind the head.

    All boxes of brands in the head count, because readers differ about which one they use.
    """
    brands: set[bytes] = set()
    at = 0
    while len(head) - at >= 12:
        size, kind, body = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8], at + 8
        if size == 1:
            size, body = int.from_bytes(head[at + 8 : at + 16]), at + 16
        if size < body - at:
            break
        if kind == b"ftyp" and size >= 16:
            end = min(at + size, len(head))
            brands.update((head[body : body + 4], *(head[i : i + 4] for i in range(body + 8, end, 4))))
            if at + size > SNIFF_BYTES:
                brands.add(_UNREAD)
        at += size
    return frozenset(brands)
