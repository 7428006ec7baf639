"""MPEG transport streams (ISO/IEC 13818-1), also with four bytes of a clock before each packet (M2TS, AVCHD).

Packets of pictures and sound stay, and the tables that players need. Camcorders and dash cams write places
into user data of pictures, and into streams of their own. Messages in pictures are cleaned; all other
packets, and all data in headers that is no clock, become stuffing. The file is read in windows, and only
incomplete pictures are held.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.bitstreams.frame_table import Work
from policyfs.redact.core.cleaners import Found, Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.filler import is_uniform
from policyfs.redact.core.patches import ByteSource, difference, is_blank
from policyfs.redact.mpeg import pes, sections
from policyfs.redact.mpeg.elementary import Sound, Stream, Video
from policyfs.redact.mpeg.gathered import Gathered

PACKET_BYTES: Final = 188
_CLOCK_BYTES: Final = 4
"""Size of the clock before each packet of an M2TS."""
_HEAD_BYTES: Final = 4
_SYNC: Final = 0x47
_WINDOW_PACKETS: Final = 20_000
_TABLES_BYTES: Final = 8 << 20
"""Number of bytes of the file in which the tables of all streams must begin. Players do not look further."""
_MAX_STREAMS: Final = 64
MAX_CHANGES: Final = 1 << 18
"""Maximum number of changes (as of a plan, content/plans.py): each packet of other data needs one."""
_MAX_KNOWN: Final = 1 << 10
_MAX_TAIL_BYTES: Final = 1 << 16
"""Maximum size of data behind the packets."""
_PROGRAMS, _SERVICES, _SELECTION, _NULL = 0x00, 0x11, 0x1F, 0x1FFF
"""Numbers of packets (PIDs) with tables, and of packets without data."""
_STUFFING: Final = b"\xff"
_PICTURES: Final = frozenset({*range(0xE0, 0xF0), 0xFD})
_SOUNDS: Final = frozenset({0xBD, *range(0xC0, 0xE0), 0xFD})
"""Numbers of packets of pictures and of sound within a stream (table 2-22)."""
_CLOCKS: Final = ((0x10, 6), (0x08, 6), (0x04, 1))
_EXTENSION: Final = ((0x80, 2), (0x40, 3), (0x20, 5))
"""Flag and size in bytes of the numbers in an adaptation field, and in its extension."""
_ADAPTED, _LOADED = 0x20, 0x10
"""Bits of the fourth byte: the packet has an adaptation field, a payload."""


def locate_transport_stream(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a transport stream. Raises NotThisKindError, TooMuchError."""
    for clock in (0, _CLOCK_BYTES):
        step = PACKET_BYTES + clock
        starts = range(clock, min(source.size - PACKET_BYTES + 1, 4 * step), step)
        if starts and all(source.read(at, 1) == bytes((_SYNC,)) for at in starts):
            return _Locator(Edits(source, inner, "MPEG-TS"), clock).locate()
    raise NotThisKindError("it does not start like a transport stream")


