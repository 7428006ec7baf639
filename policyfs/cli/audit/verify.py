"""`policyfs audit verify`: the check of the trail of each mount.

The check also compares the trails' records about each other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import pairwise, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.cli.audit.evidence import Anchors, about_ends, anchors
from policyfs.cli.audit.query import chains_of
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.inventory import unread
from policyfs.journal.files.policy_texts import POLICIES, read_policy
from policyfs.journal.files.reader import last_records
from policyfs.journal.files.segments import Chain
from policyfs.trail.chain.damage import DELETED, EDITED, RESEALED
from policyfs.trail.chain.restarts import UNENDED
from policyfs.trail.chain.seal import KeyChain
from policyfs.trail.chain.verification import Break, Report, is_unread
from policyfs.trail.chain.verify import Verifier
from policyfs.trail.chain.witness import Sighting, Witness, sightings, vanished
from policyfs.trail.lines.record import Place, Record, parse_id
from policyfs.trail.lines.table import shown
from policyfs.trail.text.render import report_json, report_lines

if TYPE_CHECKING:
    from policyfs.journal.sealing.verification import KeptCheckpoint, Part

_VERIFY_TRIES: Final = 3
_TWO: Final = "--expect gives two digests for the record {}: only one of them can be right"
_PUBLIC: Final = "keys.public"
_SEALED_NS: Final = 60_000_000_000
"""The time after the end of a segment, in ns, in which its seal may be missing. The daemon needs a second."""
_BARE: Final = (
    "this closed segment has no seal: another process removed the seal, or policyfs has not written it yet"
    " (after a crash, the next mount writes it)"
)


class _Checked(NamedTuple):
    """The check of one chain. recorded: a daemon was writing meanwhile. unsealed: segments without a seal."""

    chain: Chain
    verifier: Verifier
    records: list[Record]
    spans: dict[str, tuple[int, int]]
    recorded: bool
    unsealed: list[str]


def add_verify(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    help_ = "the digest that this record must have, as an earlier verify printed it"
    add("--expect", action="append", default=[], metavar="ID=DIGEST", help=help_)
    help_ = "compare the trail with the checkpoints in this file (see policyfs audit key checkpoint)"
    add("--checkpoint", action="append", default=[], metavar="FILE", help=help_)
    help_ = "the public keys of the machine that wrote the trail (default: the keys of this machine)"
    add("--keys", metavar="FILE", help=help_)


def run_verify(args: argparse.Namespace) -> int:
    """Check the trail, and print the result."""
    compared = anchors(args)  # before the chains: a new chain may get its first seal meanwhile
    return verify(chains_of(args), args.trail, compared, as_json=args.json)


def verify(chains: list[Chain], trail: str, compared: Anchors, *, as_json: bool) -> int:
    """Check the chains (the trails of the mounts), and print a report on each.

    Return 1 if a line or a chain is missing or changed, or if a part of the evidence is unreadable. Raises
    PolicyfsError. compared: evidence from outside of the trail.
    """
    from policyfs.journal.sealing.verification import missing_chains

    expected = _expected(compared.expect)
    reports = reports_on(chains, trail, compared)
    one_mount = any(chain.directory == Path(trail) for chain in chains)
    gone = {} if one_mount else missing_chains(compared.checkpoints, chains, compared.keys)
    unknown = [
        f"{mount}:{seq}"
        for mount, seq in expected
        if not any(chain.mount_id.startswith(mount) for chain in chains)
    ]
    for report in reports:
        print(json.dumps(report_json(report)) if as_json else "\n".join(report_lines(report)))
    for name in unknown:
        what = f"the mount that wrote the record {name} (--expect) has no trail at {shown(trail)}"
        print(f"policyfs: {what}", file=sys.stderr)
    for mount_id, when in gone.items():
        what = f"is missing at {shown(trail)}, but the checkpoint of {when} names it"
        print(f"policyfs: the whole chain {shown(mount_id)} {what}", file=sys.stderr)
    strange = list(unread(Path(trail), chains, {}))
    for name, hole in strange:
        print(f"policyfs: not checked: {shown(name)}: {shown(hole.why)}", file=sys.stderr)
    for sentence in [*compared.unreadable, *about_ends(reports, [*gone], trail, compared)]:
        print(f"policyfs: {sentence}", file=sys.stderr)
    if not reports:
        print(f"policyfs: no mount has recorded anything at {shown(trail)}", file=sys.stderr)
    whole = all(report.whole and not report.missing for report in reports)
    whole = whole and bool(reports) and not unknown and not (gone or strange or compared.unreadable)
    return EXIT_OK if whole else EXIT_REFUSED


def reports_on(chains: list[Chain], trail: str, compared: Anchors) -> list[Report]:
    """Check each chain (the trail of one mount), also against the records of other chains about this chain.
    Raises PolicyfsError."""
    from policyfs.journal.sealing.verification import workers

    expected = _expected(compared.expect)
    wanted = [_of(chain, expected) for chain in chains]
    ends = {chain.mount_id: _end(chain) for chain in chains}
    there = _names_at(Path(trail), chains)
    with workers(chains) as pool:
        checked = [_read_chain(chain, of, compared, pool) for chain, of in zip(chains, wanted, strict=True)]
    # Leave out records that were written during this check. They may be about lines that another chain got
    # after this check had read that chain. Record numbers decide this, because a clock may be set back.
    told = [record for one in checked for record in one.records if record.seq <= ends[one.chain.mount_id]]
    seen = sightings(told)
    gone = vanished(seen, there)
    return [_with_vanished(_report(one, seen), gone) for one in checked]


def _end(chain: Chain) -> float:
    """Return the number of a chain's last line; 0 if there is no line, infinity if that line is damaged."""
    last = last_records(chain, 1)
    if not last:
        return 0
    return last[0].seq if isinstance(last[0], Record) else math.inf


