"""The check of one segment alone: digests and numbers of all lines (pure, fast). So several can be checked in
parallel. Events are not parsed: with the right digest, a line is as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import root_of
from policyfs.trail.chain.seal import Seal, entries_of
from policyfs.trail.lines.record import BadLine, Place, Record, header_of, parse_line

_TAIL: Final = chain.TAIL_BYTES + 1


class Cut(NamedTuple):
    """Bytes at the end of a segment that are only a part of a line: its number, their offset and size."""

    line: int
    offset: int
    size: int
    sha256: str


class SegmentCheck(NamedTuple):
    """The result of the check of one segment.

    sound: the first line is a header, and the digest in each line follows from the line before. lines, size:
    number and bytes of the complete lines. opening, head: the digests before the first and in the last. root:
    of the Merkle tree over all; sealed_root: the same for the lines that the seal covers.
    records: about the journal itself. cut: a part of a line at the end. digests: of the wanted lines.
    unread: why no line behind these can be read, or empty.
    """

    name: str
    number: int
    sound: bool
    lines: int
    size: int
    first_seq: int
    last_seq: int
    opening: str
    head: str
    root: str
    sealed_root: str
    records: tuple[Record, ...]
    cut: Cut | None
    digests: dict[int, str]
    unread: str = ""


def check_segment(
    mount_id: str,
    name: str,
    number: int,
    lines: Iterable[bytes],
    *,
    sealed_lines: int = 0,
    wanted: Collection[int] = (),
) -> SegmentCheck:
    """Check one segment. lines: with newlines; the last one may have none. sealed_lines: those that the seal
    covers. wanted: numbers of lines whose digests the result has."""
    sha256, digests, records = hashlib.sha256, [], []
    size = first = seq = 0
    opening = head = b""
    sound, cut = True, None
    for line, raw in enumerate(lines, start=1):
        if line == 1:
            header = header_of(raw) if raw.endswith(b"\n") else None
            if header is None:
                sound = not raw.endswith(b"\n")
            else:
                first, opening = header[0], header[1].encode("ascii")
                seq, head = first - 1, opening
        if not raw.endswith(b"\n"):
            cut = Cut(line, size, len(raw), sha256(raw).hexdigest())
            break
        if not sound:
            break
        seq += 1
        found = sha256(head + raw[:-_TAIL])
        head = found.hexdigest().encode("ascii")
        if raw[-_TAIL:] != b',"chain":"%b"}\n' % head:
            sound = False
            break
        if not raw.startswith(b'{"type":"event","seq":%d,' % seq):
            record = parse_line(raw, Place(mount_id, name, line))
            if isinstance(record, BadLine) or record.seq != seq or (record.kind == "header") != (line == 1):
                sound = False
                break
            records.append(record)
        digests.append(found.digest())
        size += len(raw)
    entries = b"".join(digests)
    root = root_of(entries).hex()
    covered = entries[: 32 * sealed_lines]
    return SegmentCheck(
        name, number, sound, len(digests), size, first, seq if digests else first - 1, opening.decode(),
        head.decode(), root, root_of(covered).hex() if len(covered) < len(entries) else root,
        tuple(records), cut,
        {one: digests[one - first].hex() for one in wanted if 0 <= one - first < len(digests)},
    )  # fmt: skip


def proves(seal: Seal, lines: Sequence[bytes]) -> bool | None:
    """Return True if the digests in *lines* match a seal about them, None if there are fewer lines than it
    states."""
    if len(lines) < seal.lines:
        return None
    return root_of(entries_of(lines[: seal.lines])).hex() == seal.root
