"""Text files beside photos: XMP sidecars, and the JSON files of Google Takeout.

Both kinds of files are small, and are cleaned as a whole in memory. Blanks replace the removed parts, so that
the files stay XML and JSON. Files that consist of places (tracks, logs) have no locator; tracks.py recognises
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.free_text import BYTES_PER_PART, told_in_text
from policyfs.redact.core.patches import ByteSource, difference
from policyfs.redact.core.tag_names import tells_time
from policyfs.redact.xmp.properties import speaks_of_place

MAX_XMP_BYTES: Final = 4 << 20
MAX_JSON_BYTES: Final = 1 << 20
"""Maximum sizes of XMP and JSON. No sidecar of a photo is larger, but logs of places are."""

_IN_TEXT: Final = LOCATION | DEVICE | TIME
"""Categories whose data a search of text may find."""

_XMP_ROOT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml\b[^>]{0,200}\?>\s*)?(?:(?>(?s:<!--.*?-->)|<\?(?:xpacket|adobe-xap-filters)\b"
    rb"[^>]{0,200}\?>)\s*)*<(?:[\w.-]{1,40}:)?(?:xmpmeta|xapmeta|RDF)\b"
)
_MEMBERS: Final = MappingProxyType(
    {
        "title": NOTHING,  # the photo's file name, by which programs find the photo
        "description": PEOPLE,
        "imageViews": OTHER,
        "creationTime": TIME,
        "modificationTime": TIME,
        "photoTakenTime": TIME,
        "photoLastModifiedTime": TIME,
        "date": TIME,
        "geoData": LOCATION,
        "geoDataExif": LOCATION,
        "people": PEOPLE,
        "sharedAlbumComments": PEOPLE,
        "url": PEOPLE | DEVICE,
        "appSource": DEVICE,
        "access": OTHER,
        "favorited": OTHER,
        "archived": OTHER,
        "trashed": OTHER,
    }
)
"""Member of a Takeout file -> categories of its value. Other members may hold anything."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')


