"""`policyfs audit show --proof` prints a record with a proof that it is part of a trail.

`policyfs audit verify --proof` checks such a proof, without the trail.
"""

from __future__ import annotations

import sys
from pathlib import Path

from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.reader import raw_lines
from policyfs.journal.files.segments import Chain, SegmentDirectory, plain_name, seal_name
from policyfs.trail.chain import chain as chains
from policyfs.trail.chain.proof import check_proof, make_proof
from policyfs.trail.chain.seal import seal_of, split
from policyfs.trail.lines.record import parse_id
from policyfs.trail.lines.table import shown

_PUBLIC = "keys.public"


def check(name: str) -> int:
    """Check a proof that `show --proof` has made. name: the proof's file. Raises PolicyfsError."""
    from policyfs.journal.sealing.keys import is_signed

    try:
        found = check_proof(Path(name).read_text(encoding="utf-8"), is_signed)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise PolicyfsError(f"cannot check {name}: {reason}") from exc
    if found.wrong or found.seal is None:
        print(f"policyfs: not proven: {found.wrong}", file=sys.stderr)
        return EXIT_REFUSED
    seal = found.seal
    print(shown(found.line))
    print(f"proven: in {shown(seal.segment)} of {shown(seal.mount_id)}, sealed {shown(seal.time)}")
    keys = f"the trail's first key is {found.keys.keys[0].key}, the key of the seal is {seal.key}"
    print(f"{keys}: compare both keys with the keys of the machine")
    return EXIT_OK


def prove(found: list[Chain], name: str) -> int:
    """Print the proof of the record with this id. Raises UsageError, PolicyfsError."""
    try:
        mount, seq = parse_id(name)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    from policyfs.journal.sealing.keys import is_signed

    for chain in found:
        if chain.mount_id.startswith(mount) and (proof := _proof(chain, seq)):
            if wrong := check_proof(proof, is_signed).wrong:
                raise PolicyfsError(f"not proven: {shown(wrong)}. Run `policyfs audit verify`")
            print(proof)
            return EXIT_OK
    why = "a record can be proved only after its segment is full and sealed"
    print(f"policyfs: no sealed record {shown(name)}: {why}", file=sys.stderr)
    return EXIT_REFUSED


def _proof(chain: Chain, seq: int) -> str:
    with SegmentDirectory.at(chain.directory) as place:
        sealed = frozenset(place.seals())
        for name in chain.segments():
            if plain_name(name) not in sealed:
                continue
            line = place.contents(seal_name(name))
            found = split(line)
            seal = seal_of(found.body) if found else None
            if seal is None or not seal.first_seq <= seq <= seal.last_seq:
                continue
            lines = [raw for raw, _ in zip(raw_lines(chain.directory, name), range(seal.lines), strict=False)]
            index = seq - seal.first_seq
            if index >= len(lines):
                raise PolicyfsError(f"{shown(name)} lacks sealed lines. Run `policyfs audit verify`")
            before = chains.split(lines[index - 1][:-1]) if index else None
            previous = before.chain if before else seal.opening
            return make_proof(lines, index, previous, line, place.contents(_PUBLIC))
    return ""
