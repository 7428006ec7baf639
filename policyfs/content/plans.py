"""The byte form of a redaction plan. A worker packs the plan; the daemon unpacks and checks it.

A patch is zeros, a repeated byte, literal bytes, a copy of bytes in the file, or several of these without a
gap (pieces.py). The file's kind limits the number of literal bytes in a plan.
"""

from __future__ import annotations

import struct
from typing import Final

from policyfs.content.kinds import is_kind
from policyfs.content.pieces import COPY_MIN, HEAD_BYTES, Piece, Read, Splitter, cost, literal_bytes_for
from policyfs.content.workers.protocol import MAX_KIND, MAX_REASON, WireError
from policyfs.domain import Patch
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.values import Outcome, Plan, PlanSize, RemovedPart

MAX_PATCHES: Final = 262_144
MAX_FINDINGS: Final = 1024
MAX_PATCH_BYTES: Final = 32 * 1024 * 1024
"""The limit of replacement bytes in all patches of one plan. The daemon keeps these bytes in memory.

For a patch of zeros the plan has only the number of zeros, so these zeros do not count.
"""
MAX_WORD: Final = 200
LARGE_PLAN: Final = 8 * 1024
"""The size (bytes) of the largest payload that the event loop unpacks; a thread unpacks larger ones. A
payload of this size takes 1 ms, the slowest possible payload 0.4 s."""
PATCH_MEMORY: Final = 160
"""The memory of a patch in the daemon, without its new bytes (rounded up, in bytes)."""
FRAME_MEMORY: Final = 32
"""The memory of a frame or a checksum in the table of a film's frames (rounded up, in bytes)."""

_TEXT: Final = struct.Struct("<H")
_COUNTS: Final = struct.Struct("<BII")
_FINDING: Final = struct.Struct("<QQ?")
_PATCH: Final = struct.Struct("<QQBB")
_LITERAL, _REPEATED, _ZEROS, _COPY = 0, 1, 2, 3
_GOES_ON: Final = 0x80
"""A bit in the byte with a piece's form (zeros, repeated, literal or copy). The bit is set if the piece and
the piece before it belong to the same patch."""
_ORIGIN: Final = struct.Struct("<Q")

_OUTCOMES: Final = (Outcome.CLEAN, Outcome.PATCH, Outcome.REFUSE)


def refusal(reason: str) -> Plan:
    """Return a plan that refuses the file for this reason."""
    return Plan(outcome=Outcome.REFUSE, patches=(), findings=(), reason=reason)


def pack_plan(kind: str, plan: Plan, read: Read | None = None, file_size: int = 0) -> bytes:
    """Pack a plan and the file's kind as the payload of a reply.

    read: a function that reads the file, which has *file_size* bytes. With *read*, replacement bytes that are
    in the file are packed as copies. Without *read*, all replacement bytes are packed. A plan beyond the
    limits of this module becomes a plan that refuses the file.
    """
    size = sum(len(patch.data) for patch in plan.patches)
    pieces: list[list[Piece]] = []
    if len(plan.patches) > MAX_PATCHES or len(plan.findings) > MAX_FINDINGS or size > MAX_PATCH_BYTES:
        what = f"{len(plan.findings)} findings and {len(plan.patches)} patches"
        plan = refusal(f"the file has {what}: more than policyfs can handle")
    elif read is not None and size:
        splitter = Splitter(read, file_size)
        pieces = [splitter.pieces(patch) if patch.data else [] for patch in plan.patches]
        new = sum(cost(piece) for each in pieces for piece in each)
        if new > literal_bytes_for(kind, read(0, HEAD_BYTES)) or sum(map(len, pieces)) > MAX_PATCHES:
            plan, pieces = refusal(f"the plan adds {new} new bytes: more than a file of this kind needs"), []
    frames = b"" if plan.frames is None else plan.frames.pack()
    parts = [_pack_text(kind, MAX_KIND)]
    count = sum(len(each) or 1 for each in pieces) if pieces else len(plan.patches)
    parts.append(_COUNTS.pack(_OUTCOMES.index(plan.outcome), len(plan.findings), count))
    parts.append(_pack_text(plan.reason, MAX_REASON))
    for finding in plan.findings:
        parts.append(_FINDING.pack(finding.offset, finding.length, finding.broken))
        parts += [_pack_text(word, MAX_WORD) for word in (finding.container, finding.tag, finding.what)]
    for number, patch in enumerate(plan.patches):
        if pieces and pieces[number]:
            parts += _pack_pieces(pieces[number])
        else:
            parts += _pack_patch(patch)
    return b"".join((*parts, frames))


