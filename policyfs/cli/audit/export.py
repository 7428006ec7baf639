"""`policyfs audit export` writes events for other programs."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_query,
    events_of,
    finish,
    json_fields,
    open_trail,
    selection_of,
    unreadable,
)
from policyfs.cli.common.output import private_file
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.linux.code_digest import VERSION
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import LineFormatter
from policyfs.trail.lines.record import Fields, Record
from policyfs.trail.lines.table import shown
from policyfs.trail.query.selection import Selection
from policyfs.trail.text.cause import nothing_known
from policyfs.trail.text.export import CSV_HEAD, csv_row, ocsf
from policyfs.trail.text.part import part_of

_FORMATS = ("jsonl", "csv", "ocsf")


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    add = parser.add_argument
    add("--format", choices=_FORMATS, default="jsonl", help="default: %(default)s")
    help_ = "only the requests of this app, with the facts that the app may know"
    add("--for-app", metavar="NAME", help=help_)
    add("--schema", action="store_true", help="print the JSON Schema of the lines of a trail, and no event")
    add("-o", "--output", metavar="FILE", help="write to this file, not to standard output")
    add_query(parser)


def run_export(args: argparse.Namespace) -> int:
    """Write the events that the query selects. Return 1 if there is none. With --schema, write the schema."""
    if args.schema:
        from policyfs.trail.lines.schema import line_schema

        print(json.dumps(line_schema(), indent=2))
        return EXIT_OK
    trail, wanted = open_trail(args), selection_of(args)
    if args.output is None:
        count = _written(args, trail, wanted, sys.stdout)
    else:
        count = _text_file(args, trail, wanted)
        print(f"{shown(args.output)}: {count} event{'s' * (count != 1)}")
    return finish(trail, EXIT_OK if count else EXIT_REFUSED, wanted)


def _text_file(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection) -> int:
    """Write the selected events to the file --output. Return their number. Raises PolicyfsError."""
    try:
        with private_file(args.output) as file:
            return _written(args, trail, wanted, file)
    except OSError as exc:
        raise PolicyfsError(f"cannot write {args.output}: {exc.strerror or exc}") from exc


def _written(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection, file: TextIO) -> int:
    if args.format == "csv":
        file.write(_csv_line(CSV_HEAD))
    count = 0
    for line in _lines(args, trail, wanted):
        file.write(line)
        count += 1
    return count


def _lines(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection) -> Iterator[str]:
    """Yield a line for each selected event, newline included. Raises PolicyfsError."""
    try:
        policies = KeptPolicies(trail.chains)
        lookup = nothing_known if args.for_app else policies.fact
        for name, event, fields in _told(args, events_of(trail, wanted), policies):
            if args.format == "csv":
                yield _csv_line(csv_row(event, name))
            elif args.format == "ocsf":
                yield json.dumps(ocsf(event, name, VERSION, lookup, os.uname().nodename)) + "\n"
            else:
                yield json.dumps(fields) + "\n"
    except OSError as exc:
        raise unreadable(args, exc) from exc


def _csv_line(row: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    return line.getvalue()


def _told(
    args: argparse.Namespace, events: Iterator[tuple[Record, Event]], policies: KeptPolicies
) -> Iterator[tuple[str, Event, Fields]]:
    """Yield the id of each selected event, the event, and its fields."""
    if not args.for_app:
        yield from ((record.id, event, json_fields(record)) for record, event in events)
        return
    from policyfs.cli.audit.part import PolicySight

    sight, formatter, number = PolicySight(policies, args.for_app), LineFormatter(), 0
    for _, event in events:
        part = part_of(event, args.for_app, sight)
        if part is None:
            continue
        number += 1
        fields = json.loads(formatter.event(part, number) + b"}")
        for name in ("generation", "policy"):
            del fields[name]
        yield f"{args.for_app}:{number}", part, {"id": f"{args.for_app}:{number}", **fields}
    for digest in sorted(sight.unknown):
        what = (
            f"the trail does not keep policy {digest[:12]}, or this policy has no app {args.for_app}:"
            " denials by this policy are left out"
        )
        print(f"policyfs: {shown(what)}", file=sys.stderr)
