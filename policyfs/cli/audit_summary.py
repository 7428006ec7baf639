"""`policyfs audit summary`: counts of the selected events, and the reasons of denials."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from policyfs.cli.audit_names import check_names
from policyfs.cli.audit_policies import KeptPolicies
from policyfs.cli.audit_query import add_query, columns, open_trail, selection_of, zone_of
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.journal.directories import cache_directory
from policyfs.journal.index_cache import IndexCache
from policyfs.journal.indexed import IndexedTrail, Portion
from policyfs.journal.verification import is_recorded
from policyfs.trail.cause import cause_of, remedy_of
from policyfs.trail.index_rows import add_to_summary
from policyfs.trail.line import iso_time
from policyfs.trail.record import BadLine, Fields, Record
from policyfs.trail.render import grouped_lines, summary_json, summary_lines
from policyfs.trail.restarts import STARTS, UNENDED, Restarts
from policyfs.trail.selection import Selection, parse_query
from policyfs.trail.summary import COUNTED, GROUPS, Summary
from policyfs.trail.table import shown

_LATE_NS = 5_000_000_000
"""The time, in ns, after which an event is surely on the trail if the disk works. An event may wait in a
queue for a tenth of a second, and a count of repeats may wait for a second. The next `summary --new` counts
the younger events."""


def add_parsers(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the action `summary` to `policyfs audit`. common: a parser with the options of all actions."""
    summary = actions.add_parser("summary", parents=[common], help="count the matching events")
    by_help = f"count for each combination of these fields: {', '.join(GROUPS)}"
    summary.add_argument("--by", metavar="FIELD,...", help=by_help)
    new_help = "only events since the last summary --new with the same query"
    summary.add_argument("--new", action="store_true", help=new_help)
    add_query(summary)


def run(args: argparse.Namespace) -> int:
    """Print the counts of the selected events. Return 1 if no event is selected."""
    by = args.by.split(",") if args.by else []
    for name in by:
        if name not in GROUPS:
            raise UsageError(f"--by {shown(name)!r}: the possible fields are {', '.join(GROUPS)}")
    wanted, until_ns = selection_of(args), time.time_ns() - _LATE_NS
    marker = _Marker(args)
    last = marker.read() if args.new else None
    trail = open_trail(args)
    check_names(trail, wanted)
    summary = _only_new(trail, wanted, by, last, until_ns) if args.new else summarize(trail, wanted, by)
    policies = KeptPolicies(trail.chains)
    if args.json:
        print(json.dumps({**summary_json(summary), **_more_json(summary, by, policies)}))
    elif by:
        print("\n".join(grouped_lines(summary, by, columns())))
    else:
        print("\n".join(summary_lines(summary, zone_of(args), columns(), policies.fact)))
    sys.stdout.flush()
    is_lost = getattr(sys.stdout, "error", None) is not None  # main() reports the error at the end
    if args.new and not is_lost:
        steps = {} if last is None else last.steps
        steps = steps | {step.place.mount_id: step.seq for step in summary.clock_steps}
        marker.write(_Review(until_ns, steps))
    return EXIT_OK if summary.events else EXIT_REFUSED


class _Review(NamedTuple):
    """A run of `summary --new`.

    until_ns: the time (ns since 1970) until which it counted. steps: for each chain, the number of the newest
    record ``clock`` (the clock went back) that it found.
    """

    until_ns: int
    steps: dict[str, int]

    def may_lack(self, steps: list[Record]) -> bool:
        """Return True if the clock went back after this run, to a time before *until_ns*.

        Then later events may have times before *until_ns*, but this run did not count them. steps: the
        records ``clock`` of the trail.
        """
        return any(
            step.seq > self.steps.get(step.place.mount_id, 0) and step.time_ns < self.until_ns
            for step in steps
        )


