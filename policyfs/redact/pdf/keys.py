"""Categories of the entries in a PDF's dictionaries, and the removal of entries (ISO 32000-2).

Entries are judged by their keys, in every dictionary of every revision, even if nothing refers to the
dictionary any more. Key and value of a removed entry become spaces. If the dictionary must have the entry,
only the value is replaced, by a string that says nothing. If only removed entries refer to an object, pdf.py
removes the object, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import DEVICE, LOCATION, NOTHING, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.free_text import told_in
from policyfs.redact.pdf.objects import Node, blank_string, string_bytes
from policyfs.redact.pdf.private_keys import is_private, is_usual

STRINGS: Final[Mapping[bytes, Tells]] = MappingProxyType(
    {
        b"Title": PEOPLE,
        b"Author": PEOPLE,
        b"Subject": PEOPLE,
        b"Keywords": PEOPLE,
        b"Company": PEOPLE,
        b"Manager": PEOPLE,
        b"Creator": DEVICE,
        b"Producer": DEVICE,
        b"PTEX.Fullbanner": DEVICE,
        b"PTEX.FileName": DEVICE | PEOPLE,
        b"CreationDate": TIME,
        b"ModDate": TIME,
        b"SourceModified": TIME,
        b"LastModified": TIME,
        b"M": TIME,
        b"Contents": PEOPLE,
        b"RC": PEOPLE,
        b"Subj": PEOPLE,
        b"Alt": PEOPLE,
        b"Desc": PEOPLE,
        b"Reason": PEOPLE,
        b"ContactInfo": PEOPLE,
        b"Name": PEOPLE,
        b"Location": LOCATION,
        b"NM": DEVICE,
    }
)
"""Keys of strings in any dictionary -> categories. With another type of value the entry stays, except in the
document information, where readers show names and arrays, too.
"""

ANY: Final[Mapping[bytes, Tells]] = MappingProxyType(
    {
        b"PieceInfo": UNKNOWN,
        b"SpiderInfo": UNKNOWN,
        b"EmbeddedFiles": UNKNOWN,
        b"EF": UNKNOWN,
        b"RF": UNKNOWN,
        b"AF": UNKNOWN,
        b"DSS": UNKNOWN,
        b"Cert": UNKNOWN,
        b"ExData": UNKNOWN,
        b"LGIDict": LOCATION,
        b"Measure": LOCATION,
        b"VP": LOCATION,
        b"PtData": LOCATION,
        b"GPTS": LOCATION,
        b"GCS": LOCATION,
        b"DCS": LOCATION,
        b"WKT": LOCATION,
        b"EPSG": LOCATION,
        b"DocChecksum": DEVICE,
    }
)
"""Keys -> categories, with any type of value: private data, attached files, certificates, places."""

INFO: Final[Mapping[bytes, Tells]] = MappingProxyType(
    {
        b"Copyright": PEOPLE,
        b"Marked": PEOPLE,
        b"Comments": PEOPLE,
        b"WebStatement": PEOPLE,
        b"CreatorTool": DEVICE,
        b"AAPL:Keywords": PEOPLE,
        b"APTL:Keywords": PEOPLE,
    }
)
"""Further keys of the document information -> categories. Any other may hold anything."""

_STANDARD: Final = re.compile(rb"PDF/X-\d[0-9A-Za-z]{0,3}(?::\d{4})?")
_STANDARD_VALUES: Final = MappingProxyType(
    {
        b"Trapped": re.compile(rb"True|False|Unknown|null"),
        b"GTS_PDFXVersion": _STANDARD,
        b"GTS_PDFXConformance": _STANDARD,
    }
)
"""Key of the document information -> its values in the standards. Any other tells anything."""

_PLACES: Final = re.compile(
    rb"(?i:gps|latitude|longitude|geo(?:bounds|data|hash|json|loc|point|pos|ref|tag)|coordinates|country|altitude)"
    rb"|(?i:sublocation|landmark|municipality|postal|postcode|zipcode)"
    rb"|(?:(?<![A-Za-z])(?:location|city|place|venue|street|town|village|address)"
    rb"|Location|City|Place|Venue|Street|Town|Village|Address)(?![a-z])"
    rb"|(?<![A-Za-z])(?:[Ll]at|[Ll]on|[Ll]ng|(?i:geo))(?![A-Za-z])"
)
"""Keys of places. An entry goes unless its value holds a reference or a typed dictionary: in resources and
destinations, programs choose names freely.
"""
_LANGUAGE: Final = re.compile(rb"(?:[A-Za-z]{2,3}(?:[-_](?:[A-Za-z]{4}|[A-Za-z]{2}|\d{3})){0,2} ?)?")
"""A language, perhaps with a script and a country. Any other Lang may be any text."""
_SHORTEST: Final = 8
"""A string shorter than this, parentheses included, holds no coordinates that free_text.py would find."""
_TRAILER_ID: Final = b"ID"
_FIELD: Final = frozenset({b"FT", b"Kids"})
_ANY_DATE: Final = Node("string", 0, text=b"(D:2000)")
"""Sample string. It stands for the string to which an entry refers, because that string is not read yet."""
_DATE: Final = re.compile(rb"(?:\xfe\xff)?\0?(?:D\0?:)?\0?(?:19|20|\x001\x009|2\0?0)")


@dataclass(slots=True)
class Edits:
    """The edits of one object, and the references that stay in the object.

    blanks: the ranges that become spaces. taken: the removed values, each as (start, length, key,
    categories), for the records of removed parts. metadata: the objects to which its Metadata entries refer.
    symbols: the objects with shared symbols of JBIG2 pictures. named: True if a name tells a place.
    """

    blanks: list[tuple[int, int]] = field(default_factory=list)
    strings: list[tuple[int, bytes]] = field(default_factory=list)
    taken: list[tuple[int, int, bytes, Tells]] = field(default_factory=list)
    refs: set[int] = field(default_factory=set)
    metadata: set[int] = field(default_factory=set)
    symbols: set[int] = field(default_factory=set)
    named: bool = False
    texts: dict[int, Tells] = field(default_factory=dict)
    """Object to which a kept entry refers -> hidden categories that the entry gives to a string."""

    def check(self) -> None:
        """Raise NotThisKindError if a name in an object that stays tells a place."""
        if self.named:
            raise NotThisKindError("a name in it, such as that of a font, tells a place")

    def applied(self, text: bytes) -> bytes:
        """Return the object's text with the edits applied."""
        out = bytearray(text)
        for start, end in self.blanks:
            out[start:end] = b" " * (end - start)
        for start, new in self.strings:
            out[start : start + len(new)] = new
        return bytes(out)


