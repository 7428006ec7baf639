"""Cleaner of sample descriptions (``stsd``): an entry for each format of a track's samples.

Parameters of codecs stay: without them nothing plays. Names of compressors and vendors are removed if
``device`` is hidden. Unknown names of keys, set-up data of timed metadata, and boxes that are not a codec's
are always removed. Sources: ISO/IEC 14496-12 section 8.5.2 and 14496-15; QuickTime File Format ("Video sample
description", "Sound sample description", "Timecode sample description"); Apple's Timed Metadata (``mebx``).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei, user_data
from policyfs.redact.bitstreams.decoder_config import (
    WITH_ARRAYS,
    Framing,
    clean_config,
    framing,
)
from policyfs.redact.bitstreams.nal_units import AV1, MPEG, codec_of
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.free_text import BYTES_PER_PART
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.boxes import HEADER_BYTES, Box, Boxes
from policyfs.redact.isobmff.udta import FREE_KINDS, XMP_UUID, clean_uuid
from policyfs.redact.isobmff.udta_names import key_tells

PICTURE: Final = frozenset({b"vide", b"auxv", b"pict", b"MPEG"})
SOUND: Final = frozenset({b"soun"})
TEXT: Final = frozenset({b"text", b"sbtl", b"subt", b"clcp", b"subp"})

_VISUAL_BYTES: Final = 78
_MORE_BYTES: Final = {b"CRAW": 4}
"""Format of pictures -> size of the fields that its maker added to an entry."""
_MAX_COLOUR: Final = 255
"""Maximum number of a colour in a palette. Readers skip a palette that states a larger number."""
_SOUND_BYTES: Final = (28, 44)
_HINT_BYTES: Final = 16
_TIMECODE_BYTES: Final = 26
_ENTRY_BYTES: Final = 8
_MAX_TEXT_ENTRY: Final = 4096
TEXT_FORMATS: Final = frozenset(b"tx3g text c608 c708 wvtt stpp sbtt stxt subt".split(b" "))
_MAX_STRINGS: Final = 256
_STRINGS: Final = re.compile(rb"[\x20-\x7e\0]*")

CODEC_BOXES: Final = frozenset(
    b"avcC hvcC lhvC mvcC avcE hvcE vvcC evcC lvcC av1C vpcC dvcC dvvC dvwC esds m4ds glbl d263 bitr jp2h "
    b"pasp clap colr fiel gama btrt mdcv clli amve cclv SmDm CoLL ccst auxi auxC frma enda alac chan chnl "
    b"pcmC dac3 dec3 dac4 dmlp dOps dfLa ddts udts mhaC mhaP SA3D damr adrm aabd ACLR APRG ARES AVIN AORD "
    b"wfex ADHR SMI  strf stsl st3d vexu hfov ftab tx3g vttC vlab styp mp4a dvc1 dvc2 fall cios iacb apvC "
    b"samr sawb QDCA QDCP fiel Qclp OVHS vcdr dpxe dpxi nonf pcmc hvtt cmin tims tsro snro "
    b"irot imir pixi a1op a1lx "
    b"JPEG CMP1 CDI1 chrm".split(b" ")
)
"""Boxes of a sample entry for decoding and display; one goes if it holds a hidden place."""


class Entries(NamedTuple):
    """The entries of a track's ``stsd``.

    formats: the type of each entry. sounds: for each sound entry a pair (bytes, samples): this many bytes
    hold this many samples of plain sound. tells: the categories of timed metadata, by the names of its keys.
    framings: for each entry with coded pictures, the codec and the size of the length field before each unit.
    """

    formats: tuple[bytes, ...]
    sounds: tuple[tuple[int, int], ...]
    tells: Tells
    framings: frozenset[Framing] = frozenset()


NO_ENTRIES: Final = Entries((), (), NOTHING)


def clean_entries(block: Block, box: Box, handler: bytes) -> Entries:
    """Clean the entries of a ``stsd`` box in place. Raises NotThisKindError, TooMuchError."""
    boxes = block.listed(box.body + 8, box.end)
    formats: list[bytes] = []
    sounds: list[tuple[int, int]] = []
    framings: set[Framing] = set()
    tells = NOTHING
    for entry in boxes:
        if entry.cut:
            break
        if entry.kind.startswith(b"enc"):  # Common Encryption (ISO/IEC 23001-7)
            raise NotThisKindError("a track in it is encrypted")
        formats.append(entry.kind)
        if entry.extended or entry.end - entry.body < _least(handler):
            # The entry's type stays: the decision on the samples depends on the type.
            start, tag = entry.body - len(entry.extended), name_of(entry.kind)
            block.wipe(start, entry.end, "stsd", tag, UNKNOWN, broken=True)
            continue
        block.wipe(entry.body, entry.body + 6, "stsd", "reserved", UNKNOWN)
        if handler in PICTURE:
            framings |= _visual(block, entry)
        elif handler in SOUND:
            sounds.append(_frame(block, entry))
            _sound(block, entry)
        elif entry.kind == b"mebx":
            tells |= _metadata_keys(block, entry)
        elif handler == b"hint":
            _extensions(block, entry, entry.body + _HINT_BYTES)
        elif entry.kind == b"tmcd":
            _extensions(block, entry, entry.body + _TIMECODE_BYTES)
        elif handler not in TEXT or entry.kind not in TEXT_FORMATS or _is_odd(block, entry):
            _other(block, entry)
    # The bytes become zeros and not a free box: a box here would be an entry.
    block.wipe(_behind(boxes), box.end, "stsd", "junk", UNKNOWN, broken=True)
    return Entries(tuple(formats), tuple(sounds), tells, frozenset(framings))


def _behind(boxes: Boxes) -> int:
    return next((box.start for box in boxes if box.cut), boxes.rest)


def _least(handler: bytes) -> int:
    """Return the minimum size in bytes of an entry's body, for tracks with this handler."""
    if handler in PICTURE:
        return _VISUAL_BYTES
    return _SOUND_BYTES[0] if handler in SOUND else _ENTRY_BYTES


