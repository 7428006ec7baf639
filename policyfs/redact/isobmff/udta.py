"""Cleaners of a movie's metadata in ``udta``, ``meta`` and ``uuid`` boxes.

``udta`` holds QuickTime's international text, and boxes of 3GPP and of cameras; it may be anywhere in a
movie. ``meta`` holds a list of items, named by QuickTime keys or by iTunes' types. Any other ``meta`` (XML,
items of still pictures) is removed whole. In ``uuid``, XMP and EXIF are cleaned; projections and Sony's
profile stay. Sources: ISO/IEC 14496-12 sections 8.10 and 8.11, QuickTime File Format ("User data atoms",
"Metadata"), 3GPP TS 26.244, Adobe XMP part 3, Google's Spherical Video V1.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.boxes import HEADER_BYTES, Box
from policyfs.redact.isobmff.udta_names import ITEMS, TEXT_ATOMS, USER_DATA, free_form_tells, key_tells
from policyfs.redact.tags.id3 import clean_id3, tag_size

XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
EXIF_UUID: Final = b"JpgTiffExif->JP2"
PROFILE_UUID: Final = b"PROF" + bytes.fromhex("21d24fcebb88695cfac9c740")
IPOD_UUID: Final = bytes.fromhex("6b6840f25f244fc5ba39a51bcf0323f3")
SPHERICAL_UUID: Final = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")

FREE_KINDS: Final = frozenset({b"free", b"skip", b"wide"})
_MAX_PACKET_BYTES: Final = 4 << 20
_MAX_PICTURE_BYTES: Final = 16 << 20
_PROFILE_BYTES: Final = 1024
_IMAGE_TYPES: Final = frozenset({0, 13, 14, 27})
_TEXT_TYPES: Final = frozenset({1, 2, 3, 4, 5})
_MAX_NUMBERS: Final = 1024
_IMAGE_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8")
_SPHERICAL: Final = re.compile(
    rb"<(\w+:)?(Spherical|Stitched|ProjectionType|StereoMode|SourceCount|CroppedArea\w{1,24}|FullPano\w{1,16}|"
    rb"InitialView\w{1,20})>[A-Za-z0-9_.\s-]{0,24}</(?:\w+:)?\2>"
)
_SPHERICAL_FRAME: Final = re.compile(
    rb"<\?xml[^<>]{0,80}\?>|</?rdf:SphericalVideo(?:\s+xmlns:(?:rdf|GSpherical)=['\"][\w:/.#-]{0,80}['\"]){0,2}\s*>"
)
_ID3: Final = b"ID32"
_ID3_AT: Final = 6
_USUAL_HANDLERS: Final = frozenset(
    (
        b"VideoHandler,SoundHandler,SubtitleHandler,DataHandler,TimeCodeHandler,VideoHandle,SoundHandle,"
        b"Core Media Video,Core Media Audio,Core Media Metadata,Core Media Time Code,Core Media Data Handler,"
        b"Apple Video Media Handler,Apple Sound Media Handler,Apple Alias Data Handler,"
        b"GPAC ISO Video Handler,GPAC ISO Audio Handler,L-SMASH Video Handler,L-SMASH Audio Handler,"
        b"Bento4 Video Handler,Bento4 Sound Handler,Mainconcept Video Media Handler,"
    ).split(b",")
)
"""Names of handlers that programs write by default, and the empty name."""


def clean_user_data(block: Block, box: Box) -> None:
    """Clean a ``udta`` box in place. Raises TooMuchError."""
    boxes = block.children(box)
    for child in boxes:
        if not child.cut:
            _user_datum(block, child)
    block.rest(boxes, box.end, "udta")


def _user_datum(block: Block, box: Box) -> None:
    kind = box.kind
    if kind == b"meta":
        clean_meta(block, box)
    elif kind == b"uuid":
        clean_uuid(block, box, "udta")
    elif kind == b"XMP_":
        _xmp(block, box)
    elif kind in FREE_KINDS:
        block.wipe(box.body, box.end, "udta", name_of(kind), UNKNOWN)
    elif kind == b"CNTH":
        _thumbnail(block, box)
    else:
        tells = TEXT_ATOMS.get(kind)
        if tells is None:
            tells = USER_DATA.get(kind, UNKNOWN)
            if tells == Tells.OTHER and box.size > _MAX_NUMBERS:
                tells = UNKNOWN
        if block.goes(tells):
            block.free(box, "udta", tells)
        elif told := block.told(block.body(box)):
            block.free(box, "udta", tells | told)


def _thumbnail(block: Block, box: Box) -> None:
    """Clean Canon's thumbnail: a photo with its own EXIF, in a box inside this box."""
    boxes = block.children(box)
    inside = boxes.first(b"CNDA")
    if len(boxes.boxes) == 1 and inside is not None and inside.end == box.end and not inside.cut:
        photo = block.body(inside)
        known = photo.startswith(_IMAGE_STARTS[0]) and len(photo) <= _MAX_PICTURE_BYTES
        if known and block.replace(inside.body, len(photo), block.inner.image(photo), "udta", "CNTH"):
            return
    block.free(box, "udta")