def edit(node: Node, hide: Tells, budget: Budget, *, info: bool = False, trailer: bool = False) -> Edits:
    """Return the edits that remove the data of the categories *hide* from one object.

    info: True for a document information dictionary. trailer: True for a trailer. Raises TooMuchError if the
    budget for texts is used up. (To remove all further strings without a search would break the document.)
    Raises NotThisKindError if the document information is an array or a string: readers show it whole.
    """
    if info and node.kind not in ("dict", "word"):
        raise NotThisKindError("its document information is not a dictionary")
    edits = Edits()
    waiting = [node]
    informations = [node] if info else []
    while waiting:
        here = waiting.pop()
        if here.kind == "dict":
            informs = any(here is each for each in informations)
            for key, at, value in here.members:
                tells = _told(here, key, value, informs, trailer and here is node)
                if _is_information(here, key, value, trailer and here is node):
                    informations.append(value)
                if informs and not tells & hide:
                    tells |= _told_in_parts(value, hide, budget)
                if not tells & hide:
                    if key == b"Metadata" and value.kind == "ref":
                        edits.metadata.add(value.number)
                    if key == b"JBIG2Globals" and value.kind == "ref":
                        edits.symbols.add(value.number)
                    if value.kind == "ref" and (aside := _told(here, key, _ANY_DATE, False, False) & hide):
                        edits.texts[value.number] = edits.texts.get(value.number, NOTHING) | aside
                    waiting.append(value)
                else:
                    _take(edits, here, key, at, value, tells, info=informs)
        elif here.kind == "array":
            waiting += here.items
        elif here.kind == "ref":
            edits.refs.add(here.number)
        elif here.kind in ("string", "name") and len(here.text) >= _SHORTEST:
            _search(edits, here, hide, budget)
    return edits