def _vendor(block: Block, entry: Box) -> None:
    if block.goes(Tells.DEVICE):
        block.wipe(entry.body + 12, min(entry.body + 16, entry.end), "stsd", "vendor", Tells.DEVICE)


def _visual(block: Block, entry: Box) -> set[Framing]:
    start, end = entry.body + 42, entry.body + 74
    _vendor(block, entry)
    name = block.data[start:end]
    if block.goes(tells := Tells.DEVICE | block.told_in_name(name)):
        block.wipe(start, end, "stsd", "compressor name", tells)
    else:
        block.wipe(start + 1 + min(name[0], 31), end, "stsd", "junk", UNKNOWN)
    at = entry.body + _VISUAL_BYTES + _MORE_BYTES.get(entry.kind, 0)
    depth, colours = block.number(at - 4, 2), block.number(at - 2, 2)
    if depth & 0x1F in (1, 2, 4, 8) and colours == 0:
        first, last = block.number(at), block.number(at + 6, 2)
        behind = at + 8 + (8 * max(0, last - first + 1) if max(first, last) <= _MAX_COLOUR else 0)
        at = behind if behind <= entry.end else at
    before = len(block.found.patches)
    boxes = _extensions(block, entry, at)
    changes = (patch.shifted(-block.offset - entry.start) for patch in block.found.patches[before:])
    # The framing is that of the result: without a decoder configuration, players look for start codes.
    cleaned, by = apply(block.data[entry.start : entry.end], changes), entry.start
    places = ((box.start - by, box.body - by, box.end - by) for box in boxes)
    said = (framing(cleaned[at + 4 : at + 8], cleaned[body:end]) for at, body, end in places)
    codec = codec_of(entry.kind)
    plain = {Framing(codec, 0)} if codec in (AV1, MPEG) else set()
    return {coded for coded in said if coded is not None} or plain


def _sound(block: Block, entry: Box) -> None:
    _vendor(block, entry)
    _extensions(block, entry, _behind_sound(block, entry))