def _of(chain: Chain, expected: Mapping[tuple[str, int], str]) -> dict[int, str]:
    """Return the expected digests of a chain by line number. Raise UsageError if a line has two digests."""
    found: dict[int, str] = {}
    for (mount, seq), head in expected.items():
        if chain.mount_id.startswith(mount) and found.setdefault(seq, head) != head:
            raise UsageError(_TWO.format(f"{mount}:{seq}"))
    return found


def _expected(pairs: list[str]) -> dict[tuple[str, int], str]:
    expected: dict[tuple[str, int], str] = {}
    for pair in pairs:
        name, _, head = pair.partition("=")
        if not re.fullmatch(r"[0-9a-f]{64}", head):
            raise UsageError(f"--expect {pair!r}: write ID=DIGEST, as in the line `head:` of `audit verify`")
        try:
            known = expected.setdefault(parse_id(name), head)
        except ValueError as exc:
            raise UsageError(f"--expect: {exc}") from exc
        if known != head:
            raise UsageError(_TWO.format(name))
    return expected


def _read_chain(chain: Chain, expected: dict[int, str], compared: Anchors, pool: Executor | None) -> _Checked:
    from policyfs.journal.sealing.verification import (
        all_keys,
        is_recorded,
        kept_checkpoints,
        missing_segment,
        parts,
        read_key_chain,
    )

    recorded = is_recorded(chain)
    for _ in range(_VERIFY_TRIES):
        keys = read_key_chain(chain.directory)
        kept = kept_checkpoints(compared.checkpoints, chain.mount_id, all_keys(keys, compared.keys))
        verifier = Verifier(chain.mount_id, expected, [one.checkpoint for one in kept])
        records: list[Record] = []
        spans: dict[str, tuple[int, int]] = {}
        checked: list[Part] = []
        try:
            for part in parts(chain, keys, verifier.wanted, pool):
                verifier.add(part.check, part.lines, part.seal)
                records += part.check.records
                spans[part.check.name] = part.check.first_seq, part.check.last_seq
                checked.append(part)
        except FileNotFoundError:
            continue  # rotation removed the oldest segment meanwhile: check the chain again
        if gone := missing_segment(chain):
            verifier.fault(DELETED, f"segment {gone} is missing, but its seal exists")
        keys = read_key_chain(chain.directory)  # a daemon may have made the first key, or a new one
        _check_keys(verifier, keys, compared.keys, kept)
        unsealed = _unsealed(checked) if keys.keys or compared.keys else []
        return _Checked(chain, verifier, records, spans, recorded or is_recorded(chain), unsealed)
    raise PolicyfsError(
        f"segments of {chain.directory} were removed while policyfs read the trail: try again"
    )


def _unsealed(parts: Sequence[Part]) -> list[str]:
    """Return the closed segments with events that lack a seal. A seal may come a minute late."""
    now_ns = time.time_ns()
    return [
        part.check.name
        for part, after in pairwise(parts)
        if part.seal is None and part.check.sound and part.check.lines > len(part.check.records)
        if not any(0 <= now_ns - record.time_ns < _SEALED_NS for record in after.check.records[:1])
    ]


