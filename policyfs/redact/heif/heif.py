"""HEIF files: HEIC, AVIF and related formats (ISO/IEC 23008-12, AV1 Image File Format, MIAF).

Pictures, Exif, XMP and all other parts are items. An item has a number, a type, and pieces of data anywhere
in the file. A picture item stays if its data has the form that its type needs, such as a chain of coded units
or a JPEG; metadata in the picture is cleaned. Exif and XMP items are cleaned. The data of any other item
becomes zeros. All other bytes of the media data become zeros, too, except filler (core/filler.py). Videos of
motion photos are cleaned as videos.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams.layers import named, types_of
from policyfs.redact.bitstreams.nal_units import CODECS, walk_nals
from policyfs.redact.bitstreams.obus import walk_obus
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource, SliceSource, difference, zeros
from policyfs.redact.exif.containers import (
    MAX_BLOCK_BYTES,
    clean_exif_block,
    clean_xmp_block,
)
from policyfs.redact.heif.meta import NAME, Meta, read_meta
from policyfs.redact.heif.tables import Item
from policyfs.redact.isobmff.box_edits import name_of
from policyfs.redact.isobmff.box_file import BoxFile
from policyfs.redact.isobmff.boxes import Box, Boxes
from policyfs.redact.isobmff.item_data import Gathered
from policyfs.redact.isobmff.moov import MAX_MOVIE_BYTES
from policyfs.redact.isobmff.samples import clean_pictures
from policyfs.redact.jpeg.samsung_trailer import clean_trailer, find_trailer
from policyfs.redact.jpeg2000.codestream import walk_codestream

XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")

_RAW_PICTURES: Final = MappingProxyType(
    {
        b"grid": 12,
        b"iden": 0,
        b"iovl": 4096,
        b"tmap": 256,
    }
)
"""Type of a derived picture -> maximum size in bytes of the data that describes it."""
_PLAIN_PICTURES: Final = MappingProxyType({b"unci": b"uncC", b"mski": b"mskC"})
"""A dictionary from the types of pictures that are not coded to the property that states their format."""
_FILE_PICTURES: Final = frozenset({b"av01", b"jpeg", b"j2k1"})
_PICTURE_TYPES: Final = frozenset({b"image/jpeg", b"image/jpg"})
_VIDEO_BRANDS: Final = MappingProxyType({b"qt  ": "video/quicktime"})


def locate_heif(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a HEIF. Raises TooMuchError; NotThisKindError for tables that are not
    understood, and for a picture and metadata with the same bytes.
    """
    return _HeifFile(source, inner).locate()