class _Locator:
    def __init__(self, edits: Edits, clock: int) -> None:
        self.edits = edits
        self.source = edits.source
        self.clock = clock
        self.step = PACKET_BYTES + clock
        self.tables = {pid: Gathered() for pid in (_PROGRAMS, _SERVICES, _SELECTION)}
        """The section of each PID with tables that is not complete yet."""
        self.codecs: dict[int, str | None] = {}
        self.streams: dict[int, Stream] = {}
        self.known: dict[tuple[int, bytes], bytes] = {}
        self.work = Work.on(self.source)
        self.noted: set[str] = set()
        self.run = re.compile(
            rb".{%d}G([\x00-\x3f])(.)[\x10-\x1f].{184}(?:.{%d}G\1\2[\x10-\x1f].{184})*" % (clock, clock),
            re.DOTALL,
        )
        """Pattern of successive packets of one stream without an adaptation field."""

    def locate(self) -> Found:
        """Locate everything to hide. A first pass finds the tables, as players do."""
        end = self.source.size - self.source.size % self.step
        self._find_tables(min(end, _TABLES_BYTES))
        if not any(codec is not None for codec in self.codecs.values()):
            raise NotThisKindError("it lists no pictures and no sound in its first bytes")
        self.tables = {pid: Gathered() for pid in self.tables}
        self.noted.clear()
        size = _WINDOW_PACKETS * self.step
        for base in range(0, end, size):
            self._window(self.source.read(base, min(size, end - base)), base)
            for stream in self.streams.values():
                stream.search()
            if len(self.edits.found.patches) > MAX_CHANGES:
                raise TooMuchError("it has too much data beside pictures and sound")
        for stream in self.streams.values():
            stream.search(last=True)
        for pid in self.tables:
            self._stop(pid)
        if not self.streams:
            raise NotThisKindError("there is no picture and no sound in it")
        self.edits.zero(end, self.source.size, "trailer")
        return self.edits.found

    # --- packets ---

    def _find_tables(self, end: int) -> None:
        size, edits = _WINDOW_PACKETS * self.step, self.edits
        self.edits = Edits(self.source, edits.inner, edits.container)
        for base in range(0, end, size):
            data = self.source.read(base, min(size, end - base))
            for at in range(self.clock, len(data) - PACKET_BYTES + 1, self.step):
                pid = int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF
                if pid in self.tables and data[at] == _SYNC:
                    self._load(pid, data, at, self._payload(data, at), base)
        self.edits = edits

    def _window(self, data: bytes, base: int) -> None:
        at, clock, step = 0, self.clock, self.step
        while at < len(data):
            run = self.run.match(data, at)
            if run is None:
                self._packet(data, at + clock, base)
                at += step
                continue
            end, pid = run.end(), (run[1][0] & 0x1F) << 8 | run[2][0]
            heads = range(at + clock, end, step)
            stream = self.streams.get(pid)
            if stream is not None:
                pieces = [data[head + _HEAD_BYTES : head + PACKET_BYTES] for head in heads]
                first = base + heads[0] + _HEAD_BYTES
                stream.pieces.add_pieces(pieces, range(first, first + len(heads) * step, step))
            else:
                for head in heads:
                    self._load(pid, data, head, head + _HEAD_BYTES, base)
            at = end

    def _packet(self, data: bytes, at: int, base: int) -> None:
        if data[at] != _SYNC:
            if self.source.size - base - at > _MAX_TAIL_BYTES or self._is_more(data, at):
                raise NotThisKindError("there is other data between its packets")
            self.edits.zero(base + at - self.clock, base + at + PACKET_BYTES, "trailer")
            return
        pid = int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF
        if data[at + 3] & 0xC0 and pid in self.streams | self.codecs and pid != _NULL:
            raise NotThisKindError("it is encrypted")
        self._load(pid, data, at, self._payload(data, at, base), base)

    def _is_more(self, data: bytes, at: int) -> bool:
        """Return True if there are packets behind bytes that are none."""
        return any(data[behind] == _SYNC for behind in range(at + self.step, len(data), self.step)[:3])

    def _payload(self, data: bytes, at: int, base: int = -1) -> int:
        """Return the start of a packet's payload. base: at least 0 to clean the adaptation field, too."""
        flags, start = data[at + 3], at + _HEAD_BYTES
        if flags & _ADAPTED:
            start = min(at + PACKET_BYTES, start + 1 + data[start])
            if base >= 0:
                old = data[at + _HEAD_BYTES + 1 : start]
                self._replace(base + at + _HEAD_BYTES + 1, old, _adaptation(old), "adaptation field")
        if not flags & _LOADED and base >= 0:
            self._stuff(-1, data, start, at + PACKET_BYTES, base)
        return start if flags & _LOADED else at + PACKET_BYTES

    def _load(self, pid: int, data: bytes, at: int, start: int, base: int) -> None:
        end = at + PACKET_BYTES
        if start >= end:
            return
        if pid in self.tables:
            self._sections(pid, data, start, end, base, begins=bool(data[at + 1] & 0x40))
        elif self.codecs.get(pid) is None:
            self._stuff(pid, data, start, end, base)
        elif data[at + 1] & 0x40:
            self._pes(pid, data, start, end, base)
        elif pid in self.streams:
            self.streams[pid].pieces.add(data[start:end], base + start)
        else:  # players show nothing before the first start of a PES packet
            self._stuff(pid, data, start, end, base)

    def _pes(self, pid: int, data: bytes, start: int, end: int, base: int) -> None:
        old = data[start:end]
        codec, new = self.codecs[pid], pes.cleaned_header(old)
        if old[3] not in (_PICTURES if codec else _SOUNDS):  # a padding packet has no header
            raise NotThisKindError("a packet in it has an unknown header")
        self._replace(base + start, old[: len(new)], new, "packet header")
        if pid not in self.streams:
            self.streams[pid] = Video(self.edits, self.work, codec) if codec else Sound(self.edits)
        self.streams[pid].pieces.add(old[len(new) :], base + start + len(new))

    # --- tables ---

    def _sections(self, pid: int, data: bytes, start: int, end: int, base: int, *, begins: bool) -> None:
        if begins:
            first = min(end, start + 1 + data[start])
            self._go_on(pid, data[start + 1 : first], base + start + 1)
            self._stop(pid)
            self._feed(pid, data[first:end], base + first)
        else:
            self._go_on(pid, data[start:end], base + start)

    def _go_on(self, pid: int, data: bytes, place: int) -> None:
        if len(self.tables[pid]):
            self._feed(pid, data, place)
        elif not is_uniform(data):  # players skip it
            self._replace(place, data, _STUFFING * len(data), f"PID {pid}")

    def _feed(self, pid: int, data: bytes, place: int) -> None:
        held = self.tables[pid]
        held.add(data, place)
        while len(held) >= sections.HEAD_BYTES and held.join()[:1] != _STUFFING:
            if is_blank(held.join()):  # some programs stuff with zeros
                held.drop(len(held))
                return
            size = sections.section_size(held.join())
            if len(held) < size:
                return
            stays = self._section(pid, held.join()[:size])
            held.drop(size)
            if not stays:  # readers skip what is behind stuffing
                self._stop(pid)
        if held.join()[:1] == _STUFFING:
            self._stop(pid)

    def _stop(self, pid: int) -> None:
        held = self.tables[pid]
        old = held.join()
        self._put(pid, old, _STUFFING * len(old))
        held.drop(len(old))

    def _section(self, pid: int, old: bytes) -> bool:
        new = self.known.get((pid, old))
        if new is None:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            new = self.known[pid, old] = self._cleaned(pid, old)
        self._put(pid, old, new)
        return not new.startswith(_STUFFING)

    def _cleaned(self, pid: int, old: bytes) -> bytes:
        inner, nothing = self.edits.inner, _STUFFING * len(old)
        if pid == _SERVICES:
            return nothing if sections.services(old, inner) else old
        if pid == _SELECTION:
            return old if sections.is_selection(old) else nothing
        if pid == _PROGRAMS:
            listed = sections.programs(old, inner)
            for each in listed or ():
                self.tables.setdefault(each, Gathered())
            self._check()
            return nothing if listed is None else old
        found = sections.program(old, inner)
        if found is None:
            return nothing
        for each, codec in found.streams.items():
            if self.codecs.setdefault(each, codec) != codec:
                raise NotThisKindError("it lists a stream as two sorts of data")
        self._check()
        return found.data

    def _check(self) -> None:
        if len(self.codecs) > _MAX_STREAMS or len(self.tables) > _MAX_STREAMS:
            raise TooMuchError("it has too many streams")
        if self.codecs.keys() & self.tables.keys():
            raise NotThisKindError("it lists a stream as a table")

    # --- changes ---

    def _put(self, pid: int, old: bytes, new: bytes) -> None:
        if old != new:
            held = self.tables[pid]
            self.edits.found.patches += held.placed(difference(0, old, new))
            self._note(held.place(0), len(old), f"PID {pid}")

    def _replace(self, place: int, old: bytes, new: bytes, tag: str) -> None:
        if self.edits.put(place, old, new):
            self._note(place, len(old), tag)

    def _stuff(self, pid: int, data: bytes, start: int, end: int, base: int) -> None:
        old = data[start:end]
        if not is_uniform(old):
            self.edits.found.patches.append(Patch(base + start, _STUFFING * len(old)))
            self._note(base + start, len(old), f"PID {pid}")

    def _note(self, place: int, length: int, tag: str) -> None:
        if tag not in self.noted:
            self.noted.add(tag)
            self.edits.note(place, length, tag)


def _adaptation(old: bytes) -> bytes:
    """Return an adaptation field, from its flags on, with stuffing in place of all but clocks and numbers."""
    if not old:
        return old
    out, flags = bytearray(old), old[0]
    at = 1 + sum(size for flag, size in _CLOCKS if flags & flag)
    if flags & 0x02 and at < len(old):  # private data
        size = old[at]
        pes.blank(out, at + 1, min(len(old), at + 1 + size))
        at += 1 + size
    if flags & 0x01 and at + 1 < len(old):
        used = 1 + sum(size for flag, size in _EXTENSION if old[at + 1] & flag)
        behind = at + 1 + old[at]
        pes.blank(out, min(behind, at + 1 + used), min(len(old), behind))
        at = behind
    pes.blank(out, min(at, len(old)), len(old))
    return bytes(out)
