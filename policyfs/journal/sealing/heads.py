"""The ends of the other hash chains at a trail root, which each chain records as a witness (``others``)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from policyfs.journal.files.segments import Chain, open_segment, settled_tail
from policyfs.trail.chain import chain
from policyfs.trail.chain.witness import records_of


def heads_if_any(directory: Path) -> list[dict[str, object]]:
    """Return the fields of ``others`` records about the chains beside *directory*; none if there are none, or
    at an error."""
    try:
        found = heads(directory.parent, but=directory.name)
    except OSError:
        return []
    return records_of(found) if found else []


def heads(root: Path, *, but: str) -> dict[str, str]:
    """Return the ends (``SEQ=DIGEST`` of the last settled line) of the hash chains below *root*, except
    *but*. Those that cannot be read are left out: they must not prevent a mount."""
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            if name != but and (head := _head(Chain(name, root / name))):
                found[name] = head
    return found


def _head(other: Chain) -> str | None:
    for name in reversed(other.segments()):
        try:
            fd = open_segment(other.directory / name)
        except OSError:
            continue  # rotation has removed the segment
        try:
            line = settled_tail(fd)
        finally:
            os.close(fd)
        sealed = chain.split(line) if line else None
        if sealed is not None:
            return f"{chain.seq_of(sealed.body)}={sealed.chain}"
    return None
