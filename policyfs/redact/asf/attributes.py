"""Named values in the header of ASF: title and author, attributes of taggers (WM/...), covers.

Values that go are left out, and the others move up. Source: "Advanced Systems Format Specification", 3.10,
3.11, 4.7, 4.8; Windows Media Format SDK, "Attribute List".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.tag_names import is_blank, is_odd_markup, plain_name, tells_of_name, told

_TITLES: Final = ("title", "author", "copyright", "description", "rating")
_TEXT, _BYTES = 0, 1
_NUMBERS: Final = MappingProxyType({2: (2, 4), 3: (4,), 4: (8,), 5: (2,), 6: (16,)})
"""Type of a value that is a number -> its possible sizes in bytes (2: true or false; 6: a GUID)."""
_NAMES: Final = MappingProxyType(
    {
        Tells.PEOPLE: (
            "albumtitle originalalbumtitle originalfilename userweburl authorurl promotionurl producer "
            "contentdistributor audiofileurl audiosourceurl contentgroupdescription subtitledescription "
            "provider"
        ),
        Tells.DEVICE | Tells.OTHER: (
            "toolname toolversion mediafoundationversion wmfsdkversion wmfsdkneeded encodingsettings "
            "deviceconformancetemplate uniquefileidentifier wmcollectionid wmcontentid wmcollectiongroupid"
        ),
        Tells.TIME: "originalreleaseyear originalreleasetime encodingtime",
        Tells.OTHER: (
            "genreid partofset beatsperminute isvbr istrusted peakvalue averagelevel vbrpeak bufferaverage "
            "mediaclassprimaryid mediaclasssecondaryid mediaprimaryclassid mediasecondaryclassid "
            "providerrating providerstyle shareduserrating mcdi parentalrating wmadrcpeakreference "
            "wmadrcpeaktarget wmadrcaveragereference wmadrcaveragetarget iscompilation category "
            "asfleakybucketpairs"
        ),
        NOTHING: "aspectratiox aspectratioy",
    }
)
_TELLS: Final = {name: tells for tells, names in _NAMES.items() for name in names.split()}
"""Name of an attribute, without ``WM/``, in the form of tag_names.plain_name -> categories of its value."""
_BLANK: Final = b" \0"
_IMAGE_KIND: Final = re.compile(rb"(?:image/)?[a-zA-Z0-9.+-]{1,20}|-->")
_PICTURE: Final = "picture"


class Form(NamedTuple):
    """The numbers before each name in a list of values.

    head: their format (struct), with the size of the name, the type and the size of the value at the last
    three places, or the size of the name alone if *behind* is set: then type and size are behind the name.
    """

    head: struct.Struct
    behind: struct.Struct | None = None


EXTENDED: Final = Form(struct.Struct("<H"), struct.Struct("<HH"))
LIBRARY: Final = Form(struct.Struct("<HHHHI"))


class _Value(NamedTuple):
    at: int
    end: int
    name: str
    kind: int
    start: int


def clean_titles(body: bytes, inner: Inner) -> Cleaned | None:
    """Clean the object with title, author, copyright, description and rating; hidden ones become zeros."""
    sizes = struct.Struct("<5H")
    if len(body) < sizes.size:
        return None
    out, at, notes = bytearray(body), sizes.size, list[Note]()
    for name, size in zip(_TITLES, sizes.unpack_from(body), strict=True):
        text = body[at : at + size]
        if not is_blank(text) and (tells := _told(name, text, inner)):
            out[at : at + size] = bytes(size)
            notes.append(Note(at, size, "ASF", name, tells))
        at += size
    if at > len(body):
        return None
    out[at:] = bytes(len(body) - at)
    return Cleaned(bytes(out), tuple(notes))


def clean_values(body: bytes, form: Form, inner: Inner) -> Cleaned | None:
    """Clean a list of named values: those that go are left out. Return None if it is no such list."""
    values, notes, kept = _values(body, form), list[Note](), list[bytes]()
    for value in values or ():
        inner.budget.part()
        data = body[value.start : value.end]
        tells, new = _judged(value, data, inner)
        if new is None:
            notes.append(Note(value.at, value.end - value.at, "ASF", value.name[:60], tells))
        else:
            notes += [note._replace(offset=note.offset + value.start) for note in new.notes]
            kept.append(body[value.at : value.start] + new.data)
    if values is None:
        return None
    return Cleaned((len(kept).to_bytes(2, "little") + b"".join(kept)).ljust(len(body), b"\0"), tuple(notes))


def _values(body: bytes, form: Form) -> list[_Value] | None:
    found, at = list[_Value](), 2
    if len(body) < at:
        return None
    try:
        for _ in range(int.from_bytes(body[:2], "little")):
            numbers = form.head.unpack_from(body, at)
            name_at = at + form.head.size
            if form.behind is None:
                name_size, kind, size = numbers[-3:]
                start = name_at + name_size
            else:
                name_size = numbers[0]
                kind, size = form.behind.unpack_from(body, name_at + name_size)
                start = name_at + name_size + form.behind.size
            if start + size > len(body):
                return None
            name = body[name_at : name_at + name_size].decode("utf-16-le", "replace").rstrip("\0")
            found.append(_Value(at, start + size, name, kind, start))
            at = start + size
    except struct.error:
        return None
    return found


def _judged(value: _Value, data: bytes, inner: Inner) -> tuple[Tells, Cleaned | None]:
    """Return the categories of a value, and its new form; None if it goes."""
    name = value.name.removeprefix("WM/")
    if told(inner.hide, NOTHING, name.encode(), inner.budget):
        return UNKNOWN, None
    if plain_name(name) == _PICTURE and value.kind == _BYTES:
        return UNKNOWN, _cover(data, inner)
    if value.kind == _TEXT:
        tells = _told(name, data, inner)
    elif value.kind == _BYTES or len(data) in _NUMBERS.get(value.kind, ()):
        numbers = tells_of(name) != UNKNOWN
        tells = tells_of(name) | told_in_kept(data, inner.hide, inner.budget, numbers=numbers)
        tells &= inner.hide
    else:
        tells = UNKNOWN
    return tells, None if tells else Cleaned(data)


def tells_of(name: str) -> Tells:
    """Return the categories of the value of an attribute; UNKNOWN if its name is unknown."""
    named = tells_of_name(name)
    return named if named != UNKNOWN else _TELLS.get(plain_name(name), UNKNOWN)


def _told(name: str, data: bytes, inner: Inner) -> Tells:
    if is_blank(data):
        return NOTHING
    return told(inner.hide, UNKNOWN if is_odd_markup(name, data) else tells_of(name), data, inner.budget)


def _cover(data: bytes, inner: Inner) -> Cleaned | None:
    """Clean a cover: its kind, its size, names of its type and of itself, and a picture. None if it goes."""
    named = next(_ends(data, 5), -1)
    about = next(_ends(data, named + 2), -1) if named >= 0 else -1
    at, text = about + 2, data[named + 2 : about]
    whole = about >= 0 and at + int.from_bytes(data[1:5], "little") == len(data)
    cleaned = (
        inner.image(data[at:]) if whole and _IMAGE_KIND.fullmatch(data[5:named].replace(b"\0", b"")) else None
    )
    if cleaned is None:
        return None
    notes = [note._replace(offset=note.offset + at) for note in cleaned.notes]
    if text.strip(_BLANK) and (tells := _told("description", text, inner)):
        notes.append(Note(named + 2, len(text), "ASF", "description", tells))
        text = _BLANK * (len(text) // 2)
    return Cleaned(data[: named + 2] + text + b"\0\0" + cleaned.data, tuple(notes))


def _ends(data: bytes, at: int) -> Iterator[int]:
    """Yield the ends of a text in UTF-16 that ends with a zero."""
    return (end for end in range(at, len(data) - 1, 2) if data[end : end + 2] == b"\0\0")
