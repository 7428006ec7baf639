"""Vorbis comments and FLAC's picture block, in FLAC and Ogg files.

Sources: Xiph.Org, "Vorbis I specification", 5; RFC 9639, 8.8.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note
from policyfs.redact.core.tag_names import told, told_by_named

_MAX_COMMENTS: Final = 10_000
_PICTURE_PARTS: Final = 100
"""Cost of any cover picture, in parts of the file's budget (cleaners.Budget). Files have few covers."""
_VENDOR: Final = re.compile(rb"(?:reference libFLAC|Xiph\.Org lib\w{1,10} I) [\w. ()-]{1,40}")
"""Names of libraries (vendor strings). A date in such a name is the date of the library, not of the sound."""
_IMAGE_KIND: Final = re.compile(rb"(?:image/)?[A-Za-z0-9+.-]{0,12}")
_PICTURE_KEYS: Final = ("metadata_block_picture", "coverart")


@dataclass(frozen=True, slots=True)
class Comments:
    """A cleaned list of comments. kept: its new bytes. read: the length of the old list in bytes.

    Bytes behind the last comment are not a part of the list. Offsets in *notes* (records of removed comments)
    count from the start of the list.
    """

    kept: bytes
    read: int
    notes: tuple[Note, ...]


def clean_comments(data: bytes, inner: Inner) -> Comments | None:
    """Clean the comment list at the start of data (vendor, number, comments); None if the list is broken."""
    size = int.from_bytes(data[:4], "little")
    at = 4 + size
    if at + 4 > len(data):
        return None
    vendor = data[4:at]
    count = int.from_bytes(data[at : at + 4], "little")
    if count > _MAX_COMMENTS:
        return None
    notes: list[Note] = []
    known = _VENDOR.fullmatch(vendor) is not None
    hide = inner.hide & ~Tells.TIME if known else inner.hide
    if vendor.strip(b"\0 ") and (tells := told(hide, Tells.DEVICE, vendor, inner.budget)):
        notes.append(Note(4, size, "Vorbis comment", "vendor", tells))
        vendor = b""
    at += 4
    kept: list[tuple[Note, bytes]] = []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        start, end = at + 4, at + 4 + size
        if end > len(data) or start > len(data):
            return None
        comment = data[start:end]
        tells, new = _comment(comment, inner)
        name = comment.partition(b"=")[0][:40].decode("ascii", "replace")
        note = Note(start, size, "Vorbis comment", name, tells)
        if new is not None:
            kept.append((note, new))
        if new != comment:
            notes.append(note)
        at = end
    joined = _told_together([new for _, new in kept], inner)
    notes += (note._replace(tells=inner.hide) for note, new in kept if _name(new) in joined)
    texts = [len(new).to_bytes(4, "little") + new for _, new in kept if _name(new) not in joined]
    head = len(vendor).to_bytes(4, "little") + vendor + len(texts).to_bytes(4, "little")
    return Comments(head + b"".join(texts), at, tuple(notes))


def _name(comment: bytes) -> bytes:
    return comment.partition(b"=")[0].lower()


def _told_together(comments: list[bytes], inner: Inner) -> set[bytes]:
    """Return the names of comments that tell something joined, as FFmpeg joins those of the same name."""
    values: dict[bytes, list[bytes]] = {}
    for comment in comments:
        values.setdefault(_name(comment), []).append(comment.partition(b"=")[2])
    return {
        name
        for name, parts in values.items()
        if len(parts) > 1
        and name.decode("ascii", "replace") not in _PICTURE_KEYS
        and told(inner.hide, NOTHING, b"; ".join(parts), inner.budget)
    }


def _comment(comment: bytes, inner: Inner) -> tuple[Tells, bytes | None]:
    """Return the categories of a comment, and its new bytes, as many as before; None if it goes."""
    inner.budget.part(2)
    key, equals, value = comment.partition(b"=")
    name = key.decode("ascii", "replace")
    if not equals or not key:
        return UNKNOWN, None
    if name.lower() in _PICTURE_KEYS:
        try:
            block = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return UNKNOWN, None
        if base64.b64encode(block) != value:
            return UNKNOWN, None  # base64 with too much padding: encoded again it would be shorter
        block_is_image = name.lower() == "coverart"
        cleaned = inner.image(block) if block_is_image else clean_picture(block, inner)
        if cleaned is None:
            return UNKNOWN, None
        return UNKNOWN, comment if cleaned.data == block else key + b"=" + base64.b64encode(cleaned.data)
    tells = told_by_named(inner.hide, name, value, inner.budget)
    return tells, None if tells else comment


def clean_picture(block: bytes, inner: Inner) -> Cleaned | None:
    """Clean a FLAC picture block: type, MIME type, description, sizes, picture. Bytes behind the picture
    become zeros.

    Return None if the block is not understood.
    """
    inner.budget.part(_PICTURE_PARTS)
    kind_end = 8 + int.from_bytes(block[4:8])
    about_at = kind_end + 4
    about_end = about_at + int.from_bytes(block[kind_end:about_at])
    start = about_end + 20
    end = start + int.from_bytes(block[start - 4 : start])
    if start > len(block) or kind_end > 200 or end > len(block):
        return None
    cleaned = inner.image(block[start:end])
    if cleaned is None or _IMAGE_KIND.fullmatch(block[8:kind_end]) is None:
        return None
    about = block[about_at:about_end]
    notes = [note._replace(offset=note.offset + start) for note in cleaned.notes]
    if about.strip() and (tells := told(inner.hide, Tells.PEOPLE, about, inner.budget)):
        notes.append(Note(about_at, len(about), "picture", "description", tells))
        about = b" " * len(about)
    if block[end:].strip(b"\0"):
        notes.append(Note(end, len(block) - end, "picture", "trailer", broken=True))
    new = block[:about_at] + about + block[about_end:start] + cleaned.data
    return Cleaned(new.ljust(len(block), b"\0"), tuple(notes))
