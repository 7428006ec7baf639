"""`policyfs audit export` writes events for other programs."""

from __future__ import annotations

import argparse
import csv
import heapq
import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from policyfs.cli.audit.names import check_names
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
from policyfs.trail.lines.record import Record, short_name
from policyfs.trail.lines.table import shown
from policyfs.trail.query.selection import Selection
from policyfs.trail.text.export import CSV_HEAD, csv_row

_FORMATS = ("jsonl", "csv")
_BATCH = 500
_FIELDS = ("pid", "handle", "bytes_read", "bytes_written", "size_before", "size_after")
_COLUMNS = f"line, offset, seq, class, repeats, time, path, new_path, hidden, {', '.join(_FIELDS)}"


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
    try:
        check_names(trail, wanted)
        chains = [_of_chain(args.format, trail, chain, wanted) for chain in trail.chains]
        yield from (line for _, _, line in heapq.merge(*chains, key=lambda one: one[:2]))
    except OSError as exc:
        raise unreadable(args, exc) from exc


def _of_chain(
    form: str, trail: IndexedTrail, chain: Chain, wanted: Selection
) -> Iterator[tuple[int, str, str]]:
    """Yield the time, the chain and the line of each selected event. For CSV few are read from the segments:
    the index has what it needs."""
    latest_ns, prefix = 0, f"{short_name(chain.name)}:"
    for portion in trail.portions(chain):
        classes = portion.index.classes
        paths: dict[int | None, bytes] = dict(portion.index.query("SELECT id, name FROM path"))
        for row in portion.index.select(_COLUMNS, wanted):
            line, offset, seq, class_id, repeats, time_ns, path, new_path, hidden, *numbers = row
            name, event = f"{prefix}{seq}", None
            latest_ns = max(latest_ns, time_ns)
            if form == "jsonl":
                raw = portion.file.line(offset).decode("utf-8", "backslashreplace")
                yield latest_ns, chain.name, f'{{"id":"{name}",{raw[1:]}\n'
            elif repeats is None:
                redacted = () if hidden is None else ((0, hidden),)
                event = classes[class_id]._replace(
                    time_ns=time_ns, path=paths[path], new_path=paths.get(new_path), redacted=redacted,
                    **dict(zip(_FIELDS, numbers, strict=True)),
                )  # fmt: skip
            elif isinstance(item := portion.row(line, offset), Record):
                event = item.event
            if event is not None:
                yield latest_ns, chain.name, _csv_line(csv_row(event, name))


def _csv_line(row: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    return line.getvalue()
