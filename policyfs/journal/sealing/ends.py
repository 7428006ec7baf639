"""Ends of hash chains: checkpoints of the last sealed lines, in files beside the keys."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from policyfs.trail.chain.seal import checkpoint_of, split


def file_name(chain: str, root: Path) -> str:
    """Return the name of the file about a chain in a trail root; for an empty name, only its end."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return f"{chain}-{digest}.end"


def ends(keys: Path, root: Path) -> dict[Path, list[bytes]]:
    """Return the checkpoints of the chains in a trail root, by their file; none if they may not be read.
    keys: the directory of the keys."""
    try:
        names = sorted(name for name in os.listdir(keys) if name.endswith(file_name("", root)))
        return {keys / name: lines_of(keys / name) for name in names}
    except (FileNotFoundError, PermissionError):
        return {}


def last_seqs(keys: Path, root: Path) -> dict[str, int]:
    """Return the numbers of the last sealed lines of the chains in a trail root, by the name of the chain."""
    found: dict[str, int] = {}
    for line in (line for lines in ends(keys, root).values() for line in lines):
        signed = split(line)
        checkpoint = checkpoint_of(signed.body) if signed else None
        if checkpoint is not None:
            found[checkpoint.mount_id] = max(checkpoint.seq, found.get(checkpoint.mount_id, 0))
    return found


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file; none if it is missing."""
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
