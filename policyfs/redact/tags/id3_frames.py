"""Categories of ID3v2 frames: by their names, and of some frames by their content.

Sources: ID3v2.2.0, 2.3.0, 2.4.0 informal standards; the frames that iTunes and Windows Media write.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells

_D, _T, _P, _O = Tells.DEVICE, Tells.TIME, Tells.PEOPLE, Tells.OTHER

FRAMES: Final = MappingProxyType(
    {
        Tells.PEOPLE: (
            "TIT1 TIT2 TIT3 TPE1 TPE2 TPE3 TPE4 TCOM TEXT TOLY TOPE TOAL TOFN TALB TCOP TPUB TOWN TPRO TRSN"
            " TRSO TIPL TMCL IPLS TSOA TSOP TSOT TSO2 TSOC TSST TMOO COMM USLT SYLT USER WCOM WCOP WOAF WOAR"
            " WOAS WORS WPAY WPUB TDES TCAT TKWD TGID WFED MVNM GRP1 PCST POPM"
            " TT1 TT2 TT3 TP1 TP2 TP3 TP4 TCM TXT TOL TOA TOT TOF TAL TCR TPB IPL COM ULT SLT TST TSA TSP TS2"
            " TSC WAF WAR WAS WCM WCP WPB POP"
        ),
        Tells.TIME: "TYER TDAT TIME TRDA TORY TDRC TDOR TDRL TDTG TDEN TYE TDA TIM TRD TOR",
        Tells.DEVICE: "TSSE TSS",
        Tells.OTHER: (
            "TRCK TPOS TCON TBPM TKEY TLEN TSIZ TMED TFLT TLAN TDLY TSRC TCMP MVIN PCNT RVA2 RVAD EQUA EQU2"
            " RVRB ETCO MLLT SYTC RBUF POSS TRK TPA TCO TBP TKE TLE TSI TMT TFT TLA TDY TRC TCP CNT RVA"
            " EQU REV ETC MLL STC BUF"
        ),
    }
)
"""Categories -> names of frames. All others are unknown, except those id3.py knows by content."""

TOLD: Final = {name: tells for tells, names in FRAMES.items() for name in names.split()} | {
    "TENC": _P | _D,
    "TEN": _P | _D,
}
"""A dictionary from names of frames to their categories."""

_OTHER_NAMES: Final = (
    "AENC APIC ASPI CHAP COMR CTOC ENCR GEOB GRID ITNU LINK MCDI OWNE PRIV RGAD SEEK SIGN UFID WXXX"
    " XDOR XOLY XSOA XSOP XSOT"
)
"""Names of four characters that readers know and that are not in TOLD."""
_COMPRESSED, _LENGTH = 0x08, 0x01
_TEXT_NAME: Final = re.compile("T[A-Z0-9]{3}")

_LEVELS: Final = frozenset({b"AverageLevel", b"PeakValue"})
_WINDOWS_NUMBERS: Final = MappingProxyType(
    {
        **dict.fromkeys(_LEVELS, 4),
        **dict.fromkeys((b"WM/MediaClassPrimaryID", b"WM/MediaClassSecondaryID"), 16),
        **dict.fromkeys((b"WM/WMContentID", b"WM/WMCollectionID", b"WM/WMCollectionGroupID"), 16),
    }
)
"""Owner of a private frame of Windows Media -> size in bytes of the number in it."""
_WINDOWS_TEXTS: Final = frozenset({b"WM/Provider", b"WM/UniqueFileIdentifier"})
_MAX_PRIVATE_BYTES: Final = 256
_ITUNES: Final = re.compile(
    rb".{4}iTun(?:NORM|SMPB|PGAP|es_CDDB_(?:IDs|1|TrackNumber))\0[0-9A-Fa-f +]*\0?", re.DOTALL
)
"""A comment of iTunes with numbers: levels, silence at either end, the disc."""


def may_be_shown(name: str, flags: int, content: bytes) -> bool:
    """Return True if a reader may show the frame. Readers skip frames whose name they do not know.

    But ffmpeg takes each frame whose name starts with T for a text, if its content starts with the number of
    an encoding (0 to 3). The content may be compressed, and its length may stand before it.
    """
    if name in TOLD or name in _OTHER_NAMES.split() or _TEXT_NAME.fullmatch(name):
        return True
    if name[:1] != "T":
        return False
    first = content[:1] + (content[4:5] if flags & _LENGTH else b"")
    packed = bool(flags & _COMPRESSED)
    return any(number <= 3 or (packed and number & 0x8F == 8) for number in first)  # 8: zlib (RFC 1950)


def is_itunes_comment(plain: bytes) -> bool:
    """Return True if a COMM frame holds only numbers of iTunes."""
    return _ITUNES.fullmatch(plain) is not None


def of_private(plain: bytes) -> tuple[Tells, bytes]:
    """Return the categories and the text of a private frame. The known frames are those of Windows Media."""
    owner, zero, value = plain.partition(b"\0")
    size = _WINDOWS_NUMBERS.get(owner)
    if zero and size is not None and len(value) == size:
        return Tells.OTHER if owner in _LEVELS else _D | _P, b""
    if zero and owner in _WINDOWS_TEXTS and len(value) <= _MAX_PRIVATE_BYTES:
        return _D | _P, value
    return UNKNOWN, b""
