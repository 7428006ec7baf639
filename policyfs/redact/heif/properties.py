"""Properties of HEIF items: a picture's look (size, colour, codec), and texts and dates.

``iprp`` holds the properties one after another (``ipco``), and tables that list each item's properties by
number (``ipma``). A removed property becomes free space in its place, so that the numbers of the other
properties stay valid. In the tables, 0 (no property) replaces the number of a removed property. Sources:
ISO/IEC 23008-12 sections 6.5 and 9.3, 14496-12 section 8.11.14, 23000-22 (MIAF), 23001-17, AV1 Image File
Format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams.decoder_config import clean_config, length_bytes
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.colour_profiles import is_colour
from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import ByteSource, MemorySource, difference
from policyfs.redact.core.reader import Fields
from policyfs.redact.core.tag_names import told
from policyfs.redact.isobmff.boxes import FREE, Box, full_box, read_boxes
from policyfs.redact.isobmff.item_data import Ground

MAX_TABLE_BYTES: Final = 1 << 22
_NUMBERS_BYTES: Final = 1024
"""Maximum size of a property of numbers. A longer property may hold anything."""
_SUBTYPE_BYTES: Final = 256

_SHOWN: Final = (
    b"ispe pixi colr auxC irot imir clap pasp rloc rref rrtp clli mdcv cclv amve a1lx a1op lsel tols oinf"
    b" iscl cmpd uncC cpal splz sbpm cpat cloc snuc fpnt disi cmpC icef ndwt reve hvcC lhvC av1C avcC vvcC"
    b" evcC vvnC subs auxi prdi hdrl tilC mskC j2kH jpgC nlsd altr"
)
PROPERTIES: Final = MappingProxyType(
    {
        **dict.fromkeys(_SHOWN.split(), NOTHING),
        b"udes": Tells.PEOPLE,
        b"altt": Tells.PEOPLE,
        b"crtt": Tells.TIME,
        b"mdft": Tells.TIME,
        b"itai": Tells.TIME,
        b"taic": Tells.TIME,
        **dict.fromkeys(b"wbpr aebr afbr dobr flfo pano cmin cmex".split(), Tells.OTHER),
        b"free": NOTHING,
        b"skip": NOTHING,
    }
)
"""Type of a property -> categories of its data. One that is not listed may hold anything."""
_J2K_HEADER: Final = frozenset({b"ihdr", b"bpcc", b"cdef", b"cmap", b"pclr", b"colr"})
_SIZES: Final = MappingProxyType(
    {
        **dict.fromkeys((b"irot", b"imir", b"a1op"), 1),
        **dict.fromkeys((b"lsel", b"tols"), 6),
        **dict.fromkeys((b"pasp", b"amve", b"ndwt"), 8),
        **dict.fromkeys((b"ispe", b"rloc", b"iscl"), 12),
        **dict.fromkeys((b"mdcv", b"reve"), 24),
        **dict.fromkeys((b"clli",), 4),
        **dict.fromkeys((b"clap",), 32),
        **dict.fromkeys((b"cclv",), 40),
        b"a1lx": 13,
        b"pixi": 64,
    }
)
"""Type of a property -> its maximum size in bytes. A longer one may hold anything."""
_AUXILIARY: Final = re.compile(rb"(?:urn|tag|https?):[A-Za-z0-9:/#._,+-]{1,160}")
_WORDS: Final = frozenset({b"udes", b"altt"})
_CONFIGS: Final = frozenset({b"hvcC", b"lhvC", b"av1C", b"avcC", b"vvcC", b"evcC"})
_LENGTHS: Final = frozenset({b"hvcC", b"lhvC", b"avcC", b"vvcC"})
_LONG: Final = frozenset({*_CONFIGS, b"colr", b"icef", b"tilC", b"uncC", b"cmpd", b"snuc", b"j2kH", b"jpgC"})
_COLOURS: Final = frozenset({b"cpal"})
_SUBTYPED: Final = (
    b"urn:mpeg:hevc:2015:auxid:",
    b"urn:mpeg:avc:2015:auxid:",
    b"urn:mpeg:mpegB:cicp:systems:aux",
)


class Property(NamedTuple):
    """The part of a property for readers of items. length_size: before each NAL unit, in bytes."""

    kind: bytes
    length_size: int = 4


@dataclass(slots=True)
class Properties:
    """All properties in order, and the numbers (from 1 on) of each item's. gone: removed ones."""

    found: Found = field(default_factory=Found)
    listed: list[Property] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    of_item: dict[int, set[int]] = field(default_factory=dict)
    configurations: dict[int, tuple[int, frozenset[bytes]]] = field(default_factory=dict)

    def configuration(self, number: int) -> tuple[int, frozenset[bytes]]:
        """Return the size of an item's units' lengths (0: several), and the types of its properties."""
        if number not in self.configurations:
            listed = self.listed
            have = [listed[n - 1] for n in self.of_item.get(number, ()) if 0 < n <= len(listed)]
            sizes = {each.length_size for each in have if each.kind in _LENGTHS} or {4}
            size = sizes.pop() if len(sizes) == 1 else 0
            self.configurations[number] = size, frozenset(each.kind for each in have)
        return self.configurations[number]