class _HeifFile(BoxFile):
    name = NAME
    ftyp_bytes = 1024

    def walk(self, boxes: Boxes, end: int) -> None:
        """Clean the boxes of the file, and a second file behind them (the video of a motion photo)."""
        second = next((number for number, box in enumerate(boxes) if box.kind == b"ftyp"), None)
        if second is not None:
            boxes = Boxes(boxes.boxes[:second], self._video(boxes.boxes[second].start, end))
        super().walk(boxes, end)

    def box(self, box: Box) -> bool:
        if box.kind == b"meta":
            return self._meta(box)
        if box.kind == b"moov":
            self._movie(box)
            return True
        if box.kind == b"mpvd":
            if self._video(box.body, box.end) == box.body:
                self.ground.free(box, NAME, "motion video", broken=True)
            return True
        if box.extended == XMP_UUID:
            return self.block(box, clean_xmp_block)
        return box.kind == b"sefd" and not box.cut and self._samsung(box)

    def _samsung(self, box: Box) -> bool:
        part = SliceSource(self.source, box.body, box.end - box.body)
        trailer = find_trailer(part, 0)
        if trailer is None:
            return False
        lead = list(zeros(part, 0, trailer.start))
        notes = [Note(0, trailer.start, "SEF", "before the blocks")] if lead else []
        self.found.add(Found(lead, notes), box.body)
        self.found.add(clean_trailer(part, trailer, self.inner), box.body)
        return True

    def _video(self, start: int, end: int) -> int:
        brand = self.source.read(start + 8, 4)
        kind = _VIDEO_BRANDS.get(brand, "video/mp4")
        inside = self.inner.file(kind, SliceSource(self.source, start, end - start))
        if inside is None:
            return start
        self.found.add(inside, start)
        return end

    def _movie(self, box: Box) -> None:
        if box.size > MAX_MOVIE_BYTES or box.cut:
            raise NotThisKindError("its index of tracks is too long, or cut off")
        source, inner = self.source, self.inner
        data = source.read(box.start, box.size)
        self.movie(box, data, lambda track: clean_pictures(track, source, inner))

    def _meta(self, box: Box) -> bool:
        """Clean one ``meta`` box at the top of the file. Return False if it holds no pictures."""
        meta = read_meta(self.source, box, self.inner, self.ground)
        if meta is None:
            return False
        self.found.add(meta.found)
        for item, data in meta.items():
            self._item(item, data, meta)
        return True

    # --- items ---

    def _item(self, item: Item, data: Gathered, meta: Meta) -> None:
        if item.protected and _is_picture(item):
            raise NotThisKindError("a picture in it is encrypted")
        picture = None if item.protected else self._picture(item, data, meta)
        if picture is not None:
            self.ground.claim(data, picture, media=True)
            return
        block = None if item.protected else self._block(item, data)
        if block is not None:
            self.ground.claim(data, block, media=False)
            return
        self.ground.blank(data, Note(0, 0, NAME, f"item {name_of(item.kind)}", broken=_is_picture(item)))

    def _block(self, item: Item, data: Gathered) -> Found | None:
        packet = item.kind == b"mime" and _media_type(item) == b"application/rdf+xml"
        if data.size > MAX_BLOCK_BYTES or not (packet or item.kind == b"Exif"):
            return None
        old, inner = data.read(0, data.size), self.inner
        cleaned = clean_xmp_block(old, inner, item.encoding) if packet else clean_exif_block(old, inner)
        patches = list(difference(0, old, cleaned.data))
        return Found(patches, list(cleaned.notes) if patches else [])

    def _picture(self, item: Item, data: Gathered, meta: Meta) -> Found | None:
        kind = item.kind
        length_size, properties = meta.properties.configuration(item.number)
        if kind in CODECS and not length_size:
            return None  # readers may take either of several sizes
        if kind in CODECS:
            types = types_of(CODECS[kind], named(b" ".join((kind, *properties))))
            return walk_nals(data, types, length_size, self.inner, cut=data.cut)
        if kind == b"av01":
            return walk_obus(data, self.inner, cut=data.cut)
        if kind == b"jpeg" or (kind == b"mime" and _media_type(item) in _PICTURE_TYPES):
            if b"jpgC" in properties:
                raise NotThisKindError(
                    "the header of a JPEG picture in it is stored apart from the picture (jpgC)"
                )
            return self.inner.file("image/jpeg", data)
        if kind == b"j2k1":
            return walk_codestream(data, self.inner)
        if kind in _RAW_PICTURES:
            asked = self.inner.hide & Tells.LOCATION
            if told_in_range(data, 0, _RAW_PICTURES[kind], asked, self.inner.budget, numbers=True):
                # Zeros would be another description, which a second plan keeps.
                raise NotThisKindError("the description of a picture in it may tell a place")
            return _cut(data, _RAW_PICTURES[kind])
        return Found() if _PLAIN_PICTURES.get(kind) in properties else None


def _cut(data: Gathered, size: int) -> Found:
    """Return the changes that zero the bytes behind the description of a derived picture."""
    patches = list(zeros(data, size, data.size))
    notes = [Note(size, data.size - size, NAME, "behind an item")] if patches else []
    return Found(patches, notes)


def _is_picture(item: Item) -> bool:
    known = (CODECS, _RAW_PICTURES, _PLAIN_PICTURES, _FILE_PICTURES)
    return any(item.kind in kinds for kinds in known)


def _media_type(item: Item) -> bytes:
    return item.content.partition(b";")[0].strip()