def _search(edits: Edits, value: Node, hide: Tells, budget: Budget) -> None:
    """Silence a string that tells hidden data. Note a place in a name, to which others may refer."""
    named = value.kind == "name"
    if named and (_is_plain_words(value.text) or not hide & LOCATION):
        return
    if told := _told_in_strings([value], LOCATION if named else hide, budget):
        if named:
            edits.named = True
        else:
            _silence(edits, value, b"text", told)


def silenced(node: Node, tells: Tells) -> Edits:
    """Return the edits that remove the data of an object to which a kept entry refers.

    The key of the entry is one of STRINGS, or names a place. tells: the categories of the key. A string is
    replaced by a string that says nothing. The content of an array or a dictionary becomes spaces if *tells*
    has LOCATION, and if the object is plain (_is_plain). There are no edits for any other object.

    node: the object after its own edits. Without its removed entries, the object may have become such an
    array or dictionary.
    """
    edits = Edits()
    if node.kind == "string":
        _silence(edits, node, b"text", tells)
    elif tells & LOCATION and node.kind in ("array", "dict") and _is_plain(node):
        size = 2 if node.kind == "dict" else 1
        if node.items or node.members:
            edits.blanks.append((node.start + size, node.end - size))
            edits.taken.append((node.start, node.end - node.start, b"place", tells))
    return edits


def _is_plain(node: Node) -> bool:
    values = [*node.items, *(value for _, _, value in node.members)]
    return all(
        value.kind in ("string", "word") or (value.kind == "array" and _is_plain(value)) for value in values
    )


def _told(node: Node, key: bytes, value: Node, info: bool, trailer: bool) -> Tells:
    if key in ANY or _is_sound(node, key):
        return ANY.get(key, UNKNOWN)
    if info and key not in STRINGS:
        usual = key in _STANDARD_VALUES and _STANDARD_VALUES[key].fullmatch(_text_of(value))
        return NOTHING if usual else INFO.get(key, UNKNOWN)
    if _PLACES.search(key) and _refers_to_none(value):
        return LOCATION
    if is_private(node, key, trailer=trailer) and (trailer or not is_usual(key, value)):
        return UNKNOWN
    if trailer and key == _TRAILER_ID:
        return DEVICE
    if trailer and key == b"Info" and value.kind not in ("ref", "word", "dict"):
        return UNKNOWN
    if info and value.kind != "string":
        return NOTHING if value.text == b"null" else STRINGS[key]
    if value.kind != "string":  # the rich text of a comment may be a stream
        rich = key == b"RC" and value.kind == "ref" and node.get(b"Subtype") is not None
        return PEOPLE if rich else NOTHING
    if node.get(b"EF") is not None and key in (b"F", b"UF", b"DOS", b"Mac", b"Unix", b"Desc", b"ID"):
        return UNKNOWN
    if node.get(b"ByteRange") is not None and key == b"Contents":
        return UNKNOWN
    if key == b"T" and node.get(b"Subtype") is not None and not _is_field(node):
        return PEOPLE
    if key == b"Name" and node.name(b"Type") != b"Sig" and node.get(b"ByteRange") is None:
        return NOTHING
    if key == b"M" and not (_is_annotation(node) or _DATE.match(string_bytes(value.text))):
        return NOTHING
    return STRINGS.get(key, NOTHING) if key != b"Lang" or _is_language(value) else UNKNOWN