def clean_properties(source: ByteSource, iprp: Box, inner: Inner, ground: Ground) -> Properties:
    """Clean the properties of items. ground: receives what goes. Raises TooMuchError, ValueError."""
    out = Properties()
    children = read_boxes(source, iprp.body, iprp.end, inner.budget)
    ground.rest(children.rest, iprp.end)
    container = children.first(b"ipco")
    if container is not None:
        _container(source, container, inner, out, ground)
    for box in children:
        if box.kind == b"ipma":
            _associations(source, box, inner, out)
        elif box != container:
            _free(box, out, ground, "properties", UNKNOWN)
    return out


def _free(box: Box, out: Properties, ground: Ground, tag: str, tells: Tells) -> None:
    ground.area(box.body - len(box.extended), box.end)
    if box.kind != FREE:
        out.found.patches += difference(box.start + 4, box.kind, FREE)
        out.found.notes.append(Note(box.start, box.size, "HEIF", tag, tells))


def _container(source: ByteSource, ipco: Box, inner: Inner, out: Properties, ground: Ground) -> None:
    boxes = read_boxes(source, ipco.body, ipco.end, inner.budget)
    ground.rest(boxes.rest, ipco.end, framed=False)
    for number, box in enumerate(boxes, 1):
        tells, new, length_size = _property(source, box, inner)
        if new is not None and _holds_more(box.kind, new, inner):
            tells, new = UNKNOWN, None
        if new is None or box.cut:
            _free(box, out, ground, f"property {box.kind.decode('latin-1')}", tells)
            out.gone.add(number)
            out.listed.append(Property(b"free"))
            continue
        changes = list(difference(box.body, source.read(box.body, len(new)), new))
        if changes:
            out.found.patches += changes
            note = Note(box.start, box.size, "HEIF", f"in property {box.kind.decode('latin-1')}", tells)
            out.found.notes.append(note)
        out.listed.append(Property(box.kind, length_size))


def _property(source: ByteSource, box: Box, inner: Inner) -> tuple[Tells, bytes | None, int]:
    """Return a property's categories, its new payload (None: it goes), and the size of units' lengths."""
    size = box.end - box.body
    tells = PROPERTIES.get(box.kind, UNKNOWN)
    if tells & inner.hide or size > _most(box.kind):
        words = box.kind in _WORDS and not tells & inner.hide and size <= MAX_TABLE_BYTES
        if not words:
            return (tells if tells & inner.hide else UNKNOWN), None, 4
    data = source.read(box.body, size)
    if box.kind in (b"free", b"skip"):
        return UNKNOWN, None, 4
    if box.kind in _WORDS:
        found = told(inner.hide, tells, data) if inner.budget.look(size) else UNKNOWN
        return found, None if found else data, 4
    if box.kind == b"colr":
        return UNKNOWN, data if is_colour(data, inner) else None, 4
    if box.kind == b"auxC":
        return UNKNOWN, _auxiliary(data), 4
    if box.kind in _CONFIGS:
        return UNKNOWN, clean_config(box.kind, data, inner), length_bytes(box.kind, data)
    if box.kind == b"j2kH":
        known = all(
            b.kind in _J2K_HEADER and not b.cut for b in read_boxes(MemorySource(data), 0, size, inner.budget)
        )
        return UNKNOWN, data if known else None, 4
    return tells, data, 4


def _holds_more(kind: bytes, data: bytes, inner: Inner) -> bool:
    asked = NOTHING if kind in _COLOURS else inner.hide & Tells.LOCATION
    return bool(told_in_kept(data, asked, inner.budget, numbers=kind in _LONG))


def _most(kind: bytes) -> int:
    return MAX_TABLE_BYTES if kind in _LONG else _SIZES.get(kind, _NUMBERS_BYTES)


def _auxiliary(data: bytes) -> bytes | None:
    """Clean ``auxC``: the purpose of an auxiliary picture as a name, and numbers; None if it goes."""
    fields = Fields(data)
    try:
        full_box(fields.take(4))
    except ValueError:
        return None
    name = fields.string()
    if bytes_tell_place(name) or _AUXILIARY.fullmatch(name) is None:
        return None
    numbers = len(data) - fields.at <= _SUBTYPE_BYTES and name.startswith(_SUBTYPED)
    return data if numbers else fields.kept()


def _associations(source: ByteSource, box: Box, inner: Inner, out: Properties) -> None:
    """Clean ``ipma``: replace the numbers of removed properties by 0. Raises ValueError."""
    if box.end - box.body > MAX_TABLE_BYTES or box.cut:
        raise ValueError("no such table of properties")
    data = source.read(box.body, box.end - box.body)
    fields, new = Fields(data), bytearray(data)
    version, flags = full_box(fields.take(4))
    width, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
    for _ in range(fields.number(4)):
        number = fields.number(4 if version else 2)
        numbers = out.of_item.setdefault(number, set())
        for _ in range(fields.number(1)):
            inner.budget.part()
            at, index = fields.at, fields.number(width) & mask
            if index in out.gone:
                new[at : at + width] = bytes(width)
            else:
                numbers.add(index)
    new[fields.at :] = bytes(len(new) - fields.at)
    out.found.patches += difference(box.body, data, bytes(new))