def _xmp(block: Block, box: Box) -> None:
    if box.size > _MAX_PACKET_BYTES:
        block.free(box, "XMP", broken=True)
        return
    body = block.body(box)
    block.replace(box.body, len(body), block.inner.xmp(body), "XMP", "packet")


def clean_uuid(block: Block, box: Box, where: str) -> None:
    """Clean a ``uuid`` box in place."""
    if box.extended == XMP_UUID:
        _xmp(block, box)
        return
    body = block.body(box) if box.size <= _MAX_PACKET_BYTES else b""
    if not body:
        block.free(box, where)
    elif box.extended == EXIF_UUID:
        if not block.replace(box.body, len(body), block.inner.tiff(body), "EXIF", "block"):
            block.free(box, where, broken=True)
    elif box.extended == SPHERICAL_UUID:
        if block.put(box.body, _spherical(body, block.inner.hide)):
            block.note(box.start, box.end, where, "spherical video")
    elif box.extended == IPOD_UUID and len(body) == 4:  # a number: the devices on which the file may play
        return
    elif not (box.extended == PROFILE_UUID and _is_profile(block, box)):
        block.free(box, where)


def _is_profile(block: Block, box: Box) -> bool:
    """Return True for Sony's list of tracks and codecs (numbers), which players of MSNV files need."""
    boxes = block.children(box, 8)
    kinds = {b"FPRF": 20, b"APRF": 48, b"VPRF": 60}
    return (
        box.size <= _PROFILE_BYTES
        and boxes.rest == box.end
        and all(not child.cut and child.end - child.body <= kinds.get(child.kind, 0) for child in boxes)
    )


def _spherical(body: bytes, hide: Tells) -> bytes:
    """Return the XML with the elements of the projection alone; zeros if these tell a hidden place."""
    out = bytearray(b" " * len(body.rstrip(b"\0"))).ljust(len(body), b"\0")
    for pattern in (_SPHERICAL_FRAME, _SPHERICAL):
        for found in pattern.finditer(body):
            out[found.start() : found.end()] = found[0]
    return bytes(len(body)) if hide & Tells.LOCATION and bytes_tell_place(bytes(out)) else bytes(out)


def clean_meta(block: Block, box: Box) -> None:
    """Clean a ``meta`` box in place.

    In ISO's form, a version comes before the boxes. QuickTime's form has no version. The handler (``hdlr``)
    must be the first box: some readers search for it also in the data of the boxes before it. A second
    ``hdlr`` or ``keys`` is removed, because readers do not agree which one is valid.
    """
    skip = 0 if block.data[box.body + 4 : box.body + 8] == b"hdlr" else 4
    boxes = block.children(box, skip)
    handler = boxes.first(b"hdlr")
    if handler is None or handler.cut or handler.start != box.body + skip or block.number(box.body, skip):
        block.free(box, "meta", broken=True)
        return
    if handler.end < handler.body + 12:
        block.free(box, "meta", broken=True)
        return
    kind = block.data[handler.body + 8 : handler.body + 12]
    if kind not in (b"mdta", b"mdir", _ID3):
        block.free(box, f"meta {name_of(kind)}")
        return
    names = boxes.first(b"keys")
    keys: list[Tells] = []
    for child in boxes:
        if child.cut:
            break
        if child == handler:
            clean_handler(block, child)
        elif child == names:
            keys = _keys(block, child)
        elif child.kind == b"ilst":
            _items(block, child, keys)
        elif child.kind in FREE_KINDS:
            block.wipe(child.body, child.end, "meta", name_of(child.kind), UNKNOWN)
        elif kind != _ID3 or child.kind != _ID3 or not _id3(block, child):
            block.free(child, "meta")
    block.rest(boxes, box.end, "meta")


def _id3(block: Block, box: Box) -> bool:
    """Clean an ``ID32`` box (ID3 in MP4: a version, a language, a tag). Return False if it is none."""
    body = block.body(box) if box.size <= _MAX_PACKET_BYTES else b""
    size = tag_size(body[_ID3_AT : _ID3_AT + 10])
    at = box.body + _ID3_AT
    if any(body[:4]) or not 0 < size <= len(body) - _ID3_AT:
        return False
    done = block.replace(at, size, clean_id3(body[_ID3_AT : _ID3_AT + size], block.inner), "ID3", "tag")
    block.wipe(at + size, box.end, "ID3", "behind the tag", UNKNOWN)
    return done


