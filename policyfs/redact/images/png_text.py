"""Texts of a PNG: tEXt, zTXt, iTXt chunks, and blocks that programs pack into them.

exiftool and ImageMagick write whole EXIF, IPTC and XMP blocks as hexadecimal text ("Raw profile type exif").
XMP also has an iTXt chunk of its own. Texts of both sorts may be deflated. A text with a known keyword
(core/tag_names.py) stays or is removed as a whole. An embedded block is cleaned in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.bounded_inflate import deflated_to, inflated
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, shifted
from policyfs.redact.core.tag_names import is_blank, is_language, told, told_by_named

XMP_KEYWORD: Final = "xml:com.adobe.xmp"
_PROFILE: Final = re.compile(r"raw profile type (?:exif|iptc|xmp|icc|icm|8bim|app1)")
_HEX: Final = re.compile(
    rb"\s{0,8}(?i:(?:exif|iptc|xmp|icc|icm|8bim|app1|generic)(?: profile)?)[ \r\t]{0,8}\n"
    rb"\s{0,20}\d{1,9}[ \r\t]{0,8}\n(?P<digits>[0-9A-Fa-f\s]*)\0*"
)
"""A metadata block in digits, with a name that programs write: any other may tell anything."""
_NOT_HEX: Final = re.compile(rb"[^0-9A-Fa-f]+")
_HEX_RUN: Final = re.compile(rb"[0-9A-Fa-f]+")
_EXIF: Final = b"Exif\0\0"
_XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_START: Final = re.compile(rb"\xef?\xbb?\xbf?\s*<(?:\?xpacket|\?xml|x:x[am]pmeta|rdf:)")
_PHOTOSHOP: Final = b"Photoshop 3.0\0"
_MAX_KEYWORD_BYTES: Final = 79


@dataclass(frozen=True, slots=True)
class _Text:
    """A text chunk. extra: an iTXt's uncommon language and its keyword in it. start: offset of the text."""

    keyword: str
    extra: bytes
    start: int
    packed: bool


def clean_text(kind: bytes, data: bytes, inner: Inner) -> tuple[Tells, Cleaned | None]:
    """Return the categories of the data in a tEXt, zTXt or iTXt chunk, and the cleaned chunk of the same
    length.

    kind: the chunk's type. data: its data. The second value is None if the chunk must be removed as a whole.
    A text that cannot be inflated is removed.
    """
    text = _parse(kind, data)
    if text is None:
        return UNKNOWN, None
    plain = data[text.start :]
    if text.packed:
        unpacked = inflated(plain, inner.budget)
        if unpacked is None:
            return UNKNOWN, None
        plain, behind = unpacked
    else:
        behind = b""
    if text.extra and told(inner.hide, Tells.PEOPLE, text.extra, inner.budget):
        return Tells.PEOPLE, None
    tells, cleaned = _clean(text.keyword, plain, inner)
    if cleaned is None:
        return tells, None
    if cleaned.data == plain and not behind:
        return tells, Cleaned(data)
    new = deflated_to(cleaned.data, len(data) - text.start) if text.packed else cleaned.data
    if new is None:
        return tells, None
    # Parts of a deflated text have no offset in the file. So each note covers the whole stream.
    notes = (
        tuple(n._replace(offset=0, length=len(new)) for n in cleaned.notes) if text.packed else cleaned.notes
    )
    return tells, Cleaned(data[: text.start] + new, shifted(notes, text.start))


def _parse(kind: bytes, data: bytes) -> _Text | None:
    keyword, found, _ = data[: _MAX_KEYWORD_BYTES + 1].partition(b"\0")
    if not found or not keyword:
        return None
    name, at = keyword.decode("latin-1"), len(keyword) + 1
    if kind == b"tEXt":
        return _Text(name, b"", at, packed=False)
    if kind == b"zTXt":
        return _Text(name, b"", at + 1, packed=True) if data[at : at + 1] == b"\0" else None
    if data[at : at + 1] not in (b"\0", b"\1") or data[at + 1 : at + 2] != b"\0":
        return None
    language, end = at + 2, data.find(b"\0", at + 2)
    start = data.find(b"\0", end + 1) + 1
    if end < 0 or not start or end - language > 64:
        return None
    tag = data[language:end]
    common = not tag or tag == b"x-default" or is_language(tag)
    extra = b"" if common and is_blank(data[end:start]) else data[language:start]
    return _Text(name, extra, start, packed=data[at] == 1)


def _clean(keyword: str, plain: bytes, inner: Inner) -> tuple[Tells, Cleaned | None]:
    name = keyword.strip().lower()
    if name == XMP_KEYWORD:
        return UNKNOWN, inner.xmp(plain)
    if _XMP_START.match(plain):  # readers recognise XMP only by its first words
        packet = inner.xmp(plain)
        return UNKNOWN, packet if _XMP_START.match(packet.data) else None
    if _PROFILE.fullmatch(name) is not None:
        return UNKNOWN, _clean_profile(plain, inner)
    tells = told_by_named(inner.hide, keyword, plain, inner.budget)
    if tells or told(inner.hide, NOTHING, keyword.encode()):
        return tells or UNKNOWN, None
    return NOTHING, Cleaned(plain)


def _clean_profile(plain: bytes, inner: Inner) -> Cleaned | None:
    match = _HEX.fullmatch(plain)
    if match is None:
        return None
    digits = _NOT_HEX.sub(b"", match["digits"])
    if not digits or len(digits) % 2:
        return None  # no digits, or an odd number: some readers take all digits, others a part
    block = bytes.fromhex(digits.decode("ascii"))
    cleaned = _clean_block(block, inner)
    if cleaned is None or cleaned.data == block:
        return cleaned and Cleaned(plain, cleaned.notes)
    fresh, at = cleaned.data.hex().encode(), 0
    new = bytearray(plain)
    for run in _HEX_RUN.finditer(plain, match.start("digits"), match.end("digits")):
        size = run.end() - run.start()
        new[run.start() : run.end()] = fresh[at : at + size]
        at += size
    return Cleaned(bytes(new), tuple(n._replace(offset=0, length=len(plain)) for n in cleaned.notes))


def _clean_block(block: bytes, inner: Inner) -> Cleaned | None:
    """Clean a block by its first bytes: the names of such chunks are often wrong."""
    for head in (_EXIF, _XMP_HEADER, _PHOTOSHOP, b""):
        if block.startswith(head):
            break
    body = block[len(head) :]
    cleaner = _cleaner(head, body, inner)
    cleaned = cleaner(body) if cleaner is not None else None
    if cleaned is None or _cleaner(head, cleaned.data, inner) != cleaner:
        return None  # readers would not recognise the cleaned block
    return Cleaned(head + cleaned.data, shifted(cleaned.notes, len(head)))


def _cleaner(head: bytes, body: bytes, inner: Inner) -> Callable[[bytes], Cleaned | None] | None:
    if head == _XMP_HEADER or _XMP_START.match(body):
        return inner.xmp
    if body[:4] in (b"II*\0", b"MM\0*"):
        return inner.tiff
    if body[:4] == b"8BIM":
        return inner.irb
    if body[:1] == b"\x1c":
        return inner.iim
    return Cleaned if body[36:40] == b"acsp" else None
