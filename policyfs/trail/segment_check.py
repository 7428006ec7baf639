"""The check of one segment by itself: digests and numbers of all lines, and the tree of digests (pure, fast).

The check does not depend on other segments, so several segments can be checked in parallel. Events are not
parsed: if the digest of a line fits, the daemon wrote the line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from policyfs.trail import chain
from policyfs.trail.merkle import root_of
from policyfs.trail.record import BadLine, Place, Record, header_of, parse_line
from policyfs.trail.seal import Seal, entries_of

_TAIL: Final = chain.TAIL_BYTES + 1


class Cut(NamedTuple):
    """Bytes at the end of a segment that are not a whole line."""

    line: int
    offset: int
    size: int
    sha256: str


class SegmentCheck(NamedTuple):
    """The result of the check of one segment.

    sound: True if every line continues the line before, and the first line is a header. lines, size: number
    and bytes of the whole lines. opening: the digest before the first line. head: the digest of the last
    line. root: the root of the tree of all lines. sealed_root: the root of the tree of the sealed lines,
    which the segment's seal covers. sealed_head: the digest of the last sealed line. records: the journal's
    own records in the segment. digests: the digests of the wanted lines in the segment, by number.
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
    sealed_head: str
    records: tuple[Record, ...]
    cut: Cut | None
    digests: dict[int, str]


def check_segment(
    mount_id: str,
    name: str,
    number: int,
    lines: Iterable[bytes],
    *,
    sealed_lines: int = 0,
    wanted: Collection[int] = (),
) -> SegmentCheck:
    """Check one segment. lines: with newlines; the last line may have none.

    sealed_lines: the number of lines that the segment's seal covers. wanted: the numbers of the lines for
    which the result has digests.
    """
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
        covered[-32:].hex(), tuple(records), cut,
        {one: digests[one - first].hex() for one in wanted if 0 <= one - first < len(digests)},
    )  # fmt: skip


def proves(seal: Seal, lines: Sequence[bytes]) -> bool | None:
    """Return True if a seal proves the digests in *lines*, False if not, None if there are too few lines."""
    if len(lines) < seal.lines:
        return None
    return root_of(entries_of(lines[: seal.lines])).hex() == seal.root
