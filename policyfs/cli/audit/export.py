"""`policyfs audit export` writes events for other programs.

`policyfs audit sql` runs SQL on all events of a trail.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from policyfs import __version__
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_query,
    chains_of,
    columns,
    json_fields,
    open_trail,
    read,
    selection_of,
    unreadable,
)
from policyfs.cli.common.output import private_file
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.reader import raw_lines
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import LineFormatter
from policyfs.trail.lines.record import Fields, Record
from policyfs.trail.lines.table import shown, table
from policyfs.trail.text.cause import nothing_known
from policyfs.trail.text.export import CSV_HEAD, csv_row, ocsf
from policyfs.trail.text.part import part_of

_FORMATS = ("jsonl", "csv", "ocsf", "parquet")
_MEMORY = "400MB"
_TYPES = {
    "type": "VARCHAR", "seq": "BIGINT", "time": "VARCHAR", "mount": "VARCHAR", "app": "VARCHAR",
    "uid": "BIGINT", "gid": "BIGINT", "pid": "BIGINT", "exe": "VARCHAR", "operation": "VARCHAR",
    "syscall": "VARCHAR",
    "path": "VARCHAR", "path_b64": "VARCHAR", "new_path": "VARCHAR", "new_path_b64": "VARCHAR",
    "decision": "VARCHAR", "errno": "VARCHAR", "rules": "VARCHAR[]", "would_deny": "VARCHAR[]",
    "would_allow": "VARCHAR[]", "kind": "VARCHAR", "io": "VARCHAR", "view": "VARCHAR", "generation": "BIGINT",
    "policy": "VARCHAR", "redacted": "BIGINT[][]", "handle": "BIGINT", "bytes_read": "BIGINT",
    "bytes_written": "BIGINT", "size_before": "BIGINT", "size_after": "BIGINT", "note": "VARCHAR",
    "folded": "VARCHAR", "repeats": "BIGINT", "since": "VARCHAR",
}  # fmt: skip
_EVENTS = "* REPLACE (CAST(time AS TIMESTAMP_NS) AS time), coalesce(repeats, 1) AS weight"
_EVENT: Final = re.compile(rb'\{"type":"event","seq":([0-9]{1,18}),.*\n', re.DOTALL)
_LONE: Final = re.compile("[\ud800-\udfff]")
"""Matches a lone surrogate. In trails of older versions of policyfs, a lone surrogate in a mountpoint stands
for a byte that is not UTF-8."""


def add_parsers(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the actions `export` and `sql` to `policyfs audit`.

    common: a parser with the options of all actions.
    """
    export = actions.add_parser("export", parents=[common], help="write events for other programs")
    export.add_argument("--format", choices=_FORMATS, default="jsonl", help="default: %(default)s")
    export.add_argument(
        "--for-app",
        metavar="NAME",
        help="only the requests of this app, with the facts that the app may know",
    )
    export.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the lines of a trail, and no event"
    )
    export.add_argument("-o", "--output", metavar="FILE", help="write to this file, not to standard output")
    add_query(export)
    sql = actions.add_parser("sql", parents=[common], help="query the segments in SQL (needs duckdb)")
    sql.add_argument(
        "statement", metavar="SQL", help="a statement on the table `events`, e.g. SELECT count(*) FROM events"
    )


def run_export(args: argparse.Namespace) -> int:
    """Write the events that the query selects. Return 1 if there is none. With --schema, write the schema."""
    if args.schema:
        from policyfs.trail.lines.schema import line_schema

        print(json.dumps(line_schema(), indent=2))
        return EXIT_OK
    if args.output is None and args.format != "parquet":
        count = _written(args, sys.stdout)
    else:
        count = _parquet(args) if args.format == "parquet" else _text_file(args)
        print(f"{args.output}: {count} events")
    return EXIT_OK if count else EXIT_REFUSED


def _text_file(args: argparse.Namespace) -> int:
    """Write the selected events to the file --output. Return their number. Raises PolicyfsError."""
    try:
        with private_file(args.output) as file:
            return _written(args, file)
    except OSError as exc:
        raise PolicyfsError(f"cannot write {args.output}: {exc.strerror or exc}") from exc


def _written(args: argparse.Namespace, file: TextIO) -> int:
    """Write the selected events to a file. Return their number.

    Raises OSError if the file cannot be written, and PolicyfsError if the trail cannot be read.
    """
    if args.format == "csv":
        file.write(_csv_line(CSV_HEAD))
    count = 0
    for line in _lines(args):
        file.write(line)
        count += 1
    return count


def _lines(args: argparse.Namespace) -> Iterator[str]:
    """Yield a line for each selected event, newline included. Raises PolicyfsError."""
    try:
        policies = KeptPolicies(chains_of(args))
        lookup = nothing_known if args.for_app else policies.fact
        for name, event, fields in _told(args, policies):
            if args.format == "csv":
                yield _csv_line(csv_row(event, name))
            elif args.format == "ocsf":
                yield json.dumps(ocsf(event, name, __version__, lookup)) + "\n"
            elif args.format == "parquet":
                yield _without_lone(json.dumps(fields, ensure_ascii=False)) + "\n"
            else:
                yield json.dumps(fields) + "\n"
    except OSError as exc:
        raise unreadable(args, exc) from exc