def _is_language(value: Node) -> bool:
    plain = string_bytes(value.text).replace(b"\0", b"").removeprefix(b"\xfe\xff")
    return _LANGUAGE.fullmatch(plain) is not None


def _is_information(node: Node, key: bytes, value: Node, trailer: bool) -> bool:
    """Return True for document information that is no object of its own: MuPDF writes it into the catalog."""
    here = key == b"Info" and value.kind == "dict"
    return here and (trailer or is_private(node, key, trailer=False))


def _is_sound(node: Node, key: bytes) -> bool:
    """Return True if an entry refers to a recorded sound: of an annotation or of an action (Sound)."""
    return key == b"Sound" and key in (node.name(b"Subtype"), node.name(b"S"))


_DIGITS: Final = b"0123456789"
_PLAIN: Final = bytes(range(0x20, 0x7F)).replace(b"\\", b"")


def _is_plain_words(text: bytes) -> bool:
    """Return True for an unescaped ASCII string with one digit at most, as bookmarks: it need not be
    searched.
    """
    return len(text) - len(text.translate(None, _DIGITS)) < 2 and not text.translate(None, _PLAIN)


def _told_in_strings(nodes: list[Node], hide: Tells, budget: Budget) -> Tells:
    """Return the categories of strings and names, searched as one text. Raises TooMuchError."""
    asked = hide & (LOCATION | TIME)
    if len(nodes) == 1 and nodes[0].text.startswith(b"(") and _is_plain_words(nodes[0].text):
        return NOTHING
    size = sum(len(node.text) // (2 if node.text.startswith(b"<") else 1) for node in nodes)
    if asked and not budget.look(size):
        raise TooMuchError("too much text to search")
    return told_in(b", ".join(map(_text_of, nodes)), asked)


def _text_of(node: Node) -> bytes:
    return string_bytes(node.text) if node.kind == "string" else node.text


def _told_in_parts(value: Node, hide: Tells, budget: Budget) -> Tells:
    """Return those of *hide* that the names and strings of a value tell as one text, as readers show them."""
    if value.kind == "string":
        return NOTHING
    waiting, found = [value], []
    while waiting:
        here = waiting.pop()
        if here.kind in ("name", "string"):
            found.append(here)
        waiting += (*reversed(here.items), *(inside for _, _, inside in here.members))
    return _told_in_strings(found, hide, budget)


def _is_annotation(node: Node) -> bool:
    """Return True if a dictionary is an annotation. Its M is a date in any form."""
    return node.get(b"Subtype") is not None and node.get(b"Rect") is not None


def _is_field(node: Node) -> bool:
    """Return True for a form field, whose T is a name for programs; in any other annotation, the author."""
    kind = node.name(b"Subtype")
    return kind == b"Widget" or (not kind and any(node.get(name) for name in _FIELD))


def _refers_to_none(value: Node) -> bool:
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if here.kind == "ref" or here.name(b"Type"):
            return False
        waiting += (*here.items, *(inside for _, _, inside in here.members))
    return True


def _take(edits: Edits, node: Node, key: bytes, at: int, value: Node, tells: Tells, *, info: bool) -> None:
    """Remove an entry in *edits*; only silence its value if the dictionary needs it (info: it does not)."""
    if key == _TRAILER_ID and value.kind == "array":
        for item in value.items:
            if item.kind == "string":
                _silence(edits, item, key, tells)
        return
    needed = node.get(b"ByteRange") is not None or (key == b"Title" and node.get(b"Parent") is not None)
    if needed and value.kind == "string" and not info:
        _silence(edits, value, key, tells)
        return
    edits.blanks.append((at, value.end))
    edits.taken.append((at, value.end - at, key, tells))


def _silence(edits: Edits, value: Node, key: bytes, tells: Tells) -> None:
    new = blank_string(value.text)
    if new != value.text:
        edits.strings.append((value.start, new))
        edits.taken.append((value.start, len(new), key, tells))
