"""`policyfs audit report`: the trail as one HTML page."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import groupby

from policyfs.cli.audit.evidence import Anchors, of_machine
from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import add_query, finish, holes_of, opened, tell_nothing, zone_of
from policyfs.cli.audit.summary import count_portion
from policyfs.cli.audit.verify import reports_on
from policyfs.cli.common.output import write_private
from policyfs.errors import EXIT_INCOMPLETE, EXIT_OK, EXIT_REFUSED
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.database import Index
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.chain.restarts import Restarts
from policyfs.trail.lines.record import Record
from policyfs.trail.lines.table import shown
from policyfs.trail.query.expression import text_of
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import Summary
from policyfs.trail.text.overview import MINUTE_NS, Overview, directory_of
from policyfs.trail.text.render import local_time, report_lines
from policyfs.trail.text.report_page import PageData, page
from policyfs.trail.text.sentences import describe

_KINDS = frozenset(
    {"mount", "proof", "policy", "failed", "close", "detached", "quarantine", "brake", "undo", "killed"}
)
_QUICK_BYTES = 256 << 20
_WEIGHT = "sum(ifnull(repeats, 1))"
_HIDDEN = f"class, {_WEIGHT}, total(hidden)"


def add_report(parser: argparse.ArgumentParser) -> None:
    help_ = "the page; an existing file is replaced"
    parser.add_argument("--html", metavar="FILE", required=True, help=help_)
    help_ = "check the whole trail, also if it is larger than 256 MiB"
    parser.add_argument("--verify", action="store_true", help=help_)
    add_query(parser)


def run_report(args: argparse.Namespace) -> int:
    """Write the HTML page. Return 1 if no event matches the query, and 5 if the trail is not whole."""
    trail, wanted = opened(args)
    check_names(trail, wanted)
    policies = KeptPolicies(trail.chains)
    summary, overview = Summary(), Overview(policies.fact)
    changes = _collect(trail, wanted, summary, overview)
    chains = list(trail.chains)
    checked = [
        f"hole: {shown(name)}, {hole.what}: {shown(hole.why)}" for name, hole in holes_of(trail, wanted)
    ]
    is_whole = not checked
    if args.verify or _size(chains) <= _QUICK_BYTES:
        for machine, those in groupby(chains, key=lambda chain: chain.machine):
            compared = Anchors([], [], None) if machine else of_machine(args.trail)
            own = [chain._replace(machine="") for chain in those]
            for report in reports_on(own, os.path.join(args.trail, machine), compared):
                checked += [f"{machine}: {line}" if machine else line for line in report_lines(report)]
                is_whole = is_whole and report.whole and not report.missing
    zone, now = zone_of(args), datetime.now(UTC)
    facts = PageData(
        trail=args.trail, made=local_time(int(now.timestamp()) * 1_000_000_000, zone)[:16],
        query=text_of(wanted.tree), summary=summary, overview=overview, checked=checked, is_whole=is_whole,
        changes=[(local_time(one.time_ns, zone)[:19], _change(one)) for one in changes],
        lookup=policies.fact, zone=zone, period=(wanted.since_ns, wanted.until_ns),
    )  # fmt: skip
    write_private(args.html, page(facts))  # the page is as private as the trail
    print(f"{shown(args.html)}: {summary.events} event{'s' * (summary.events != 1)}")
    if not is_whole:
        print("policyfs: the trail is not whole: see the page, or policyfs audit verify", file=sys.stderr)
    if not summary.events:
        tell_nothing(trail, args, "matches")
    code = finish(trail, EXIT_OK if summary.events else EXIT_REFUSED, wanted)
    return code if is_whole else EXIT_INCOMPLETE


def _change(record: Record) -> str:
    machine = record.place.mount_id.rpartition("/")[0]
    return f"{machine}: {describe(record)}" if machine else describe(record)


def _collect(trail: IndexedTrail, wanted: Selection, summary: Summary, overview: Overview) -> list[Record]:
    changes = []
    for chain in trail.chains:
        restarts = Restarts()
        for portion in trail.portions(chain):
            count_portion(summary, portion, wanted, restarts)
            add_events(overview, portion.index, wanted)
            for item in portion.own(_KINDS):
                if isinstance(item, Record) and item.kind in _KINDS and wanted.covers(item.time_ns):
                    changes.append(item)
    return sorted(changes, key=lambda item: item.time_ns)


def add_events(overview: Overview, index: Index, wanted: Selection) -> None:
    """Count the events of an index that a selection contains."""
    classes = index.classes
    directories = {path: directory_of(name) for path, name in index.query("SELECT id, name FROM path")}
    counts, last_ns = Counter[tuple[int, bytes]](), dict[tuple[int, bytes], int]()
    for class_id, path, weight, time_ns in index.select("class, path, ifnull(repeats, 1), time", wanted):
        key = class_id, directories[path]
        counts[key] += weight
        last_ns[key] = time_ns
    for (class_id, directory), weight in counts.items():
        overview.add_directory(classes[class_id], directory, weight, last_ns[class_id, directory])
    for minute, class_id, weight in index.select(
        f"time / {MINUTE_NS}, class, {_WEIGHT}", wanted, "GROUP BY 1, 2"
    ):
        overview.add_minute(minute, classes[class_id].decision, weight)
    for class_id, weight, hidden in index.select(_HIDDEN, wanted, "AND hidden IS NOT NULL GROUP BY class"):
        overview.add_hidden(classes[class_id], weight, int(hidden))


def _size(chains: list[Chain]) -> int:
    total = 0
    for chain in chains:
        for name in chain.segments():
            try:
                total += (chain.directory / name).stat().st_size
            except FileNotFoundError:
                continue
    return total
