"""The movie box (``moov``): its structure, its metadata and its tracks.

Sources: ISO/IEC 14496-12, QuickTime File Format.
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import apply
from policyfs.redact.core.tag_names import is_language
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.box_rules import BoxWalk, Rule, container, fixed_size, rules, searched, table
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.sample_boxes import SAMPLE_BOXES, TEXT, sample_flags
from policyfs.redact.isobmff.stsd import NO_ENTRIES, clean_entries
from policyfs.redact.isobmff.tracks import Movie, Track
from policyfs.redact.isobmff.udta import XMP_UUID, clean_handler

MAX_MOVIE_BYTES: Final = 24 << 20
"""Maximum size of a ``moov`` (days of video), and of all boxes of a file in memory."""
_MAX_TRACKS: Final = 256


def clean_movie(block: Block, box: Box) -> Movie:
    """Clean a ``moov`` box in place. Raises TooMuchError, NotThisKindError."""
    walk = BoxWalk(block, Movie())
    container(_MOOV)(walk, box)
    return walk.movie


def _sizes(walk: BoxWalk, box: Box) -> None:
    block, body = walk.block, box.body
    if not walk.holds(box, 12):
        return
    count, bits = block.number(body + 8), 32
    if box.kind == b"stz2":
        bits = block.data[body + 7]
        if bits not in (4, 8, 16):
            raise NotThisKindError("its sample tables contradict each other")
    elif block.number(body + 4):
        count = 0
    end = body + 12 + (count * bits + 7) // 8
    walk.trim(box, end)
    if walk.track is not None:
        walk.track.table.keep(box.kind, memoryview(block.data)[body : min(end, box.end)])


_RESERVED: Final = (
    {b"mvhd": ((26, 36),), b"tkhd": ((16, 20), (24, 32))},
    {b"mvhd": ((38, 48),), b"tkhd": ((24, 28), (36, 44))},
)
"""Reserved ranges in the bodies of headers, in versions 0 and 1."""


def _dated(size: int, longer: int) -> Rule:
    """Return the rule for a full box that starts with two times; size, longer: of its body in versions 0 and
    1. Another version is removed: some readers read it like 0, some like 1.
    """

    def rule(walk: BoxWalk, box: Box) -> None:
        block, body = walk.block, box.body
        if not walk.holds(box, size):
            return
        version = block.data[body]
        if version > 1:
            block.free(box, walk.where, broken=True)
            return
        times = body + (20 if version == 1 else 12)
        for start, behind in _RESERVED[version == 1].get(box.kind, ()):
            block.wipe(body + start, body + behind, name_of(box.kind), "reserved", UNKNOWN)
        if block.goes(Tells.TIME):
            block.wipe(body + 4, times, name_of(box.kind), "creation and modification time", Tells.TIME)
        walk.trim(box, body + (longer if version == 1 else size))
        if box.kind == b"tkhd" and walk.track is not None:
            walk.track.number = block.number(times)

    return searched(rule)


def _trak(walk: BoxWalk, box: Box) -> None:
    if len(walk.movie.tracks) >= _MAX_TRACKS:
        walk.block.free(box, walk.where, broken=True)
        return
    walk.track = Track(box)
    container({**_TRAK, b"mdia": _only(walk.block.children(box).first(b"mdia"), _mdia)})(walk, box)
    walk.movie.tracks.append(walk.track)
    walk.track = None


def _mdia(walk: BoxWalk, box: Box) -> None:
    """Clean ``mdia``, its handler first: the meaning of sample entries depends on it."""
    block = walk.block
    handler = block.children(box).first(b"hdlr")
    if handler is not None and handler.cut:
        handler = None  # it is removed, and the next look finds none
    if walk.track is not None and handler is not None:
        walk.track.handler = block.data[handler.body + 8 : min(handler.body + 12, handler.end)]
    elif walk.track is not None:
        walk.track.handler = _of_media_header(block, box)
    container({**_MDIA, b"hdlr": _only(handler, _hdlr)})(walk, box)


def _of_media_header(block: Block, box: Box) -> bytes:
    """Return the handler of a ``mdia`` box without ``hdlr``: pictures or sound, as the media header says."""
    media = block.children(box).first(b"minf")
    kinds = {inside.kind for inside in block.children(media)} if media is not None else set()
    return next((said for kind, said in ((b"vmhd", b"vide"), (b"smhd", b"soun")) if kind in kinds), b"")


def _only(first: Box | None, rule: Rule) -> Rule:
    """Return the rule that removes any box but *first*: readers use the last box of such a type."""

    def once(walk: BoxWalk, box: Box) -> None:
        if box == first:
            rule(walk, box)
        else:
            walk.block.free(box, walk.where, broken=True)

    return once


def _hdlr(walk: BoxWalk, box: Box) -> None:
    clean_handler(walk.block, box)


def _data_handler(walk: BoxWalk, box: Box) -> None:
    """Clean the ``hdlr`` of ``minf``; of another type, some readers would use it as the track's."""
    if walk.block.data[box.body + 8 : min(box.body + 12, box.end)] in _DATA_HANDLERS:
        clean_handler(walk.block, box)
    else:
        walk.block.free(box, walk.where, broken=True)


_DATA_HANDLERS: Final = frozenset({b"alis", b"url ", b"rsrc"})


_METADATA: Final = (*b"udta ilst chpl hdlr mvhd mdhd ftyp cmov".split(b" "), XMP_UUID)
"""Types of boxes with metadata. No codec has such a box."""