def _check_keys(
    verifier: Verifier, keys: KeyChain, machine: bytes | None, kept: list[KeptCheckpoint]
) -> None:
    from policyfs.journal.sealing.verification import are_of_machine

    if keys.wrong:
        verifier.fault(EDITED, f"{_PUBLIC} is not valid: {keys.wrong}", 0)
    elif machine is not None and keys.keys and not are_of_machine(keys, machine):
        what = f"{_PUBLIC} has other keys than the machine: the trail was sealed again with another key"
        verifier.fault(RESEALED, what, 0)
    elif not keys.keys and verifier.has_seals:
        verifier.fault(DELETED, f"{_PUBLIC}, the public keys of the seals, is missing")
    wrong = [one for one in kept if one.distrust and verifier.seq >= one.checkpoint.seq]
    for distrust in {one.checkpoint.key: one.distrust for one in wrong}.values():  # one for each key
        verifier.fault(RESEALED, f"{distrust}: the trail or the checkpoint was made with another key", 0)


def _report(checked: _Checked, seen: list[Sighting]) -> Report:
    """Return the report on a chain. The chain must also agree with the records of other chains."""
    from policyfs.journal.sealing.verification import digests_at

    chain, verifier = checked.chain, checked.verifier
    witness = Witness([sighting for sighting in seen if sighting.seen == chain.mount_id])
    for name, (first, last) in checked.spans.items():
        witness.begin(first)
        if wanted := [seq for seq in witness.wanted if first <= seq <= last]:
            witness.compare(digests_at(chain, name, wanted))
    report = verifier.report()
    notes = list(report.notes)
    if verifier.restarts.unended and not checked.recorded:
        notes.append(Break(Place(chain.mount_id, list(checked.spans)[-1], 0), UNENDED))
    changed, missing = wrong_texts(chain.directory, verifier.policies)
    differences = witness.finish()
    told = [] if report.breaks else list(starmap(Break, differences))
    named = {found.place.segment for found in report.breaks}
    named |= {str(one.fields.get("segment")) for one in checked.records if is_unread(one)}
    bare = [
        Break(Place(chain.mount_id, name, 0), _BARE, DELETED)
        for name in checked.unsealed
        if name not in named
    ]
    proven = min([report.proven, *(checked.spans[found.place.segment][0] - 1 for found in bare)])
    if (seq := witness.contradicted) is not None:  # if a seal has this line, somebody has misused the key
        proven = min(proven, max(witness.confirmed(seq), report.signed if report.signed < seq else 0))
    breaks = (*report.breaks, *told, *bare, *(found._replace(kind=EDITED) for found in changed))
    return report._replace(
        breaks=breaks, missing=tuple(missing), notes=tuple(notes), proven=proven,
        signed=min(report.signed, proven),
    )  # fmt: skip


def _names_at(root: Path, chains: list[Chain]) -> frozenset[str]:
    """Return all names in the trail root, also of directories without a trail file."""
    if any(chain.directory == root for chain in chains):
        root = root.resolve().parent  # *root* is the directory of one mount
    return frozenset(os.listdir(root))


def _with_vanished(report: Report, gone: list[tuple[Sighting, bool]]) -> Report:
    """Add to the report on a chain the missing chains (of vanished()) that its records name."""
    mine = [(sighting, latest) for sighting, latest in gone if sighting.place.mount_id == report.mount_id]
    breaks = [
        Break(
            sighting.place,
            f"the whole chain {sighting.seen} is missing, but it existed when this record was written",
            DELETED,
        )
        for sighting, latest in mine
        if latest
    ]
    notes = [
        Break(
            sighting.place,
            f"the chain {sighting.seen} does not exist any more, but it existed when this record was written",
        )
        for sighting, latest in mine
        if not latest
    ]
    return report._replace(breaks=(*report.breaks, *breaks), notes=(*report.notes, *notes))


def wrong_texts(directory: Path, named: Mapping[str, Place]) -> tuple[list[Break], list[Break]]:
    """Check the texts of policies that the trail keeps.

    Return two lists of faults: changed texts, and missing texts. named: a dictionary from the digest of each
    policy to the place of a record that names the policy.
    """
    from policyfs.policy.text.parse import digest_of

    changed, missing = [], []
    for digest, place in named.items():
        name = f"the text of policy {shown(digest[:16])} ({POLICIES}/)"
        try:
            texts = [text for _, text in read_policy(directory, digest)]
        except OSError:
            missing.append(Break(place, f"{name} is missing: copy it together with the segments"))
            continue
        if digest_of(texts) != digest:
            changed.append(Break(place, f"{name} was changed"))
    return changed, missing
