"""`policyfs audit verify`: each chain below a trail root, and the chains' testimony about each other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from itertools import starmap
from pathlib import Path
from typing import Final

from policyfs.cli.audit_policy import wrong_texts
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.reader import Chain, raw_lines
from policyfs.journal.segments import segment_number
from policyfs.trail.record import parse_id
from policyfs.trail.render import report_json, report_lines
from policyfs.trail.verify import Break, Report, Verifier
from policyfs.trail.witness import Sighting, Witness, sightings, vanished

_PATIENCE_S: Final = 1.0
_VERIFY_TRIES: Final = 3


def verify(chains: list[Chain], trail: str, expect: list[str], *, as_json: bool) -> int:
    """Print a report on each chain. Exit code 1 if a line or a chain is missing or changed.

    expect: pairs of a record's id and its digest. Raises UsageError.
    """
    expected = _expected(expect)
    seen = _all_sightings(chains)
    gone = vanished(seen, _names_at(Path(trail), chains))
    reports = []
    for chain in chains:
        mine = {seq: head for (mount, seq), head in expected.items() if chain.mount_id.startswith(mount)}
        report = _verify_chain(
            chain, mine, [sighting for sighting in seen if sighting.seen == chain.mount_id]
        )
        reports.append(_with_vanished(report, gone))
    unknown = [
        f"{mount}:{seq}"
        for mount, seq in expected
        if not any(chain.mount_id.startswith(mount) for chain in chains)
    ]
    for report in reports:
        print(json.dumps(report_json(report)) if as_json else "\n".join(report_lines(report)))
    for name in unknown:
        print(f"policyfs: no trail of the mount of {name} at {trail}", file=sys.stderr)
    if not reports:
        print(f"policyfs: no mount has recorded anything at {trail}", file=sys.stderr)
    whole = bool(reports) and not unknown and all(report.whole and not report.missing for report in reports)
    return EXIT_OK if whole else EXIT_REFUSED


def _expected(pairs: list[str]) -> dict[tuple[str, int], str]:
    expected = {}
    for pair in pairs:
        name, _, head = pair.partition("=")
        if not re.fullmatch(r"[0-9a-f]{64}", head):
            raise UsageError(f"--expect {pair!r}: write ID=DIGEST, as verify prints its head")
        try:
            expected[parse_id(name)] = head
        except ValueError as exc:
            raise UsageError(f"--expect: {exc}") from exc
    return expected


def _verify_chain(chain: Chain, expected: dict[int, str], seen: list[Sighting]) -> Report:
    for _ in range(_VERIFY_TRIES):
        verifier, witness = Verifier(chain.mount_id, expected), Witness(seen)
        try:
            for name in chain.segments():
                lines = raw_lines(chain.directory, name, _PATIENCE_S)
                verifier.segment(name, segment_number(name) or 0, witness.following(lines))
        except FileNotFoundError:
            continue  # rotation removed the oldest segment meanwhile: begin again
        report = verifier.report()
        changed, missing = wrong_texts(chain.directory, verifier.policies)
        breaks = (*report.breaks, *starmap(Break, witness.finish()), *changed)
        return report._replace(breaks=breaks, missing=tuple(missing))
    raise PolicyfsError(f"segments of {chain.directory} were removed while they were read: try again")


def _all_sightings(chains: list[Chain]) -> list[Sighting]:
    """Return each chain's sightings of others. Call it before any is verified: they may grow meanwhile."""
    found = []
    for chain in chains:
        for name in chain.segments():
            with contextlib.suppress(FileNotFoundError):  # rotation
                found += sightings(chain.mount_id, name, raw_lines(chain.directory, name))
    return found


def _names_at(root: Path, chains: list[Chain]) -> frozenset[str]:
    """Return the names of the directories at the trail root, also of those without a segment."""
    if any(chain.directory == root for chain in chains):
        root = root.resolve().parent  # one mount's own directory was named
    return frozenset(os.listdir(root))


def _with_vanished(report: Report, gone: list[tuple[Sighting, bool]]) -> Report:
    """Add to a chain's report the chains that it has seen and that are gone (witness.vanished)."""
    mine = [(sighting, latest) for sighting, latest in gone if sighting.place.mount_id == report.mount_id]
    breaks = [
        Break(sighting.place, f"the whole chain {sighting.seen}, which was there then, is missing")
        for sighting, latest in mine
        if latest
    ]
    notes = [
        Break(sighting.place, f"the chain {sighting.seen}, which was there then, is not there any more")
        for sighting, latest in mine
        if not latest
    ]
    return report._replace(breaks=(*report.breaks, *breaks), notes=(*report.notes, *notes))
