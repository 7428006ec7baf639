"""Tables of a HEIF file's ``meta`` box: the items, the positions of their data, and their references.

Each function takes the payload of a box, and returns the new payload. Most functions also return the content
of the box. The new payload has the length of the old one: texts with data to hide become spaces, and bytes
that the standard does not prescribe become zeros. All functions raise ValueError if the table cannot be
understood. Sources: ISO/IEC 14496-12 section 8.11, 23008-12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.core.reader import Fields
from policyfs.redact.core.tag_names import told
from policyfs.redact.isobmff.boxes import Box, freed, full_box, read_boxes

IN_FILE: Final = 0
IN_IDAT: Final = 1
IN_ITEM: Final = 2
_WIDTHS: Final = (0, 4, 8)
_GROUPS_WITH_MORE: Final = frozenset({b"pymd", b"pano", b"tsyn", b"ster"})
_GROUP_MORE_BYTES: Final = 1024
_MEDIA_TYPE: Final = re.compile(
    rb"[a-zA-Z][\w.+-]{0,60}/[a-zA-Z][\w.+-]{0,60}(?:; ?[a-z]{1,10}=[\w-]{1,20})?"
)
_ENCODING: Final = re.compile(rb"[a-zA-Z_-]{0,20}")
_URI: Final = re.compile(rb"[a-z]{2,8}:[!-~]{0,120}")


class Item(NamedTuple):
    """An item. content, encoding: of a ``mime`` item. protected: number of its encryption, or 0."""

    number: int
    kind: bytes
    content: bytes = b""
    encoding: bytes = b""
    protected: int = 0


class Extent(NamedTuple):
    """A piece of an item's data. reference: number (from 1) of that to the item with it (IN_ITEM)."""

    offset: int
    length: int
    reference: int = 0


class Location(NamedTuple):
    """The position of an item's data. method: the origin of the offsets (IN_FILE, IN_IDAT or IN_ITEM)."""

    number: int
    method: int
    extents: tuple[Extent, ...]


class Reference(NamedTuple):
    """The references of one kind from one item to other items (an entry of ``iref``)."""

    kind: bytes
    number: int
    targets: tuple[int, ...]


@dataclass(slots=True)
class Texts:
    """Cleaner of the texts in one table. told: the categories of the data in the removed texts."""

    inner: Inner
    told: Tells = NOTHING

    def name(self, text: bytes) -> bytes:
        """Return a name, or as many spaces if it holds hidden data: later bytes keep their offsets."""
        if not text.strip():
            return text
        inner = self.inner
        known = inner.budget.look(len(text))
        tells = told(inner.hide, Tells.DEVICE | Tells.PEOPLE, text) if known else UNKNOWN
        self.told |= tells
        return b" " * len(text) if tells else text

    def term(self, text: bytes, shape: re.Pattern[bytes]) -> bytes:
        """Return a text that matches *shape* and holds no place, or as many spaces."""
        if shape.fullmatch(text) is not None and not bytes_tell_place(text):
            return text
        self.told |= UNKNOWN if text.strip(b" ") else NOTHING
        return b" " * len(text)

    def gone(self, data: bytes, tells: Tells = UNKNOWN) -> bytes:
        """Return zeros in place of these bytes, and record their categories as removed."""
        self.told |= tells if any(data) else NOTHING
        return bytes(len(data))


def inner_boxes(payload: bytes, start: int, inner: Inner) -> Iterator[Box]:
    """Yield the boxes in a payload from `start` on. Raises ValueError if a box is cut off."""
    boxes = read_boxes(MemorySource(payload), start, len(payload), inner.budget)
    for box in boxes:
        if box.cut:
            raise ValueError("a box that is cut off")
        yield box


def rebuilt(payload: bytes, start: int, boxes: list[tuple[Box, bytes]]) -> bytes:
    """Return the first *start* bytes and the new bytes of these boxes, among zeros."""
    out = bytearray(payload[:start].ljust(len(payload), b"\0"))
    for box, raw in boxes:
        out[box.start : box.end] = raw
    return bytes(out)


def handler(payload: bytes, texts: Texts) -> tuple[bytes, bytes]:
    """Clean ``hdlr``, and return the type of the items (``pict``). The name in the box is a free text."""
    fields = Fields(payload)
    fields.take(8)
    kind = fields.take(4)
    reserved = fields.take(12)
    name = texts.name(fields.string())
    if texts.inner.hide & Tells.DEVICE:
        reserved = texts.gone(reserved, Tells.DEVICE)
    head = payload[:12] + reserved + name
    return head + texts.gone(payload[len(head) :]), kind


def primary(payload: bytes) -> bytes:
    """Clean ``pitm``: the number of the item to show first."""
    fields = Fields(payload)
    version, _ = full_box(fields.take(4))
    fields.number(4 if version else 2)
    return fields.kept()


def item_infos(payload: bytes, texts: Texts) -> tuple[bytes, list[Item]]:
    """Clean ``iinf``, and return the list of items with their types."""
    fields = Fields(payload)
    version, _ = full_box(fields.take(4))
    fields.number(4 if version else 2)
    items, boxes, end = [], [], fields.at
    for box in inner_boxes(payload, fields.at, texts.inner):
        raw = payload[box.start : box.end]
        if box.kind == b"infe":
            body, item = _item_info(payload[box.body : box.end], texts)
            items.append(item)
            raw = raw[: box.body - box.start] + body
        else:
            texts.told |= UNKNOWN if raw != freed(raw) else NOTHING
            raw = freed(raw)
        boxes.append((box, raw))
        end = box.end
    texts.gone(payload[end:])
    return rebuilt(payload, fields.at, boxes), items


