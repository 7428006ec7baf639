"""Lists of texts in RIFF files, and chunks that WAV and AVI files share.

Sources: Multimedia Programming Interface 1.0; Exif 2.32 4.5 for "exif" lists.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import SliceSource
from policyfs.redact.core.tag_names import told
from policyfs.redact.riff.chunks import HEAD_BYTES, JUNK, Chunk, chunks, drop, pad, printable
from policyfs.redact.tags.id3 import clean_id3, tag_size

LIST: Final = b"LIST"
LISTS: Final = (b"INFO", b"INF0", b"exif", b"adtl")
_MOST_TEXTS: Final = 2000
_P: Final = Tells.PEOPLE
NAMES: Final = MappingProxyType(
    {
        Tells.LOCATION: "IARL ICNT ILOC IBSU LOCA",
        Tells.DEVICE: "ISFT IENC ISRF IMED ITCH ecor emdl VMAJ VMIN",
        Tells.TIME: "ICRD IDIT IDPI IYER TCOD TCDO YEAR DTIM etim ISMP",
        Tells.PEOPLE: (
            "IART INAM ICMT ICOP IENG ISBJ IKEY IMUS IWRI IPRO IPRD IEDT ICMS IDST ISTR IALB ILYR IWEB"
            " ICDS ICNM IMIT IMIU IMBI IMBU ILGU ILIU IPDS ISTD IWMU STAR TURL DIRC CODE DISP"
            " IURL ICON IRIP ITTL TITL COMM CMNT AUTH IAS1 IPRT IPUB IBPM eucm labl note ltxt"
        ),
        Tells.OTHER: (
            "IGNR ITRK IFRM IPLT ISHP ISRC ICRP IDIM ILGT ISGN ILNG IRTD LANG GENR TRCK PRT1 PRT2 TORG"
            " TVER ever erel STAT AGES RATE TLEN ICAS IAS2 IAS3 IAS4 IAS5 IAS6 IAS7 IAS8 IAS9"
        ),
    }
)
"""A dictionary from categories to the names of texts in lists. Texts with other names may tell anything."""
_TOLD: Final = {name.encode(): tells for tells, names in NAMES.items() for name in names.split()} | {
    b"IPRT": Tells.OTHER,
    b"IBPM": Tells.OTHER,
    b"ITCH": Tells.DEVICE | _P,
    b"TAPE": Tells.TIME | Tells.DEVICE | _P,
    b"IENC": Tells.DEVICE | _P,
    b"ISRC": Tells.OTHER | _P,
    b"IDPI": Tells.OTHER,
}
_XMP: Final = (b"_PMX", b"XMP_")
_ID3: Final = (b"id3 ", b"ID3 ", b"ID32", b"id32")


def clean_list(edits: Edits, chunk: Chunk) -> None:
    """Clean a list of texts. The texts that stay move up, and padding follows the list."""
    size = chunk.size
    data = edits.source.read(chunk.start, size) if size <= MAX_BLOCK_BYTES else b""
    if not data or not chunk.whole:
        drop(edits, chunk, broken=True)
        return
    kept, end, changed = [data[:4]], 4, False
    inside = SliceSource(edits.source, chunk.start, size)
    for part in chunks(inside, edits.inner, 4, size):
        text = data[part.start : part.end]
        tells = _TOLD.get(part.name, UNKNOWN)
        if part.name == JUNK or len(kept) > _MOST_TEXTS:
            found = NOTHING if part.name == JUNK and not text.strip(b"\0") else UNKNOWN
        else:
            found = told(edits.inner.hide, tells, text, edits.inner.budget)
        if found or not part.whole:
            changed = True
            edits.note(chunk.start + part.at, part.next - part.at, printable(part.name), found or UNKNOWN)
        else:
            odd = bytes(len(text) % 2)
            kept.append(data[part.at : part.end] + odd)
            changed = changed or part.next - part.end != len(odd) or data[part.end : part.next] != odd
        end = part.next
    if data[end:].strip(b"\0"):
        edits.note(chunk.start + end, size - end, "list", broken=True)
        changed = True
    if changed:
        _rewrite(edits, chunk, b"".join(kept))


def _rewrite(edits: Edits, chunk: Chunk, kept: bytes) -> None:
    """Replace a list by a shorter one and padding. After an odd list without its padding byte none is added:
    the next chunk keeps its offset.
    """
    room = chunk.next - chunk.at
    old = edits.source.read(chunk.at, room)
    missing = room - HEAD_BYTES - len(kept)
    if len(kept) == 4 or missing < 0:
        new = JUNK + chunk.size.to_bytes(4, "little") + bytes(room - HEAD_BYTES)
    elif missing >= HEAD_BYTES:
        rest = missing - HEAD_BYTES
        new = LIST + len(kept).to_bytes(4, "little") + kept + JUNK + rest.to_bytes(4, "little") + bytes(rest)
    else:
        new = LIST + (room - HEAD_BYTES).to_bytes(4, "little") + kept.ljust(room - HEAD_BYTES, b"\0")
    edits.put(chunk.at, old, new)


def clean_shared(edits: Edits, chunk: Chunk) -> bool:
    """Clean a chunk that any RIFF may hold: a list of texts, XMP or ID3. Return False for any other chunk."""
    data = edits.source.read(chunk.start, min(chunk.size, MAX_BLOCK_BYTES))
    if chunk.name == LIST and data[:4] in LISTS:
        clean_list(edits, chunk)
    elif chunk.name in _XMP and len(data) == chunk.size and chunk.whole:
        edits.block(chunk.start, data, edits.inner.xmp(data))
        pad(edits, chunk)
    elif chunk.name in _ID3 and len(data) == chunk.size and 0 < tag_size(data[:10]) <= len(data):
        size = tag_size(data[:10])
        edits.block(chunk.start, data[:size], clean_id3(data[:size], edits.inner))
        edits.zero(chunk.start + size, chunk.next, "behind ID3")
    else:
        return False
    return True
