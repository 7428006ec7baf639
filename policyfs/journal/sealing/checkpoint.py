"""Checkpoints: signed statements about the last line of a hash chain, to which a daemon may append."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from policyfs.journal.files.reader import raw_lines
from policyfs.journal.files.segments import (
    Chain,
    SegmentDirectory,
    open_segment,
    seal_name,
    segment_number,
    settled_tail,
)
from policyfs.journal.sealing.keys import Signer
from policyfs.trail.chain.seal import NO_SEAL, Checkpoint, body_of, digest_of
from policyfs.trail.chain.segment_check import check_segment
from policyfs.trail.lines.line import iso_time


def checkpoint_of_chain(chain: Chain, signer: Signer) -> bytes | None:
    """Return a signed line with number and digest of a hash chain's last line; None if it has no lines, or if
    its newest segment has wrong digests."""
    for name in reversed(chain.segments()):
        try:
            fd = open_segment(chain.directory / name)
        except FileNotFoundError:
            continue  # rotation has removed the segment
        try:
            last = settled_tail(fd)
            os.fsync(fd)  # else a power loss may remove the line, and `verify` reports the trail as cut
        finally:
            os.close(fd)
        if last is not None:
            return _checkpoint(chain, name, last, signer)
    return None


def _checkpoint(chain: Chain, name: str, last: bytes, signer: Signer) -> bytes | None:
    lines = _up_to(raw_lines(chain.directory, name), last + b"\n")
    check = check_segment(chain.mount_id, name, segment_number(name) or 0, lines)
    if not check.sound:
        return None
    made = Checkpoint(
        chain.mount_id, check.last_seq, check.head, name, check.lines, check.size, check.root,
        _newest_seal(chain), iso_time(time.time_ns()), signer.key.key,
    )  # fmt: skip
    return signer.sign("checkpoint", body_of("checkpoint", made))


def _up_to(lines: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    for raw in lines:
        yield raw
        if raw == last:
            return


def _newest_seal(chain: Chain) -> str:
    with SegmentDirectory.at(chain.directory) as place:
        for name in place.seals()[-1:]:
            return digest_of(place.contents(seal_name(name)))
    return NO_SEAL