def _only_new(
    trail: IndexedTrail, wanted: Selection, by: list[str], last: _Review | None, until_ns: int
) -> Summary:
    """Count the events since the last run of `summary --new`. Return the counts.

    If the clock went back since that run, count all events, and print that on stderr: nobody knows which
    events that run counted. last: that run; None: there was none. until_ns: do not count events from this
    time on (ns since 1970).
    """
    if last is None or last.until_ns <= until_ns:
        since = "" if last is None else f" since:{iso_time(last.until_ns)}"
        new = wanted.narrowed(parse_query(f"until:{iso_time(until_ns)}{since}"))
        summary = summarize(trail, new, by)
        if last is None or not last.may_lack(summary.clock_steps):
            return summary
    what = "the clock went back since the last summary --new: counting all events"
    print(f"policyfs: {what}", file=sys.stderr)
    return summarize(trail, wanted, by)


def summarize(trail: IndexedTrail, wanted: Selection, by: list[str]) -> Summary:
    """Count the events that a selection contains.

    by: the names of the fields by which the counts are grouped.
    """
    summary = Summary(by)
    for chain in trail.chains:
        restarts = Restarts()
        for portion in trail.portions(chain):
            count_portion(summary, portion, wanted, restarts)
            steps = portion.own(frozenset({"clock"}))
            summary.clock_steps += [step for step in steps if isinstance(step, Record)]
        if restarts.unended and not is_recorded(chain):
            summary.crashes.append((chain.mount_id, UNENDED))
    return summary


def count_portion(summary: Summary, portion: Portion, wanted: Selection, restarts: Restarts) -> None:
    """Count the events of one portion (a part of a trail file, with its index), and its bad lines.

    Count also the records of the journal about itself, if their kind is in COUNTED. restarts: the starts and
    ends of daemons in the earlier portions of the chain.
    """
    index = portion.index
    for item in portion.own(COUNTED | STARTS):
        if isinstance(item, BadLine):
            summary.add_trouble(item)
            continue
        restarts.note(index.time_before(item.place.line - portion.first_line))
        crash = restarts.take(item)
        if wanted.concerns(item):
            summary.add_trouble(item)
        if crash and wanted.overlaps(restarts.alive_ns, item.time_ns):
            summary.crashes.append((item.id, crash))
    restarts.note(index.time_before(index.lines + 1))
    add_to_summary(summary, portion.index, portion.exact(wanted))


def _more_json(summary: Summary, by: list[str], policies: KeptPolicies) -> Fields:
    refusals = sorted(summary.refusals.values(), key=lambda one: -one.count)[:100]
    more: Fields = {
        "grounds": [
            {
                "app": one.event.app,
                "count": one.count,
                "cause": cause_of(one.event, policies.fact),
                "rules": list(one.event.rules),
                "path": one.path.decode("utf-8", "backslashreplace"),
                "remedy": remedy_of(one.event, policies.fact),
            }
            for one in refusals
        ]
    }
    if by:
        more["by"] = [
            {**dict(zip(by, key, strict=True)), "decision": decision, "count": count}
            for (key, decision), count in sorted(summary.grouped.items())
        ]
    return more


class _Marker:
    """A file that keeps the last run of `summary --new` on a trail, with one query.

    Each query has a file of its own: after a run that counts the events of one app, the events of all other
    apps are still new. The file is beside the indexes. It is protected against changes in the same way as an
    index.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        """args: the arguments of `summary`."""
        key = os.fsencode(Path(args.trail).resolve())
        query = (
            args.query, args.app, args.uid, args.op, args.decision, args.path, args.rule, args.since,
            args.until,
        )  # fmt: skip
        if any(query):
            key += b"\0" + json.dumps(query).encode()
        self._name = f"reviewed-{hashlib.sha256(key).hexdigest()}"
        self._cache = IndexCache(cache_directory())

    def read(self) -> _Review | None:
        """Return the last run of `summary --new`, or None if there was none."""
        text = self._cache.read(self._name)
        if text is None:
            return None
        if text.isdigit():  # written by an older version
            return _Review(int(text), {})
        return _Review(*json.loads(text))

    def write(self, review: _Review) -> None:
        """Keep a run of `summary --new`."""
        self._cache.save(self._name, json.dumps(review).encode())