def _item_info(payload: bytes, texts: Texts) -> tuple[bytes, Item]:
    """Clean an ``infe`` box, the entry of one item (section 8.11.6); return the new payload and the item."""
    fields = Fields(payload)
    version, _ = full_box(fields.take(4))
    if version > 3:
        raise ValueError("an item of an unknown version")
    number = fields.number(4 if version == 3 else 2)
    protected = fields.number(2)
    kind = fields.take(4) if version >= 2 else b"mime"
    start = fields.at
    said = [fields.string()]
    if kind == b"mime":
        said += [fields.string(), fields.string()] if fields.at < len(payload) else []
    elif kind == b"uri ":
        said.append(fields.string())
    shapes = (_MEDIA_TYPE, _ENCODING) if kind == b"mime" else (_URI, _ENCODING)
    names = [texts.name(said[0]), *map(texts.term, said[1:], shapes)]
    whole = (payload[:start] + b"\0".join(names))[: len(payload)]
    # Use type and encoding as readers find them in the cleaned file. A type of spaces counts as unknown.
    content = names[1].lower() if len(names) > 1 and kind == b"mime" else b""
    encoding = names[2].lower() if len(names) > 2 else b""
    rest = texts.gone(payload[len(whole) :])
    return whole + rest, Item(number, kind, content, encoding, protected)


def locations(payload: bytes, inner: Inner) -> tuple[bytes, list[Location]]:
    """Clean ``iloc`` (section 8.11.3); an item with data in another file gets no extents."""
    fields = Fields(payload)
    version, _ = full_box(fields.take(4))
    sizes = fields.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    if version > 2 or not {offset_size, length_size, base_size, index_size} <= set(_WIDTHS):
        raise ValueError("no such item locations")
    width = index_size + offset_size + length_size
    found = []
    for _ in range(fields.number(4 if version == 2 else 2)):
        number = fields.number(4 if version == 2 else 2)
        method = fields.number(2) & 15 if version else IN_FILE
        elsewhere = fields.number(2)
        base = fields.number(base_size)
        extents = []
        count = fields.number(2)
        if count * width > len(payload) - fields.at or (count > 1 and not width):
            raise ValueError("more pieces than there is room for")
        for _ in range(count):
            inner.budget.part()
            reference = fields.number(index_size)
            offset = base + fields.number(offset_size)
            extents.append(Extent(offset, fields.number(length_size), reference))
        inner.budget.part()
        found.append(Location(number, method, () if elsewhere else tuple(extents)))
    return fields.kept(), found


def references(payload: bytes, inner: Inner) -> tuple[bytes, list[Reference]]:
    """Clean ``iref`` (section 8.11.12), and return the references."""
    fields = Fields(payload)
    version, _ = full_box(fields.take(4))
    width = 4 if version else 2
    found, boxes = [], []
    for box in inner_boxes(payload, 4, inner):
        body = Fields(payload[box.body : box.end])
        number = body.number(width)
        count = body.number(2)
        inner.budget.part(count)
        found.append(Reference(box.kind, number, tuple(body.number(width) for _ in range(count))))
        boxes.append((box, payload[box.start : box.body] + body.kept()))
    return rebuilt(payload, 4, boxes), found


def groups(payload: bytes, inner: Inner) -> bytes:
    """Clean ``grpl``: lists of items that belong together (23008-12 section 9.4)."""
    boxes = []
    for box in inner_boxes(payload, 0, inner):
        raw = payload[box.start : box.end]
        try:
            raw = raw[: box.body - box.start] + _group(box.kind, payload[box.body : box.end])
            if told_in_kept(raw, inner.hide & Tells.LOCATION, inner.budget, numbers=True):
                raw = freed(raw)
        except ValueError:
            raw = freed(raw)
        boxes.append((box, raw))
    return rebuilt(payload, 0, boxes)


def _group(kind: bytes, payload: bytes) -> bytes:
    fields = Fields(payload)
    full_box(fields.take(4))
    fields.number(4)
    fields.take(4 * fields.number(4))
    if kind in _GROUPS_WITH_MORE and len(payload) - fields.at <= _GROUP_MORE_BYTES:
        return payload
    return fields.kept()


def data_information(payload: bytes, inner: Inner) -> bytes:
    """Clean ``dinf``: the URLs of other files with data go."""
    boxes = []
    for box in inner_boxes(payload, 0, inner):
        raw = payload[box.start : box.end]
        if box.kind == b"dref":
            body = payload[box.body : box.end]
            entries = [
                (entry, body[entry.start : entry.body + 4].ljust(entry.size, b"\0"))
                for entry in inner_boxes(body, 8, inner)
            ]
            raw = raw[: box.body - box.start] + rebuilt(body, 8, entries)
        else:
            raw = freed(raw)
        boxes.append((box, raw))
    return rebuilt(payload, 0, boxes)