def _stsd(walk: BoxWalk, box: Box) -> None:
    """Clean ``stsd``. Remove it if a type of _METADATA remains in any of its bytes: each reader has other
    rules for the size of an entry's fixed part, and may find boxes where policyfs sees numbers.
    """
    if walk.track is None or walk.track.entries is not NO_ENTRIES:
        walk.block.free(box, walk.where, broken=True)
        return
    block, found = walk.block, walk.block.found
    patches, notes = len(found.patches), len(found.notes)
    entries = clean_entries(block, box, walk.track.handler)
    changes = (patch.shifted(-block.offset - box.start) for patch in found.patches[patches:])
    cleaned = apply(block.data[box.start : box.end], changes)
    if any(kind in cleaned for kind in _METADATA):
        del found.patches[patches:], found.notes[notes:]
        block.free(box, walk.where, broken=True)
        return
    walk.track.entries, walk.track.parameters = entries, cleaned


def _tref(walk: BoxWalk, box: Box) -> None:
    block = walk.block
    boxes = block.children(box)
    for child in boxes:
        if child.cut:
            break
        size = child.end - child.body
        ids = range(child.body, child.end, 4)
        if size % 4 or size > 4 * _MAX_TRACKS or any(block.number(at) > 0xFFFF for at in ids):
            block.free(child, "tref")
    block.rest(boxes, box.end, "tref")


def _dref(walk: BoxWalk, box: Box) -> None:
    block = walk.block
    boxes = block.children(box, 8)
    for child in boxes:
        if child.cut:
            break
        block.wipe(min(child.body + 4, child.end), child.end, "dref", name_of(child.kind), UNKNOWN)
    block.rest(boxes, box.end, "dref")


def _trex(walk: BoxWalk, box: Box) -> None:
    body = box.body
    fixed_size(24)(walk, box)
    if box.end >= body + 24:
        walk.movie.defaults[walk.block.number(body + 4)] = walk.block.number(body + 16)


def _language(walk: BoxWalk, box: Box) -> None:
    data = walk.block.body(box)
    tag = data[4:].partition(b"\0")[0]
    if any(data[:4]) or (tag and not is_language(tag)):
        walk.block.free(box, walk.where)
    else:
        walk.trim(box, box.body + 4 + len(tag))


def _look_of_timecode(walk: BoxWalk, box: Box) -> None:
    """Clean ``tcmi``, the look of a time code: numbers, and behind them the length and the name of a font."""
    block, at = walk.block, box.body + 24
    if not walk.holds(box, 24):
        return
    behind = at + 1 + block.number(at, 1)
    known = behind <= box.end and block.data[at + 1 : behind].lower() in _FONTS
    walk.trim(box, behind if known else at)


_FONTS: Final = frozenset(
    b",arial,chicago,courier,courier new,geneva,helvetica,lucida grande,monaco,new york,osaka,palatino,"
    b"sans-serif,serif,system,times,times new roman,verdana".split(b",")
)
"""Names of fonts in ``tcmi`` that stay, in small letters. ffmpeg writes ``Lucida Grande``."""


def _object_descriptor(walk: BoxWalk, box: Box) -> None:
    """Clean ``iods``: numbers of profiles. Remove the box if it holds an address instead of numbers."""
    if TEXT.search(walk.block.body(box)[:64]) is not None:
        walk.block.free(box, walk.where)
    else:
        fixed_size(64)(walk, box)


def _refuse(walk: BoxWalk, box: Box) -> None:  # noqa: ARG001
    raise NotThisKindError(f"its {name_of(box.kind)} box is compressed, and policyfs does not read that")


_STBL: Final = rules(
    stsd=_stsd,
    stts=table(8, 8),
    ctts=table(8, 8),
    cslg=fixed_size(24, 44),
    stss=table(8, 4),
    stps=table(8, 4),
    stsh=table(8, 8),
    stsc=table(8, 12),
    stsz=searched(_sizes),
    stz2=searched(_sizes),
    stco=table(8, 4),
    co64=table(8, 8),
    **SAMPLE_BOXES,
)


def _stbl(walk: BoxWalk, box: Box) -> None:
    dependencies = {b"sdtp": sample_flags(box, (b"stsz", b"stz2"), 8)}
    container({**_STBL, **dependencies})(walk, box)


_GMHD: Final = rules(
    gmin=fixed_size(16),
    text=fixed_size(36),
    tmcd=container(rules(tcmi=_look_of_timecode)),
    gpmd=container(rules()),
)
_DINF: Final = rules(dref=_dref)
_MINF: Final = rules(
    vmhd=fixed_size(12),
    smhd=fixed_size(8),
    hmhd=fixed_size(20),
    nmhd=fixed_size(4),
    sthd=fixed_size(4),
    gmhd=container(_GMHD),
    hdlr=_data_handler,
    dinf=container(_DINF),
    stbl=_stbl,
)
_MDIA: Final = rules(
    mdhd=_dated(24, 36),
    elng=_language,
    minf=container(_MINF),
)
_EDTS: Final = rules(elst=table(8, 12, 20))
_TAPT: Final = rules(clef=fixed_size(12), prof=fixed_size(12), enof=fixed_size(12))
_TRAK: Final = rules(
    tkhd=_dated(84, 96),
    tref=_tref,
    edts=container(_EDTS),
    load=fixed_size(16),
    tapt=container(_TAPT),
)
_MVEX: Final = rules(mehd=fixed_size(8, 12), trex=_trex, trep=container(rules(), skip=8))
_MOOV: Final = rules(
    mvhd=_dated(100, 112),
    trak=_trak,
    mvex=container(_MVEX),
    iods=searched(_object_descriptor),
    cmov=_refuse,
)