def _behind_sound(block: Block, entry: Box) -> int:
    """Return the offset of the first box in a sound entry. It depends on the entry's version."""
    plain, longer = (entry.body + size for size in _SOUND_BYTES)
    version = block.number(entry.body + 8, 2)
    if version == 1:
        # ISO's version 1 does not have QuickTime's four numbers.
        return plain if block.data[plain + 4 : plain + 8] in CODEC_BOXES | _INSIDE.keys() else longer
    if version == 2:
        return entry.start + 72  # readers ignore the size that the entry states
    return plain


def _frame(block: Block, entry: Box) -> tuple[int, int]:
    """Return (bytes, samples) of plain sound, which players use instead of the sizes; (0, 1) if unknown."""
    body = entry.body
    channels, bits = block.number(body + 16, 2), block.number(body + 18, 2)
    version = block.number(body + 8, 2)
    if version == 1 and entry.end >= body + _SOUND_BYTES[1]:
        return block.number(body + 36), max(1, block.number(body + 28))
    if version == 2 and entry.end >= body + 64:
        return block.number(body + 56), max(1, block.number(body + 60))
    known = {b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64, b"alaw": 8, b"ulaw": 8, b"raw ": bits}
    known |= {b"twos": bits, b"sowt": bits, b"lpcm": bits, b"ipcm": bits, b"fpcm": bits, b"NONE": bits}
    if entry.kind == b"ima4":
        return 34 * channels, 64
    return channels * -(-known.get(entry.kind, 0) // 8), 1


def _extensions(block: Block, entry: Box, start: int) -> list[Box]:
    """Clean the boxes behind the fixed part of an entry. Return the boxes that are not cut off."""
    if start > entry.end:
        return []
    boxes = block.boxes(start, entry.end)
    whole = [box for box in boxes if not box.cut]
    for box in whole:
        _extension(block, box)
    block.rest(boxes, entry.end, "stsd")
    return whole


def _extension(block: Block, box: Box) -> None:
    kind = box.kind
    if kind in (b"avcC", b"av1C") or kind in WITH_ARRAYS:
        _configuration(block, box)
    elif kind in (b"esds", b"glbl") and box.size > sei.MAX_UNIT_BYTES:
        block.free(box, "stsd", broken=True)
    elif kind in (b"esds", b"glbl"):
        _rewritten(block, box, user_data.without_user_data(block.body(box), block.inner))
    elif kind in CODEC_BOXES:
        if _parameters(block, box) and kind == b"damr" and block.goes(Tells.DEVICE):
            block.wipe(box.body, min(box.body + 4, box.end), "stsd", "vendor", Tells.DEVICE)
    elif kind in (b"wave", b"sinf", b"schi", b"sv3d"):
        _container(block, box)
    elif kind in FREE_KINDS:
        block.wipe(box.body, box.end, "stsd", name_of(kind), UNKNOWN)
    elif kind == b"uuid" and box.extended != XMP_UUID:
        clean_uuid(block, box, "stsd")
    else:
        block.free(box, "stsd")


def _configuration(block: Block, box: Box) -> None:
    """Clean the messages in a decoder configuration. One that is cut off stays, if it holds no place."""
    if box.size > sei.MAX_UNIT_BYTES:
        block.free(box, "stsd", broken=True)
        return
    old = block.body(box)
    new = clean_config(box.kind, old, block.inner)
    _rewritten(block, box, old if new is None and box.kind in WITH_ARRAYS else new)


def _rewritten(block: Block, box: Box, new: bytes | None) -> None:
    if new is None or _holds_place(block, new):
        block.free(box, "stsd", broken=new is None)
    elif block.put(box.body, new):
        block.note(box.start, box.end, name_of(box.kind), "user data")


def _parameters(block: Block, box: Box) -> bool:
    if _holds_place(block, block.body(box)):
        block.free(box, "stsd")
        return False
    return True


def _holds_place(block: Block, data: bytes) -> bool:
    block.inner.budget.part(len(data) // BYTES_PER_PART)
    return bool(told_in_kept(data, block.inner.hide & Tells.LOCATION, block.inner.budget))


_WAVE_END: Final = b"\0\0\0\x08\0\0\0\0"
_INSIDE: Final = {
    b"wave": CODEC_BOXES,
    b"sinf": frozenset({b"frma", b"schm", b"schi"}),
    b"schi": frozenset({b"user", b"key ", b"iviv", b"righ", b"priv", b"tenc", b"name", b"cert"}),
    b"sv3d": frozenset({b"svhd", b"proj"}),
}


def _container(block: Block, box: Box) -> None:
    """Clean a box of boxes: parameters, protection, a projection. Children of unknown types go."""
    boxes = block.children(box)
    for child in boxes:
        if child.cut:
            break
        if child.kind == b"name" and box.kind == b"schi":
            if block.goes(tells := Tells.PEOPLE | block.told_in_name(block.body(child))):
                block.wipe(child.body, child.end, "schi", "name", tells)
        elif child.kind == b"svhd":
            if block.goes(tells := Tells.DEVICE | block.told_in_name(block.body(child))):
                block.wipe(min(child.body + 4, child.end), child.end, "svhd", "source", tells)
        elif child.kind == b"schi" and box.kind == b"sinf":
            _container(block, child)
        elif child.kind in _INSIDE[box.kind] or child.kind.startswith((b"\0\0\0\0", b"ms\0")):
            _parameters(block, child)
        else:
            block.free(child, name_of(box.kind))
    start = _behind(boxes)
    if start < box.end:
        if box.kind == b"wave" and block.data[start : min(start + 8, box.end)] == _WAVE_END:
            start += 8
        block.wipe(start, box.end, name_of(box.kind), "junk", UNKNOWN)


def _metadata_keys(block: Block, entry: Box) -> Tells:
    tells = NOTHING
    boxes = block.boxes(entry.body + _ENTRY_BYTES, entry.end)
    for box in boxes:
        if box.cut or box.kind == b"btrt":
            continue
        if box.kind != b"keys":
            block.free(box, "mebx")
            continue
        at = box.body
        while at + HEADER_BYTES <= box.end and HEADER_BYTES <= block.number(at) <= box.end - at:
            block.inner.budget.part()
            end = at + block.number(at)
            tells |= _metadata_key(block, at + HEADER_BYTES, end)
            at = end
        block.wipe(at, box.end, "mebx", "junk", UNKNOWN, broken=True)
    block.rest(boxes, entry.end, "mebx")
    return tells or UNKNOWN


def _metadata_key(block: Block, start: int, end: int) -> Tells:
    tells = NOTHING
    boxes = block.boxes(start, end)
    for box in boxes:
        if box.cut or box.kind in (b"dtyp", b"loca"):
            continue
        if box.kind != b"keyd" or box.end - box.body < 4:
            block.free(box, "mebx", broken=box.kind != b"setu")
            continue
        name = block.data[box.body + 4 : box.end]
        known = key_tells(name)
        if known == UNKNOWN and block.put(box.body + 4, b" " * len(name)):
            block.note(box.start, box.end, "mebx", "key")
        tells |= known or Tells.OTHER
    block.rest(boxes, end, "mebx")
    return tells


def _is_odd(block: Block, entry: Box) -> bool:
    """Return True if a text entry is more than boxes, colours and a font: too long, or telling."""
    return entry.size > _MAX_TEXT_ENTRY or bool(block.told_in_name(block.body(entry)))


def _other(block: Block, entry: Box) -> None:
    """Clean an entry of metadata. Short names of formats may stay; all other data is removed."""
    start = entry.body + _ENTRY_BYTES
    text = block.data[start : entry.end]
    if len(text) <= _MAX_STRINGS and _STRINGS.fullmatch(text) and not block.told_in_name(text):
        boxes = block.boxes(start, entry.end).boxes
        if not boxes or boxes[0].cut:
            return
    _extensions(block, entry, start)
