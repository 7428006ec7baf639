"""`policyfs audit verify`: the testimony of the chains below one trail root about each other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from policyfs.journal.reader import Chain, raw_lines
from policyfs.trail.verify import Break, Report
from policyfs.trail.witness import Sighting, sightings


def all_sightings(chains: list[Chain]) -> list[Sighting]:
    """Return each chain's sightings of others. Call it before any is verified: they may grow meanwhile."""
    found = []
    for chain in chains:
        for name in chain.segments():
            with contextlib.suppress(FileNotFoundError):  # rotation
                found += sightings(chain.mount_id, name, raw_lines(chain.directory, name))
    return found


def names_at(root: Path, chains: list[Chain]) -> frozenset[str]:
    """Return the names of the directories at the trail root, also of those without a segment."""
    if any(chain.directory == root for chain in chains):
        root = root.resolve().parent  # one mount's own directory was named
    return frozenset(os.listdir(root))


def with_vanished(report: Report, gone: list[tuple[Sighting, bool]]) -> Report:
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
