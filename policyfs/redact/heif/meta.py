"""Cleaner of a HEIF file's ``meta`` box, and reader of its items with their data.

The data of an item are pieces of the file, of the ``idat`` box, or of another item's data (construction
methods 0, 1 and 2 of ISO/IEC 14496-12 section 8.11.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.patches import ByteSource, difference
from policyfs.redact.heif import tables
from policyfs.redact.heif.properties import MAX_TABLE_BYTES, Properties, clean_properties
from policyfs.redact.heif.tables import Extent, Item, Location, Texts
from policyfs.redact.isobmff.box_edits import name_of
from policyfs.redact.isobmff.boxes import Box, read_boxes
from policyfs.redact.isobmff.item_data import Gathered, Ground, Span

NAME: Final = "HEIF"
"""The name of the format in the records of removed parts."""
MAX_ITEM_NESTING: Final = 4
"""Maximum depth to which the data of an item may be pieces of other items' data."""

T = TypeVar("T")


def read_meta(source: ByteSource, box: Box, inner: Inner, ground: Ground) -> Meta | None:
    """Clean the tables of a ``meta`` box, and return its items. Return None if it holds no pictures.

    The handler must be the first box: ffmpeg searches for it also in the data of the boxes before it.

    ground: receives the data areas of the box. Raises TooMuchError; NotThisKindError if a table cannot be
    understood.
    """
    children = read_boxes(source, box.body + 4, box.end, inner.budget)
    handler = children.first(b"hdlr")
    if handler is None or handler.start != box.body + 4 or source.read(handler.body + 8, 4) != b"pict":
        return None
    meta = Meta(source, inner, ground)
    ground.rest(children.rest, box.end)
    try:
        for child in children:
            meta.table(child)
    except ValueError:
        raise NotThisKindError("its tables of items cannot be understood") from None
    return meta


@dataclass(slots=True)
class Meta:
    """The items of a ``meta`` box, and the changes to it."""

    source: ByteSource
    inner: Inner
    ground: Ground
    found: Found = field(default_factory=Found)
    properties: Properties = field(default_factory=Properties)
    _infos: list[Item] = field(default_factory=list)
    _idat: Box | None = None
    _places: dict[int, list[Location]] = field(default_factory=dict)
    _holders: dict[int, list[int]] = field(default_factory=dict)
    _resolved: dict[int, Gathered] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[Item, Gathered]]:
        """Yield each item with its data, once for each location that the ``iloc`` table states for it. Raises
        TooMuchError.

        If the table has an item's number twice, both locations count. Items without data are left out.
        """
        for item in self._infos:
            for location in self._places.get(item.number, ()):
                self.inner.budget.part()
                data = self._data(location, MAX_ITEM_NESTING)
                if data.size:
                    self.inner.budget.extent(data.size)
                    yield item, data

    def table(self, box: Box) -> None:
        """Read and clean one table of the ``meta`` box. Raises ValueError, TooMuchError."""
        inner, kind = self.inner, box.kind
        if kind == b"iprp":
            self.properties = clean_properties(self.source, box, inner, self.ground)
            self.found.add(self.properties.found)
        elif kind == b"idat":
            self._idat = self._idat or box
            self.ground.area(box.body, box.end)
        elif kind == b"iinf":
            self._infos += self._rewrite(box, tables.item_infos)
        elif kind == b"iloc":
            for location in self._rewrite(box, lambda data, _: tables.locations(data, inner)):
                self._places.setdefault(location.number, []).append(location)
        elif kind == b"iref":
            for reference in self._rewrite(box, lambda data, _: tables.references(data, inner)):
                if reference.kind == b"iloc":  # to items that hold data of others
                    self._holders.setdefault(reference.number, []).extend(reference.targets)
        elif kind == b"hdlr":
            self._rewrite(box, tables.handler)
        elif kind == b"pitm":
            self._rewrite(box, lambda data, _: (tables.primary(data), None))
        elif kind == b"grpl":
            self._rewrite(box, lambda data, _: (tables.groups(data, inner), None))
        elif kind == b"dinf":
            self._rewrite(box, lambda data, _: (tables.data_information(data, inner), None))
        else:
            self.ground.free(box, NAME, f"box meta/{name_of(kind)}")

    def _rewrite(self, box: Box, clean: Callable[[bytes, Texts], tuple[bytes, T]]) -> T:
        size = box.end - box.body
        if size > MAX_TABLE_BYTES or box.cut:
            raise ValueError("too long, or cut off")
        old = self.source.read(box.body, size)
        texts = Texts(self.inner)
        new, said = clean(old, texts)
        patches = list(difference(box.body, old, new))
        if patches:
            self.found.patches += patches
            tells = texts.told or UNKNOWN
            self.found.notes.append(Note(box.start, box.size, NAME, f"in {name_of(box.kind)}", tells))
        return said

    # --- places of data ---

    def _data(self, location: Location, depth: int) -> Gathered:
        """Return the pieces of the file with an item's data. A piece of length 0 is left out: writers mean
        none.
        """
        spans: list[Span] = []
        for extent in location.extents:
            if location.method == tables.IN_FILE:
                spans.append(Span(extent.offset, extent.offset + extent.length))
            elif location.method == tables.IN_IDAT and self._idat is not None:
                at = self._idat.body + extent.offset
                if at + extent.length <= self._idat.end or self._idat.cut:
                    spans.append(Span(at, at + extent.length))
            elif location.method == tables.IN_ITEM and depth:
                spans += self._piece_of_item(location.number, extent, depth)
        return Gathered(self.source, spans)

    def _piece_of_item(self, number: int, extent: Extent, depth: int) -> Iterator[Span]:
        self.inner.budget.part()
        targets = self._holders.get(number, ())
        index = max(0, extent.reference - 1)
        holders = self._places.get(targets[index]) if index < len(targets) else None
        if holders is None:
            return
        if targets[index] not in self._resolved:
            self._resolved[targets[index]] = self._data(holders[0], depth - 1)
        whole = self._resolved[targets[index]]
        for piece in whole.pieces(extent.offset, extent.offset + extent.length):
            self.inner.budget.part()
            yield piece