def _csv_line(row: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    return line.getvalue()


def _without_lone(line: str) -> str:
    """Return a JSON text in which each lone surrogate is written like ``\\xff``: duckdb cannot read it."""
    return _LONE.sub(lambda found: "\\" + shown(found[0]), line)


def _told(args: argparse.Namespace, policies: KeptPolicies) -> Iterator[tuple[str, Event, Fields]]:
    """Yield the id of each selected event, the event, and its fields.

    With --for-app, yield only the events of this app, with only the facts that the app itself may know.
    """
    if not args.for_app:
        yield from ((record.id, event, json_fields(record)) for record, event in _selected(args))
        return
    from policyfs.cli.audit.part import PolicySight

    sight, formatter, number = PolicySight(policies, args.for_app), LineFormatter(), 0
    for _, event in _selected(args):
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


def _selected(args: argparse.Namespace) -> Iterator[tuple[Record, Event]]:
    wanted = selection_of(args)
    for item in read(args, wanted):
        if isinstance(item, Record) and item.event is not None and wanted.matches(item.event):
            yield item, item.event


# -- duckdb


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise PolicyfsError(
            "this command needs duckdb, which is not installed: pip install 'policyfs[review]', or pip"
            " install duckdb"
        ) from None
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET memory_limit='{_MEMORY}'; SET TimeZone='UTC'; SET threads=2")
    return connection


def _view(connection: Any, files: list[str], *, lenient: bool) -> None:
    """Create the SQL view `events` in DuckDB (a database). The view reads files of JSON lines.

    lenient: leave out lines that DuckDB cannot read. Otherwise such a line is an error of the query.
    """
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    types = ", ".join(f"{name}: '{kind}'" for name, kind in _TYPES.items())
    connection.execute(
        f"CREATE OR REPLACE VIEW events AS SELECT {_EVENTS} FROM read_json([{names}], "  # noqa: S608
        f"format='newline_delimited', columns={{{types}}}, ignore_errors={lenient}) WHERE type = 'event'"
    )


def _left_out(connection: Any, files: list[str]) -> int:
    """Return how many events of some segments a lenient view (see _view) leaves out.

    Events that a daemon writes meanwhile do not count.
    """
    missing = 0
    for name in files:
        path = Path(name)
        found = [int(line[1]) for raw in raw_lines(path.parent, path.name) if (line := _EVENT.match(raw))]
        _view(connection, [name], lenient=True)
        connection.execute("SELECT count(*) FROM events WHERE seq <= ?", [max(found, default=0)])
        missing += max(0, len(found) - connection.fetchone()[0])
    return missing


def run_sql(args: argparse.Namespace) -> int:
    """Run an SQL statement on the events of the trail, and print its result."""
    _duckdb()  # before the trail is opened: duckdb may be missing
    import duckdb

    files = [str(chain.directory / name) for chain in open_trail(args).chains for name in chain.segments()]
    if not files:
        raise PolicyfsError(f"no mount has recorded anything at {args.trail}")
    try:
        try:
            heads, found = _answer(args.statement, files, lenient=False)
        except duckdb.Error:  # an error in the statement, or in a line
            heads, found = _answer(args.statement, files, lenient=True)
            missing = _left_out(_duckdb(), files)
            if missing:
                what = f"events left out, because duckdb cannot read them: {missing}"
                print(f"policyfs: {what}", file=sys.stderr)
    except duckdb.Error as exc:
        raise UsageError(f"duckdb: {shown(str(exc).splitlines()[0])}") from exc
    if args.json:
        for row in found:
            print(json.dumps(dict(zip(heads, row, strict=True)), default=str))
    elif heads:
        rows = [[shown(str("" if cell is None else cell)) for cell in row] for row in found]
        print("\n".join(table([shown(head) for head in heads], rows, columns=columns(), flexible=0)))
    return EXIT_OK if found else EXIT_REFUSED


def _answer(statement: str, files: list[str], *, lenient: bool) -> tuple[list[str], list[Any]]:
    """Run an SQL statement on the events of segments. Return the names of its columns, and its rows."""
    connection = _duckdb()
    _view(connection, files, lenient=lenient)
    result = connection.execute(statement)
    return [str(one[0]) for one in result.description or ()], result.fetchall()


def _parquet(args: argparse.Namespace) -> int:
    """Write the selected events to the Parquet file --output. Return their number. Raises PolicyfsError."""
    if args.output is None:
        raise UsageError("--format parquet needs a file: add -o FILE")
    connection = _duckdb()
    import duckdb

    target = Path(args.output)
    if target.exists() and not target.is_file():
        raise PolicyfsError(f"cannot write {target}: it is not a regular file")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".policyfs-") as place:
            new = Path(place) / "events.parquet"
            count = _converted(args, connection, new)
            new.chmod(0o600)
            new.replace(target)
    except duckdb.Error as exc:
        raise PolicyfsError(f"cannot write {target}: {shown(str(exc).splitlines()[0])}") from exc
    except OSError as exc:
        raise PolicyfsError(f"cannot write {target}: {exc.strerror or exc}") from exc
    return count


def _converted(args: argparse.Namespace, connection: Any, new: Path) -> int:
    """Write the selected events to a file of JSON lines beside *new*, and then to the Parquet file *new*.

    Return the number of events. Raises PolicyfsError if DuckDB cannot read all of them.
    """
    lines = new.with_suffix(".jsonl")
    with private_file(str(lines)) as file:
        count = _written(args, file)
    _view(connection, [str(lines)], lenient=True)
    name = str(new).replace("'", "''")
    connection.execute(f"COPY (SELECT * FROM events) TO '{name}' (FORMAT parquet, COMPRESSION zstd)")  # noqa: S608
    (rows,) = connection.fetchone()
    if rows != count:
        raise PolicyfsError(f"cannot write {args.output}: duckdb can read only {rows} of {count} events")
    return count