def locate_xmp_sidecar(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in an XMP file. Raises NotThisKindError for other XML, TooMuchError."""
    data = _whole(source, MAX_XMP_BYTES)
    plain = data.replace(b"\0", b"").lstrip(b"\xff\xfe")
    if data and not plain.strip():
        return Found()  # only blanks: redaction writes them if a file is too short for an empty packet
    if _XMP_ROOT.match(plain) is None:
        raise NotThisKindError("it does not start like XMP")
    cleaned = inner.xmp(data)
    if cleaned.data == data:
        return Found()
    notes = [note._replace(broken=note.broken or note.tag == "packet") for note in cleaned.notes]
    return Found(list(difference(0, data, cleaned.data)), notes)


def locate_takeout(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in Takeout's JSON. Raises NotThisKindError, TooMuchError."""
    data = _whole(source, MAX_JSON_BYTES)
    try:
        text = data.decode("utf-8")
        objects = list(_objects(text))
    except (ValueError, RecursionError):
        raise NotThisKindError("it is not JSON in UTF-8") from None
    spans: list[_Span] = []
    for members in objects:
        spans += _spans(text, members, inner)
    return _blanked(text, data, spans)


def _whole(source: ByteSource, limit: int) -> bytes:
    if source.size > limit:
        raise TooMuchError("the file is larger than the limit for sidecars")
    return source.read(0, source.size)


class _Member(NamedTuple):
    """One member of a JSON object; offsets in characters. comma: offset of the comma before it, or -1."""

    start: int
    end: int
    comma: int
    name: str
    value: object


class _Span(NamedTuple):
    """Characters that become blanks, and the categories of their data. (A removed comma has no category.)"""

    start: int
    end: int
    name: str
    tells: Tells


@dataclass(slots=True)
class _Reader:
    """Reader of one JSON text. Its methods raise ValueError if the text is not JSON."""

    text: str
    at: int = 0
    decoder: json.JSONDecoder = field(default_factory=lambda: json.JSONDecoder(object_pairs_hook=_pairs))

    def peek(self) -> str:
        """Skip blanks; return the next character, or "" at the end."""
        found = _SPACE.match(self.text, self.at)
        self.at = self.at if found is None else found.end()
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> int:
        """Skip blanks and the character *wanted*; return its offset. Raises ValueError for any other."""
        if self.peek() != wanted:
            raise ValueError
        self.at += 1
        return self.at - 1

    def members(self) -> Iterator[_Member]:
        self.take("{")
        comma = -1
        while self.peek() != "}":
            start = self.at
            name = _STRING.match(self.text, start)
            if name is None:
                raise ValueError
            self.at = name.end()
            self.take(":")
            self.peek()
            value, self.at = self.decoder.raw_decode(self.text, self.at)
            yield _Member(start, self.at, comma, json.loads(name[0]), value)
            if self.peek() == "}":
                break
            comma = self.take(",")
            if self.peek() == "}":
                raise ValueError
        self.take("}")


def _pairs(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Return the members of a JSON object as a list. So if two members have one name, the list has both."""
    return pairs


def _objects(text: str) -> Iterator[list[_Member]]:
    reader = _Reader(text, 1 if text.startswith("\ufeff") else 0)
    if reader.peek() == "{":
        yield list(reader.members())
    else:
        reader.take("[")
        while reader.peek() != "]":
            yield list(reader.members())
            if reader.peek() == "]":
                break
            reader.take(",")
            if reader.peek() == "]":
                raise ValueError
        reader.take("]")
    if reader.peek():
        raise ValueError


def _spans(text: str, members: list[_Member], inner: Inner) -> Iterator[_Span]:
    """Yield the parts of one JSON object to remove: members, and commas that are no longer needed."""
    first = True
    for member in members:
        inner.budget.part()
        tells = _MEMBERS.get(member.name, UNKNOWN)
        if not tells & inner.hide:
            tells |= _told(
                text, member, inner.hide & LOCATION if tells == NOTHING else inner.hide, inner.budget
            )
        goes = bool(tells & inner.hide)
        if member.comma >= 0 and (goes or first):
            yield _Span(member.comma, member.comma + 1, "", NOTHING)
        if goes:
            yield _Span(member.start, member.end, member.name, tells)
        first = first and goes


def _told(text: str, member: _Member, hide: Tells, budget: Budget) -> Tells:
    """Return the categories in *hide* that a member tells; all of them if the budget for texts is used up."""
    written = " ".join(text[member.start : member.end].split())  # an array may have each number on a line
    searches = bool(hide & _IN_TEXT)
    if searches and not budget.look(len(written)):
        return hide & UNKNOWN
    told = told_in_text(written, hide & LOCATION) if searches else NOTHING
    searched = not searches or ("\\" not in written and not hide & (TIME | DEVICE))  # strings in *written*
    parts: list[object] = [member.value]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, tuple):
            told |= _MEMBERS.get(part[0], NOTHING) | (LOCATION if speaks_of_place(part[0]) else NOTHING)
            parts += part
        elif isinstance(part, str) and not searched:
            if not budget.look(len(part) + BYTES_PER_PART):
                return hide & UNKNOWN
            told |= told_in_text(part, hide) | (TIME if hide & TIME and tells_time(part) else NOTHING)
    return told & hide


def _blanked(text: str, data: bytes, spans: list[_Span]) -> Found:
    pieces: list[str] = []
    found = Found()
    done = offset = 0
    for span in spans:
        before, inside = text[done : span.start], text[span.start : span.end]
        offset += len(before.encode())
        size = len(inside.encode())
        pieces += [before, " " * size]
        if span.tells:
            known = span.name if span.name in _MEMBERS else "unknown member"
            found.notes.append(Note(offset, size, "JSON", known, span.tells))
        offset += size
        done = span.end
    pieces.append(text[done:])
    found.patches += difference(0, data, "".join(pieces).encode())
    return found