def _pack_text(text: str, limit: int) -> bytes:
    plain = "".join(c if c.isprintable() else "?" for c in text)
    data = plain.encode("ascii", "backslashreplace")[:limit]
    return _TEXT.pack(len(data)) + data


def _pack_patch(patch: Patch) -> list[bytes]:
    if patch.zeros:
        return [_PATCH.pack(patch.offset, patch.zeros, _ZEROS, 0)]
    first = patch.data[:1]
    if patch.data.count(first) == len(patch.data):
        return [_PATCH.pack(patch.offset, len(patch.data), _REPEATED, first[0])]
    return [_PATCH.pack(patch.offset, len(patch.data), _LITERAL, 0), patch.data]


def _pack_pieces(pieces: list[Piece]) -> list[bytes]:
    parts, goes_on = [], 0
    for piece in pieces:
        if piece.origin >= 0:
            form, value, more = _COPY, 0, _ORIGIN.pack(piece.origin)
        elif len(piece.data) == 1:
            form, value, more = _REPEATED, piece.data[0], b""
        else:
            form, value, more = _LITERAL, 0, piece.data
        parts += [_PATCH.pack(piece.offset, piece.size, form | goes_on, value), more]
        goes_on = _GOES_ON
    return parts


class _Reader:
    """A reader of values from a payload, from the front. Raises WireError if the payload is too short."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def position(self) -> int:
        return self._position

    def take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise WireError("the plan ends too early")
        return self._data[start : self._position]

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        try:
            values: tuple[int, ...] = form.unpack_from(self._data, self._position)
        except struct.error as error:
            raise WireError("the plan ends too early") from error
        self._position += form.size
        return values

    def text(self, limit: int) -> str:
        (size,) = self.unpack(_TEXT)
        data = self.take(size)
        if size > limit or not data.isascii():
            raise WireError("a text of the plan is too long or not plain")
        text = data.decode("ascii")
        if not text.isprintable():
            raise WireError("a text of the plan is not printable")
        return text

    def frames(self, file_size: int) -> FrameTable | None:
        """Return the table of frames that is the rest of the payload; None if there is no rest."""
        if self._position == len(self._data):
            return None
        try:
            table = FrameTable.unpack(self._data[self._position :])
        except ValueError as error:
            raise WireError(str(error)) from error
        if table.end > file_size or (table.covered and table.covered[-1] > file_size):
            raise WireError("a frame lies outside the file")
        return table


def unpack_plan(payload: bytes, file_size: int, read: Read | None = None) -> tuple[str, Plan]:
    """Unpack the kind and the plan from a reply's payload.

    file_size: the size that the daemon found, in bytes. read: a function that reads the file, for copied
    bytes; None for a payload that the daemon packed itself, without copies (disk_cache.py). Raises the errors
    of *read*. Raises WireError if a correct worker could not have made the plan: patches must be sorted, must
    not overlap, must be inside the file and within the limits. Only the outcome PATCH has patches. The daemon
    cannot check if the plan hides the right bytes.
    """
    reader = _Reader(payload)
    kind = reader.text(MAX_KIND)
    if not is_kind(kind):
        raise WireError("the plan's kind is not a MIME type")
    outcome, finding_count, patch_count = reader.unpack(_COUNTS)
    if outcome >= len(_OUTCOMES) or finding_count > MAX_FINDINGS or patch_count > MAX_PATCHES:
        raise WireError("the plan's outcome or counts are out of range")
    reason = reader.text(MAX_REASON)
    findings = tuple(_unpack_finding(reader, file_size) for _ in range(finding_count))
    patches, plan_size = _unpack_patches(reader, patch_count, file_size, kind, read)
    frames = reader.frames(file_size)
    if (_OUTCOMES[outcome] is Outcome.PATCH) != (bool(patches) or frames is not None):
        raise WireError("the plan's outcome does not fit its patches")
    if frames is not None:
        rows = len(frames) + len(frames.sums)
        plan_size = plan_size._replace(memory_bytes=plan_size.memory_bytes + FRAME_MEMORY * rows)
    return kind, Plan(
        outcome=_OUTCOMES[outcome], patches=patches, findings=findings, reason=reason,
        plan_size=plan_size, frames=frames,
    )  # fmt: skip


def _unpack_finding(reader: _Reader, file_size: int) -> RemovedPart:
    offset, length, broken = reader.unpack(_FINDING)
    if offset + length > file_size:
        raise WireError("a finding lies outside the file")
    container, tag, what = (reader.text(MAX_WORD) for _ in range(3))
    return RemovedPart(offset, length, container, tag, what, broken=bool(broken))


def _unpack_patches(
    reader: _Reader, count: int, file_size: int, kind: str, read: Read | None
) -> tuple[tuple[Patch, ...], PlanSize]:
    patches: list[Patch] = []
    whole: list[bytes] = []  # bytes of the last patch; the next piece may continue the patch
    end = total = new = replaced = 0
    most = None if read is None else literal_bytes_for(kind, read(0, HEAD_BYTES))
    for _ in range(count):
        offset, size, form, value = reader.unpack(_PATCH)
        goes_on, form = bool(form & _GOES_ON), form & ~_GOES_ON
        if offset < end or not size or offset + size > file_size or (goes_on and (offset > end or not whole)):
            raise WireError("patches overlap, are out of order or outside the file")
        if not goes_on:
            _finish(patches, whole)
        end = offset + size
        replaced += size
        if form == _ZEROS and not goes_on:
            patches.append(Patch(offset, zeros=size))
            continue
        total += size
        if total > MAX_PATCH_BYTES:
            raise WireError("too many bytes in patches")
        piece = _unpack_piece(reader, offset, size, form, value)
        new += cost(piece)
        if most is not None and new > most:
            raise WireError("the patches have more new bytes than a file of this kind needs")
        if not goes_on:
            patches.append(Patch(offset, b"?"))  # the patch gets its bytes once its end is known
        whole.append(_bytes_of(piece, file_size, read))
    _finish(patches, whole)
    return tuple(patches), PlanSize(replaced, total + PATCH_MEMORY * len(patches))


def _finish(patches: list[Patch], whole: list[bytes]) -> None:
    """Put the collected bytes *whole* into the last patch, and empty *whole*."""
    if whole:
        patches[-1] = Patch(patches[-1].offset, b"".join(whole))
        whole.clear()


def _unpack_piece(reader: _Reader, offset: int, size: int, form: int, value: int) -> Piece:
    if form == _LITERAL:
        return Piece(offset, size, reader.take(size))
    if form == _REPEATED:
        return Piece(offset, size, bytes((value,)))
    if form == _COPY and size >= COPY_MIN:
        return Piece(offset, size, origin=reader.unpack(_ORIGIN)[0])
    raise WireError("a patch of an unknown form")


def _bytes_of(piece: Piece, file_size: int, read: Read | None) -> bytes:
    if piece.origin < 0:
        return piece.data * piece.size if len(piece.data) == 1 else piece.data
    if read is None or piece.origin + piece.size > file_size:
        raise WireError("a patch copies bytes from outside the file")
    data = read(piece.origin, piece.size)
    if len(data) != piece.size:
        raise WireError("the file has shrunk")
    return data
