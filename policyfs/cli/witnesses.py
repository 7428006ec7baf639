"""`policyfs audit verify`: what the chains below one trail root say of each other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from policyfs.journal.reader import Chain, raw_lines
from policyfs.trail.verify import Break, Report
from policyfs.trail.witness import Sighting, sightings


def all_sightings(chains: list[Chain]) -> list[Sighting]:
    """What each chain says of others. Before any of them is verified: they may grow meanwhile."""
    found = []
    for chain in chains:
        for name in chain.segments():
            with contextlib.suppress(FileNotFoundError):  # rotation
                found += sightings(chain.mount_id, name, raw_lines(chain.directory, name))
    return found


def names_at(root: Path, chains: list[Chain]) -> frozenset[str]:
    """Names of the directories at the trail root, those without a segment too: empty is not gone."""
    if any(chain.directory == root for chain in chains):
        root = root.resolve().parent  # one mount's own directory was named
    return frozenset(os.listdir(root))


def with_vanished(report: Report, gone: list[tuple[Sighting, bool]]) -> Report:
    """The report of a chain with the chains that it has seen and that are not there (witness.vanished)."""
    mine = [(sighting, known) for sighting, known in gone if sighting.place.mount_id == report.mount_id]
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
