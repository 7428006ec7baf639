"""`policyfs audit export` writes events for other programs."""

from __future__ import annotations

import argparse
import csv
import functools
import heapq
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_query,
    finish,
    opened,
    tell_nothing,
    unreadable,
)
from policyfs.cli.common.output import private_file
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.linux.code_digest import VERSION
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import Fields, Record, short_name
from policyfs.trail.lines.table import shown
from policyfs.trail.query.selection import Selection
from policyfs.trail.text.cause import Lookup
from policyfs.trail.text.export import CSV_HEAD, csv_row, ocsf
from policyfs.trail.text.templates import Templates, Values

_FORMATS = ("jsonl", "csv", "ocsf")
_BATCH = 500
_ABSENT = " + ".join(f"({name} IS NULL) * {1 << at}" for at, name in enumerate(Values._fields[2:]))
_COLUMNS = f"line, offset, seq, class, {_ABSENT}, repeats, {', '.join(Values._fields)}".replace(
    "time_ns", "time"
)


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    add = parser.add_argument
    add("--format", choices=_FORMATS, default="jsonl", help="default: %(default)s")
    add("--schema", action="store_true", help="print the JSON Schema of the lines of a trail, and no event")
    add("-o", "--output", metavar="FILE", help="write to this file, not to standard output")
    add_query(parser)


def run_export(args: argparse.Namespace) -> int:
    """Write the events that the query selects. Return 1 if there is none. With --schema, write the schema."""
    if args.schema:
        from policyfs.trail.lines.schema import line_schema

        print(json.dumps(line_schema(), indent=2))
        return EXIT_OK
    trail, wanted = opened(args)
    if args.output is None:
        count = _written(args, trail, wanted, sys.stdout)
    else:
        count = _text_file(args, trail, wanted)
        print(f"{shown(args.output)}: {count} event{'s' * (count != 1)}")
    if not count:
        tell_nothing(trail, args, "matches")
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
    lines, count = _lines(args, trail, wanted), 0
    while batch := list(itertools.islice(lines, _BATCH)):
        file.write("".join(batch))
        count += len(batch)
    return count


def _lines(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection) -> Iterator[str]:
    """Yield a line for each selected event by time, newline included. Raises PolicyfsError."""
    try:
        form = functools.partial(_line, args.format, KeptPolicies(trail.chains).fact)
        check_names(trail, wanted)
        chains = [_of_chain(args.format, trail, chain, wanted, form) for chain in trail.chains]
        yield from (line for _, _, line in heapq.merge(*chains, key=lambda one: one[:2]))
    except OSError as exc:
        raise unreadable(args, exc) from exc


def _line(form: str, lookup: Lookup, event: Event, name: str, fields: Fields | None = None) -> str:
    if form == "csv":
        return _csv_line(csv_row(event, name))
    if form == "ocsf":
        fields = ocsf(event, name, VERSION, lookup, os.uname().nodename)
    return json.dumps(fields) + "\n"


def _of_chain(
    form: str, trail: IndexedTrail, chain: Chain, wanted: Selection, line_of: Callable[..., str]
) -> Iterator[tuple[int, str, str]]:
    """Yield the time, the chain and the line of each selected event. Few are read from the segments: the
    index has what CSV and OCSF need."""
    latest_ns, prefix = 0, f"{short_name(chain.name)}:"
    for portion in trail.portions(chain):
        templates, classes = Templates(line_of, in_json=form == "ocsf"), portion.index.classes
        paths: dict[int | None, bytes] = dict(portion.index.query("SELECT id, name FROM path"))
        for row in portion.index.select(_COLUMNS, wanted):
            line, offset, seq, class_id, absent, repeats, time_ns, path, new_path, *numbers = row
            name, text = f"{prefix}{seq}", None
            latest_ns = max(latest_ns, time_ns)
            if form == "jsonl":
                raw = portion.file.line(offset).decode("utf-8", "backslashreplace")
                text = f'{{"id":"{name}",{raw[1:]}\n'
            elif repeats is None:
                values = Values(time_ns, paths[path], paths.get(new_path), *numbers)
                text = templates.text(class_id, absent, classes[class_id], values, name)
            if text is None and isinstance(item := portion.row(line, offset), Record) and item.event:
                text = line_of(item.event, item.id)
            if text is not None:
                yield latest_ns, chain.name, text


def _csv_line(row: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    return line.getvalue()
