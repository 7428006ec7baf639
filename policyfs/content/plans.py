"""A redaction plan as bytes: packed by a worker, unpacked and distrusted by the daemon."""

from __future__ import annotations

import struct
from typing import Final

from policyfs.content.kinds import is_kind
from policyfs.content.wire import MAX_KIND, MAX_REASON, WireError
from policyfs.domain import Patch
from policyfs.redact.plan import Finding, Outcome, Plan

MAX_PATCHES: Final = 262_144
MAX_FINDINGS: Final = 1024
MAX_PATCH_BYTES: Final = 32 * 1024 * 1024
"""Replacement bytes of one plan, all patches together: what a daemon may be made to hold. Zeros are
only counted, not held."""
MAX_WORD: Final = 200

_TEXT: Final = struct.Struct("<H")
_COUNTS: Final = struct.Struct("<BII")
_FINDING: Final = struct.Struct("<QQ?")
_PATCH: Final = struct.Struct("<QQBB")
_LITERAL, _REPEATED, _ZEROS = 0, 1, 2

_OUTCOMES: Final = (Outcome.CLEAN, Outcome.PATCH, Outcome.REFUSE)


def refusal(reason: str) -> Plan:
    """The plan of a file that nobody could look into."""
    return Plan(outcome=Outcome.REFUSE, patches=(), findings=(), reason=reason)


def pack_plan(kind: str, plan: Plan) -> bytes:
    """A plan and the kind it was made for, as a reply's payload.

    A plan beyond the limits of this module becomes a refusal: its file is denied.
    """
    size = sum(len(patch.data) for patch in plan.patches)
    if len(plan.patches) > MAX_PATCHES or len(plan.findings) > MAX_FINDINGS or size > MAX_PATCH_BYTES:
        plan = refusal(
            f"{len(plan.findings)} places in {len(plan.patches)} parts are more than can be handled"
        )
    parts = [_pack_text(kind, MAX_KIND)]
    parts.append(_COUNTS.pack(_OUTCOMES.index(plan.outcome), len(plan.findings), len(plan.patches)))
    parts.append(_pack_text(plan.reason, MAX_REASON))
    for finding in plan.findings:
        parts.append(_FINDING.pack(finding.offset, finding.length, finding.broken))
        parts += [_pack_text(word, MAX_WORD) for word in (finding.container, finding.tag, finding.what)]
    for patch in plan.patches:
        parts += _pack_patch(patch)
    return b"".join(parts)


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


class _Reader:
    """Takes values off the front of a payload; WireError where there is not enough of it."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise WireError("the plan ends too early")
        return self._data[start : self._position]

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        values: tuple[int, ...] = form.unpack(self.take(form.size))
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

    def end(self) -> None:
        if self._position != len(self._data):
            raise WireError("bytes behind the plan")


def unpack_plan(payload: bytes, file_size: int) -> tuple[str, Plan]:
    """The kind and the plan in a reply's payload. file_size (bytes) is the daemon's own knowledge.

    Raises WireError unless the plan has the shape that a correct worker gives it: patches sorted,
    apart from each other, inside the file; none where there is nothing to change; within the
    limits. Whether the plan is right cannot be told from here.
    """
    reader = _Reader(payload)
    kind = reader.text(MAX_KIND)
    if not is_kind(kind):
        raise WireError("the plan's kind is no MIME type")
    outcome, finding_count, patch_count = reader.unpack(_COUNTS)
    if outcome >= len(_OUTCOMES) or finding_count > MAX_FINDINGS or patch_count > MAX_PATCHES:
        raise WireError("the plan's outcome or counts are out of range")
    reason = reader.text(MAX_REASON)
    findings = tuple(_unpack_finding(reader, file_size) for _ in range(finding_count))
    patches = _unpack_patches(reader, patch_count, file_size)
    reader.end()
    if (_OUTCOMES[outcome] is Outcome.PATCH) != bool(patches):
        raise WireError("the plan's outcome does not fit its patches")
    return kind, Plan(outcome=_OUTCOMES[outcome], patches=patches, findings=findings, reason=reason)


def _unpack_finding(reader: _Reader, file_size: int) -> Finding:
    offset, length, broken = reader.unpack(_FINDING)
    if offset + length > file_size:
        raise WireError("a finding lies outside the file")
    container, tag, what = (reader.text(MAX_WORD) for _ in range(3))
    return Finding(offset=offset, length=length, container=container, tag=tag, what=what, broken=bool(broken))


def _unpack_patches(reader: _Reader, count: int, file_size: int) -> tuple[Patch, ...]:
    patches = []
    end = total = 0
    for _ in range(count):
        offset, size, form, value = reader.unpack(_PATCH)
        if offset < end or not size or offset + size > file_size:
            raise WireError("patches overlap, are out of order or outside the file")
        end = offset + size
        if form == _ZEROS:
            patches.append(Patch(offset, zeros=size))
            continue
        total += size
        if total > MAX_PATCH_BYTES or form not in (_LITERAL, _REPEATED):
            raise WireError("a patch of an unknown form, or too many bytes in patches")
        data = bytes((value,)) * size if form == _REPEATED else reader.take(size)
        patches.append(Patch(offset, data))
    return tuple(patches)
