"""Evidence for `policyfs audit verify` that is kept outside of a trail: checkpoints, keys and last seals."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.on_record import trail_root
from policyfs.errors import PolicyfsError
from policyfs.journal.files.directories import key_directory
from policyfs.journal.files.reader import root_of
from policyfs.journal.sealing.ends import ends
from policyfs.trail.chain.damage import RESEALED, ROLLED_BACK, TRUNCATED
from policyfs.trail.chain.seal import checkpoint_of, split
from policyfs.trail.chain.verification import Report
from policyfs.trail.lines.table import shown

_MOUNT_ID: Final = re.compile(rb'"mount_id":"([^"]*)"')
_PUBLIC: Final = "keys.public"
_AT_THE_END: Final = frozenset({TRUNCATED, ROLLED_BACK, RESEALED})


class Anchors(NamedTuple):
    """Evidence that was kept outside of a trail. `audit verify` compares the trail with this evidence.

    expect: texts ``ID=DIGEST``, a record's id and its digest. checkpoints: the lines of checkpoint files,
    also of those that this machine keeps beside its keys. keys: the public keys of the machine that wrote the
    trail; None if they are unknown. unreadable: sentences about lines that are no checkpoints, if no later
    checkpoint replaces them. ends: the files beside the keys, each about the last seal of one chain.
    """

    expect: list[str]
    checkpoints: list[bytes]
    keys: bytes | None
    unreadable: Sequence[str] = ()
    ends: Collection[Path] = ()


def anchors(args: argparse.Namespace) -> Anchors:
    """Read the evidence in the files that the options of `audit verify` name. Raises PolicyfsError."""
    lines: list[bytes] = []
    unreadable: list[str] = []
    for name in args.checkpoint:
        found = _contents(name).splitlines(keepends=True)
        if not any(line.strip() for line in found):
            raise PolicyfsError(f"there is no checkpoint in {name}")
        lines += found
        unreadable += _unreadable(name, found)
    own = of_machine(args.trail)
    keys = _contents(args.keys) if args.keys else own.keys
    return Anchors(args.expect, [*lines, *own.checkpoints], keys, unreadable, own.ends)


def of_machine(trail: str) -> Anchors:
    """Return the evidence that this machine itself keeps: its keys, and the last seal of each chain."""
    kept = ends(key_directory(), root_of(trail))
    lines = [line for of_chain in kept.values() for line in of_chain]
    return Anchors([], lines, machine_keys(trail), (), list(kept))


def _unreadable(name: str, lines: Sequence[bytes]) -> list[str]:
    """Return sentences about the lines of a file that are no checkpoints, if no later line replaces them."""
    found = []
    later: set[str] = set()
    for number, line in reversed(list(enumerate(lines, start=1))):
        signed = split(line)
        made = checkpoint_of(signed.body) if signed else None
        named = {mount_id.decode("ascii", "replace") for mount_id in _MOUNT_ID.findall(line)}
        if made is not None:
            later.add(made.mount_id)
        elif line.strip() and not (later and named <= later):
            found.append(
                f"line {number} of {name} is no checkpoint: it was cut or changed, and no later checkpoint"
                " replaces it; compare with another copy of this file"
            )
    return found[::-1]


def machine_keys(trail: str) -> bytes | None:
    """Return the public keys of this machine if *trail* is its own trail root or in this root, else None."""
    place, root = os.path.realpath(trail), os.path.realpath(trail_root())
    if root not in (place, os.path.dirname(place)):
        return None
    own = key_directory() / _PUBLIC
    return own.read_bytes() if own.exists() else None


def _contents(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as exc:
        raise PolicyfsError(f"cannot read {name}: {exc.strerror}") from exc


def about_ends(reports: Sequence[Report], gone: Sequence[str], trail: str, compared: Anchors) -> list[str]:
    """Return sentences about last seals: which are not known, and which files contradict the trail. gone: the
    names of chains that checkpoints name, and that are missing."""
    signed = filter(None, map(split, compared.checkpoints))
    known = {made.mount_id for line in signed if (made := checkpoint_of(line.body))}
    unknown = [shown(report.mount_id) for report in reports if report.signed and report.mount_id not in known]
    found = []
    if unknown:
        found.append(
            f"not checked: whether the newest sealed files of {', '.join(unknown)} were removed. This machine"
            f" keeps no last seal of a chain at {trail} with this name that you may read; compare with a"
            " checkpoint (--checkpoint)"
        )
    changed = [one.mount_id for one in reports if any(broken.kind in _AT_THE_END for broken in one.breaks)]
    for path in compared.ends:
        if path.name.startswith(tuple(f"{name}-" for name in [*changed, *gone])):
            found.append(
                f"the trail was compared with the last seal in {path}; only if you removed or restored this"
                " chain yourself, remove this file"
            )
    return found
