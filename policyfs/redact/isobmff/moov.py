"""The movie box (``moov``): its structure, its metadata and its tracks.

The structure is a table: the boxes allowed in each box, and their shapes. A box that is not in it
becomes ``free``; bytes behind the last entry of a table become zeros. Sizes never change, so
offsets to media data do not, either. Sources: ISO/IEC 14496-12, QuickTime File Format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import apply
from policyfs.redact.isobmff.box_edits import Block, name_of
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.stbl import Samples, SampleTable
from policyfs.redact.isobmff.stsd import NO_ENTRIES, Entries, clean_entries
from policyfs.redact.isobmff.udta import FREE_KINDS, clean_handler, clean_meta, clean_user_data, clean_uuid

MAX_MOVIE_BYTES: Final = 24 << 20
"""Size limit of a ``moov``, which indexes days of video.

It is in memory as a whole; likewise all ``moof``.
"""
_MAX_TRACKS: Final = 256
_MAX_PROTECTION_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Track:
    """One track as its boxes describe it.

    box: its ``trak``. parameters: its ``stsd``, cleaned. scattered: decryption data of its samples is
    outside of them, anywhere in the file.
    """

    box: Box
    number: int = 0
    handler: bytes = b""
    entries: Entries = NO_ENTRIES
    table: SampleTable = field(default_factory=SampleTable)
    parameters: bytes = b""
    scattered: bool = False
    _samples: Samples | None = None

    def samples(self) -> Samples:
        """Return its sample ranges. Raises TooMuchError, NotThisKindError."""
        if self._samples is None:
            self._samples = Samples(self.table)
        return self._samples


@dataclass(slots=True)
class Movie:
    """The data of a movie box that is needed to read the rest of the file.

    defaults: track id -> default sample size of its fragments (``trex``).
    """

    tracks: list[Track] = field(default_factory=list)
    defaults: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Walk:
    """State of a walk through nested boxes. where: the name of the current container."""

    block: Block
    movie: Movie
    track: Track | None = None
    where: str = "moov"


Rule = Callable[[Walk, Box], None]
"""Cleans one box in place. Raises TooMuchError, NotThisKindError."""


def clean_movie(block: Block, box: Box) -> Movie:
    """Clean a ``moov`` box in place. Raises TooMuchError, NotThisKindError."""
    walk = Walk(block, Movie())
    container(_MOOV)(walk, box)
    return walk.movie


def clean_children(block: Block, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    """Clean the boxes in [start, end) by a table of rules; remove boxes without a rule."""
    _inside(Walk(block, Movie(), None, where), start, end, rules, where)


def _inside(walk: Walk, start: int, end: int, rules: Mapping[bytes, Rule], where: str) -> None:
    boxes = walk.block.boxes(start, end)
    for child in boxes:
        if child.cut:
            break
        walk.where = where
        rules.get(child.kind, _COMMON.get(child.kind, _unknown))(walk, child)
    walk.block.rest(boxes, end, where)


def container(inside: Mapping[bytes, Rule], skip: int = 0) -> Rule:
    """Make the rule for a box that holds boxes with these rules, behind skip bytes."""

    def rule(walk: Walk, box: Box) -> None:
        _inside(walk, min(box.body + skip, box.end), box.end, inside, name_of(box.kind))

    return rule


def _unknown(walk: Walk, box: Box) -> None:
    walk.block.free(box, walk.where)


def _empty(walk: Walk, box: Box) -> None:
    walk.block.wipe(box.body, box.end, walk.where, name_of(box.kind), UNKNOWN)


def fixed_size(*sizes: int) -> Rule:
    """Make the rule for a box of numbers: keep a size by version, zero the bytes behind.

    The last size is for all higher versions.
    """

    def rule(walk: Walk, box: Box) -> None:
        if box.end == box.body:
            return
        size = sizes[min(walk.block.data[box.body], len(sizes) - 1)]
        walk.block.wipe(min(box.body + size, box.end), box.end, walk.where, name_of(box.kind), UNKNOWN)

    return rule


def _table(header: int, *widths: int) -> Rule:
    """Make the rule for a table: a header that ends with the count, entries, zeros behind.

    widths: bytes of an entry, by version.
    """

    def rule(walk: Walk, box: Box) -> None:
        data, body = walk.block.data, box.body
        if box.end < body + header:
            walk.block.free(box, walk.where, broken=True)
            return
        width = widths[min(data[body], len(widths) - 1)]
        end = body + header + width * walk.block.number(body + header - 4)
        if end < box.end:
            walk.block.wipe(end, box.end, walk.where, name_of(box.kind), UNKNOWN)
        if walk.track is not None and walk.where == "stbl":
            _keep_table(walk.track.table, box.kind, memoryview(data)[body : min(end, box.end)])

    return rule


def _keep_table(table: SampleTable, kind: bytes, payload: memoryview) -> None:
    """Keep a sample table; the first one of a kind counts, as it does for players."""
    name = kind.decode("latin-1")
    if kind in (b"stsc", b"stco", b"co64", b"stss") and not getattr(table, name):
        setattr(table, name, payload)


def _sizes(walk: Walk, box: Box) -> None:
    """Clean ``stsz`` and ``stz2``, and keep them as sample tables."""
    block, body = walk.block, box.body
    if box.end < body + 12:
        block.free(box, walk.where, broken=True)
        return
    count, bits = block.number(body + 8), 32
    if box.kind == b"stz2":
        bits = block.data[body + 7]
        if bits not in (4, 8, 16):
            raise NotThisKindError("its sample tables contradict each other")
    elif block.number(body + 4):
        count = 0
    end = body + 12 + (count * bits + 7) // 8
    if end < box.end:
        block.wipe(end, box.end, walk.where, name_of(box.kind), UNKNOWN)
    if walk.track is not None:
        table, payload = walk.track.table, memoryview(block.data)[body : min(end, box.end)]
        if box.kind == b"stsz" and not table.stsz:
            table.stsz = payload
        elif box.kind == b"stz2" and not table.stz2:
            table.stz2 = payload


_RESERVED: Final = (
    {b"mvhd": ((26, 36),), b"tkhd": ((16, 20), (24, 32))},
    {b"mvhd": ((38, 48),), b"tkhd": ((24, 28), (36, 44))},
)
"""Reserved bytes of headers by version: (start, end) in the body."""


def _dated(size: int, longer: int) -> Rule:
    """Make the rule for a full box that starts with the times of creation and change; sizes by version."""

    def rule(walk: Walk, box: Box) -> None:
        block, body = walk.block, box.body
        if box.end < body + size:
            block.free(box, walk.where, broken=True)
            return
        version = block.data[body]
        times = body + (20 if version == 1 else 12)
        for start, behind in _RESERVED[version == 1].get(box.kind, ()):
            block.wipe(body + start, body + behind, name_of(box.kind), "reserved", UNKNOWN)
        if block.goes(Tells.TIME):
            block.wipe(body + 4, times, name_of(box.kind), "creation and modification time", Tells.TIME)
        end = body + (longer if version == 1 else size)
        if end < box.end:
            block.wipe(end, box.end, walk.where, name_of(box.kind), UNKNOWN)
        if box.kind == b"tkhd" and walk.track is not None:
            walk.track.number = block.number(times)

    return rule


def _trak(walk: Walk, box: Box) -> None:
    if len(walk.movie.tracks) >= _MAX_TRACKS:
        walk.block.free(box, walk.where, broken=True)
        return
    walk.track = Track(box)
    container(_TRAK)(walk, box)
    walk.movie.tracks.append(walk.track)
    walk.track = None


def _mdia(walk: Walk, box: Box) -> None:
    """Clean ``mdia``, its handler first: the meaning of the sample entries depends on it."""
    block = walk.block
    handler = block.children(box).first(b"hdlr")
    if walk.track is not None and handler is not None and not handler.cut:
        walk.track.handler = block.data[handler.body + 8 : min(handler.body + 12, handler.end)]
    container(_MDIA)(walk, box)


def _hdlr(walk: Walk, box: Box) -> None:
    clean_handler(walk.block, box)


def _stsd(walk: Walk, box: Box) -> None:
    if walk.track is None or walk.track.entries is not NO_ENTRIES:
        walk.block.free(box, walk.where, broken=True)
        return
    block, before = walk.block, len(walk.block.found.patches)
    walk.track.entries = clean_entries(block, box, walk.track.handler)
    patches = (patch.shifted(-block.offset - box.start) for patch in block.found.patches[before:])
    walk.track.parameters = apply(block.data[box.start : box.end], patches)


def _tref(walk: Walk, box: Box) -> None:
    """Clean ``tref``, references to other tracks: their numbers stay, nothing else."""
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


def _dref(walk: Walk, box: Box) -> None:
    """Clean ``dref``, data references: "in this file" stays, other places (paths, aliases) are removed."""
    block = walk.block
    boxes = block.children(box, 8)
    for child in boxes:
        if child.cut:
            break
        block.wipe(min(child.body + 4, child.end), child.end, "dref", name_of(child.kind), UNKNOWN)
    block.rest(boxes, box.end, "dref")


def _trex(walk: Walk, box: Box) -> None:
    body = box.body
    fixed_size(24)(walk, box)
    if box.end >= body + 24:
        walk.movie.defaults[walk.block.number(body + 4)] = walk.block.number(body + 16)


_GROUPS: Final = frozenset(
    b"roll prol rap  tele sync seig alst tsas stsa scif tscl vipr refs nalm trif pase".split(b" ")
)


def _groups(walk: Walk, box: Box) -> None:
    """Clean sample groups: known types (numbers for decoders) stay, others may describe anything."""
    block = walk.block
    if block.data[box.body + 4 : box.body + 8] not in _GROUPS or box.end < box.body + 12:
        block.free(box, walk.where)


def _auxiliary(walk: Walk, box: Box) -> None:
    """Keep sizes and offsets of decryption data for protected samples; remove those of anything else."""
    block = walk.block
    flagged = block.number(box.body + 1, 3) & 1
    if box.end < box.body + 4 + 8 * flagged:
        block.free(box, walk.where, broken=True)
    elif flagged and block.data[box.body + 4 : box.body + 8] not in (b"cenc", b"cens", b"cbc1", b"cbcs"):
        block.free(box, walk.where)
    elif walk.track is not None and box.kind == b"saio" and not _points_into(block, box):
        walk.track.scattered = True


def _points_into(block: Block, box: Box) -> bool:
    """True if the offsets of a ``saio`` are all in the block itself: in a ``senc`` box, which stays."""
    body = box.body
    at = body + 4 + 8 * (block.number(body + 1, 3) & 1)
    width = 8 if block.data[body : body + 1] == b"\1" else 4
    entries = range(at + 4, min(at + 4 + width * block.number(at), box.end - width + 1), width)
    start, end = block.offset, block.offset + len(block.data)
    return all(start <= block.number(entry, width) < end for entry in entries)


def _protection(walk: Walk, box: Box) -> None:
    """Clean ``pssh`` (ISO/IEC 23001-7): a system, ids of keys, and data for that system."""
    block, body = walk.block, box.body
    at = body + 20
    if block.data[body : body + 1] == b"\1":
        at += 4 + 16 * block.number(at)
    sound = at + 4 <= box.end and at + 4 + block.number(at) == box.end and box.size <= _MAX_PROTECTION_BYTES
    if not sound or block.goes(UNKNOWN & ~Tells.LOCATION) or block.holds_place(block.body(box)):
        block.free(box, walk.where, broken=not sound)


def _padding_bits(walk: Walk, box: Box) -> None:
    """Clean ``padb``: half a byte for each sample; zeros behind."""
    block, body = walk.block, box.body
    if box.end < body + 8:
        block.free(box, walk.where, broken=True)
        return
    end = body + 8 + (block.number(body + 4) + 1) // 2
    block.wipe(min(end, box.end), box.end, walk.where, name_of(box.kind), UNKNOWN)


def _refuse(walk: Walk, box: Box) -> None:  # noqa: ARG001
    raise NotThisKindError(f"its {name_of(box.kind)} box is in a form that is not looked into")


def _meta(walk: Walk, box: Box) -> None:
    clean_meta(walk.block, box)


def _udta(walk: Walk, box: Box) -> None:
    clean_user_data(walk.block, box)


def _uuid(walk: Walk, box: Box) -> None:
    clean_uuid(walk.block, box, walk.where)


def rules(**named: Rule) -> Mapping[bytes, Rule]:
    """Return a table of rules by type."""
    return MappingProxyType({name.encode().ljust(4): rule for name, rule in named.items()})


_COMMON: Final = MappingProxyType(
    dict.fromkeys(FREE_KINDS, _empty) | {b"meta": _meta, b"udta": _udta, b"uuid": _uuid}
)
_STBL: Final = rules(
    stsd=_stsd,
    stts=_table(8, 8),
    ctts=_table(8, 8),
    cslg=fixed_size(24, 44),
    stss=_table(8, 4),
    stps=_table(8, 4),
    stsh=_table(8, 8),
    stsc=_table(8, 12),
    stsz=_sizes,
    stz2=_sizes,
    stco=_table(8, 4),
    co64=_table(8, 8),
    sdtp=lambda _walk, _box: None,
    padb=_padding_bits,
    sgpd=_groups,
    sbgp=_groups,
    csgp=_groups,
    saiz=_auxiliary,
    saio=_auxiliary,
    senc=lambda _walk, _box: None,
)
_GMHD: Final = rules(
    gmin=fixed_size(16),
    text=fixed_size(36),
    tmcd=container(rules(tcmi=fixed_size(64))),
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
    hdlr=_hdlr,
    dinf=container(_DINF),
    stbl=container(_STBL),
)
_MDIA: Final = rules(
    mdhd=_dated(24, 36),
    hdlr=_hdlr,
    elng=fixed_size(64),
    minf=container(_MINF),
)
_EDTS: Final = rules(elst=_table(8, 12, 20))
_TAPT: Final = rules(clef=fixed_size(12), prof=fixed_size(12), enof=fixed_size(12))
_TRAK: Final = rules(
    tkhd=_dated(84, 96),
    tref=_tref,
    edts=container(_EDTS),
    mdia=_mdia,
    load=fixed_size(16),
    tapt=container(_TAPT),
)
_MVEX: Final = rules(mehd=fixed_size(8, 12), trex=_trex, trep=container(rules(), skip=8))
_MOOV: Final = rules(
    mvhd=_dated(100, 112),
    trak=_trak,
    mvex=container(_MVEX),
    iods=fixed_size(64),
    pssh=_protection,
    cmov=_refuse,
)
FRAGMENT_RULES: Final = rules(
    tfdt=fixed_size(8, 12),
    sdtp=lambda _walk, _box: None,
    sgpd=_groups,
    sbgp=_groups,
    csgp=_groups,
    saiz=_auxiliary,
    saio=_auxiliary,
    senc=lambda _walk, _box: None,
)
"""Boxes of a ``traf`` other than its header and its runs."""
