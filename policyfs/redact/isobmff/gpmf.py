"""Cleaner of GoPro's telemetry (GPMF): a structure of keys, lengths and nested values.

Stabilisers and editors read gyroscope, shutter and white balance from the telemetry, sample by sample. So the
structure stays. A value with a known key stays if its category is not hidden, its type is a number or a short
text, and no hidden data is found in this text. All other values become zeros. Source: GoPro's published
description of GPMF; ExifTool's documentation of GoPro tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.patches import ByteSource, zeros

MAX_SAMPLES: Final = 20_000
MAX_BYTES: Final = 64 << 20
"""Maximum size of a track that is read (hours of film). A longer track is removed as a whole, unread."""
MAX_SAMPLE_BYTES: Final = 4 << 20
_MAX_DEPTH: Final = 6
_MAX_ENTRIES: Final = 2000
_WORK_PER_PART: Final = 64
_WORK_PER_SAMPLE: Final = 32
_WORK_PER_VALUE: Final = 8
"""Costs of the search; _WORK_PER_PART make one part of a file. A value like an earlier one that stayed costs
1.
"""
_MAX_KNOWN: Final = 4096
_MAX_TEXT_BYTES: Final = 256
_HEAD_BYTES: Final = 8
_NESTED: Final = frozenset({b"DEVC", b"STRM"})
_NUMBERS: Final = frozenset(b"bBsSlLfdjJqQ?")
_TEXTS: Final = frozenset(b"cF")

_KEYS: Final = MappingProxyType(
    {
        Tells.LOCATION | Tells.TIME: "GPS9 GPSU",
        Tells.LOCATION: "GPS5 GPSP GPSF GPSA GPRI GLPI BPOS LNED VFRH",
        Tells.PEOPLE: "FACE FCNM RMRK",
        Tells.DEVICE: "DVNM FMWR FWVS LINF CINF CASN MINF MUID BRID",
        Tells.OTHER: (
            "ACCL GYRO MAGN SHUT WBAL WRGB ISOE ISOG UNIF SCEN HUES SROT CORI IORI GRAV WNDM MWET AALP"
            " DISP MSKP LSKP YAVG TMPC TSMP TICK TOCK STMP SCAL EMPT MTRX ORIN ORIO VERS DVID TYPE SIUN"
            " UNIT STNM CMOD MTYP OREN DZOM DZST SMTR PRTN PTWB PTSH PTCL EXPT PIMX PIMN PTEV RATE PRES"
            " PHDR VFOV VLTE VLTA EISE EISA AUPT AUDO BROD ZFOV PVUL PRJT SOFF ALLD APTO KLNS CTRX CTRY"
            " MFOV SFTR SHFX SHFY SHFZ ANGX ANGY ANGZ CALW CALH HFLG PRAW"
        ),
    }
)
"""A dictionary from categories to the keys of values with data of these categories."""
_TOLD: Final = {key.encode(): tells for tells, keys in _KEYS.items() for key in keys.split()}


@dataclass(slots=True)
class Telemetry:
    """Cleaner of one track's telemetry, sample by sample. Each key with removed values gets one record of a
    removed part.
    """

    source: ByteSource
    inner: Inner
    patches: list[Patch] = field(default_factory=list)
    _gone: dict[str, Note] = field(default_factory=dict)
    _texts: dict[bytes, Tells] = field(default_factory=dict)
    _known: dict[bytes, int] = field(default_factory=dict)
    """Head of a number that stays (key, type, length) -> size of the value with head and padding."""
    _work: int = 0

    def sample(self, at: int, size: int) -> None:
        """Clean the sample at an offset of the file. A sample that is not understood becomes zeros. Raises
        TooMuchError.
        """
        self.inner.budget.extent(size)
        data = self.source.read(at, size) if size <= MAX_SAMPLE_BYTES else b""
        spans = self._spans(data) if data and not holds_metadata(data, numbers=True) else None
        self._work += _WORK_PER_SAMPLE
        self.inner.budget.part(self._work // _WORK_PER_PART)
        self._work %= _WORK_PER_PART
        if spans is None:
            self.blank(at, at + size)
            return
        for start, end, key, tells in spans:
            if data.count(0, start, end) < end - start:
                self.patches.append(Patch(at + start, zeros=end - start))
                name = key.decode("ascii") if key.isalnum() and key.isascii() else key.hex()
                self._gone.setdefault(name, Note(at + start, end - start, "GPMF", name, tells))

    def blank(self, start: int, end: int) -> None:
        """Zero the bytes [start, end), and record that they were not understood."""
        patches = list(zeros(self.source, start, end))
        self.patches += patches
        if patches:
            self._gone.setdefault("", Note(start, end - start, "GPMF", "sample", UNKNOWN, broken=True))

    def found(self) -> Found:
        """Return the changes to all samples so far."""
        return Found(self.patches, list(self._gone.values()))

    def _spans(self, data: bytes) -> list[tuple[int, int, bytes, Tells]] | None:
        found: list[tuple[int, int, bytes, Tells]] = []
        waiting = [(0, len(data), _MAX_DEPTH)]
        entries = 0
        while waiting:
            at, end, depth = waiting.pop()
            while at < end:
                entries += 1
                if entries > _MAX_ENTRIES:
                    return None
                length = self._known.get(data[at : at + _HEAD_BYTES])
                if length is not None and at + length <= end:
                    self._work += 1
                    at += length
                    continue
                self._work += _WORK_PER_VALUE
                if end - at < _HEAD_BYTES or not any(data[at : at + 4]):
                    found.append((at, end, b"behind", UNKNOWN))
                    break
                key, kind, width = data[at : at + 4], data[at + 4], data[at + 5]
                size = width * int.from_bytes(data[at + 6 : at + 8])
                start, behind = at + _HEAD_BYTES, at + _HEAD_BYTES + (size + 3) // 4 * 4
                if behind > end:
                    return None
                if kind == 0 and key in _NESTED and depth > 0:
                    waiting.append((start, start + size, depth - 1))
                    found.append((start + size, behind, key, UNKNOWN))
                else:
                    goes = self._value(data[start : start + size], key, kind) & self.inner.hide
                    found.append((start if goes else start + size, behind, key, goes or UNKNOWN))
                    if not goes and kind in _NUMBERS and size % 4 == 0 and len(self._known) < _MAX_KNOWN:
                        self._known[data[at:start]] = behind - at
                at = behind
        return found

    def _value(self, value: bytes, key: bytes, kind: int) -> Tells:
        tells = _TOLD.get(key, UNKNOWN)
        if kind in _TEXTS and len(value) <= _MAX_TEXT_BYTES:
            return tells | self._text(value)
        return tells if kind in _NUMBERS else UNKNOWN

    def _text(self, value: bytes) -> Tells:
        """Return the categories of a text. Each sample repeats the same texts. Raises TooMuchError."""
        if value not in self._texts:
            budget = self.inner.budget
            budget.part()
            self._texts[value] = told_in(value, self.inner.hide) if budget.look(len(value)) else UNKNOWN
        return self._texts[value]