def _is_usual(maker: bytes, name: bytes) -> bool:
    """Return True if programs write this maker and name by default. (QuickTime's name has a length.)"""
    text = name.rstrip(b"\0")
    short = text[1:] if text and text[0] == len(text) - 1 else text
    return short in _USUAL_HANDLERS and maker.rstrip(b"\0") in (b"", b"appl")


def clean_handler(block: Block, box: Box) -> None:
    """Clean an ``hdlr`` box.

    The box holds a name, and the maker of the component that wrote the box. Both tell the software. The name
    may also be the title of a track, and is searched: YouTube writes the date into it.
    """
    start = box.body + 12
    if block.body(box)[8:16] == b"mdirappl":  # readers recognise iTunes' lists by these bytes
        start += 4
    name = block.data[box.body + 24 : box.end]
    usual = _is_usual(block.data[box.body + 12 : box.body + 24], name)
    tells = Tells.DEVICE if usual else Tells.DEVICE | Tells.PEOPLE
    told = NOTHING if block.goes(tells) else block.told_in_name(name)
    if block.goes(tells | told):
        block.wipe(start, box.end, "hdlr", "name", tells | told)
    elif len(name) > 256:
        block.wipe(box.body + 24, box.end, "hdlr", "name", UNKNOWN, broken=True)


def _keys(block: Block, box: Box) -> list[Tells]:
    """Return the categories of each key's value, in order. Unknown names become spaces: they may tell
    anything.
    """
    at, tells = box.body + 8, []
    while at + HEADER_BYTES <= box.end:
        size = block.number(at)
        if size < HEADER_BYTES or at + size > box.end:
            break
        block.inner.budget.part()
        name = block.data[at + HEADER_BYTES : at + size]
        known = key_tells(name)
        if known == UNKNOWN and block.put(at + HEADER_BYTES, b" " * len(name)):
            block.note(at, at + size, "keys", "name")
        tells.append(known)
        at += size
    block.wipe(at, box.end, "keys", "junk", UNKNOWN, broken=True)
    return tells


def _items(block: Block, box: Box, keys: list[Tells]) -> None:
    boxes = block.listed(box.body, box.end) if keys else block.children(box)
    for item in boxes:
        if item.cut:
            break
        if item.kind in FREE_KINDS:
            block.wipe(item.body, item.end, "ilst", name_of(item.kind), UNKNOWN)
            continue
        number = int.from_bytes(item.kind)
        if number <= len(keys):
            _item(block, item, keys[number - 1] if number else UNKNOWN)
        elif item.kind == b"----":
            _item(block, item, _free_form(block, item))
        else:
            _item(block, item, ITEMS.get(item.kind, UNKNOWN))
    block.rest(boxes, box.end, "ilst")


def _free_form(block: Block, item: Box) -> Tells:
    """Return the categories of all names of a free-form item. Readers do not agree which name is valid."""
    boxes = block.children(item)
    values = b"\n".join(block.body(child)[8:] for child in boxes if child.kind == b"data")
    tells = NOTHING
    for child in boxes:
        if child.kind == b"name":
            tells |= free_form_tells(block.body(child)[4:], values)
    return tells or UNKNOWN


def _item(block: Block, item: Box, tells: Tells) -> None:
    """Clean one item. Its values are in `data` boxes; a free-form name is in `name` and `mean` boxes."""
    boxes = block.children(item)
    sound = boxes.rest == item.end and all(not child.cut for child in boxes)
    if block.goes(tells) or not sound:
        block.free(item, "ilst", tells, broken=not sound)
        return
    for child in boxes:
        if child.kind == b"data":
            _value(block, child, name_of(item.kind), picture=item.kind == b"covr")
        elif child.kind in FREE_KINDS:
            block.wipe(child.body, child.end, "ilst", name_of(child.kind), UNKNOWN)
        elif child.kind not in (b"mean", b"name", b"itif"):
            block.free(child, "ilst")
        elif told := block.told_in_name(block.body(child)):
            block.free(child, "ilst", told)


def _value(block: Block, box: Box, tag: str, *, picture: bool) -> None:
    """Clean the value of an item that stays; remove a text that tells hidden data. picture: a cover."""
    start = box.body + 8
    value = block.data[start : box.end]
    if picture or value.startswith(_IMAGE_STARTS):
        known = (
            block.number(box.body) in _IMAGE_TYPES and len(value) <= _MAX_PICTURE_BYTES and value[:1] > b"\0"
        )
        if known and block.replace(start, len(value), block.inner.image(value), "ilst", tag):
            return
        block.wipe(start, box.end, "ilst", tag, UNKNOWN, broken=True)
    elif told := block.told(value):
        block.wipe(start, box.end, "ilst", tag, told)
    elif block.number(box.body) not in _TEXT_TYPES and len(value) > _MAX_NUMBERS:
        block.wipe(start, box.end, "ilst", tag, UNKNOWN)
