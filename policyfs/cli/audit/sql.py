"""`policyfs audit sql` runs an SQL query on all events of a trail.

The tables of all indexes are copied into one temporary database (SQLite), which the query can only read.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from policyfs.cli.audit.query import finish, open_trail
from policyfs.cli.common.colour import columns
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.index.database import CLASS_COLUMNS, confine
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.record import short_name
from policyfs.trail.lines.table import shown, table
from policyfs.trail.query.index_lines import EVENT_COLUMNS

_SECONDS: Final = 60
_MEMORY: Final = 400 << 20
_ROWS: Final = 100_000
_CELL: Final = 16 << 20
_OUTPUT: Final = 64 << 20
"""Bounds of a query. _SECONDS: of its processing, without the making of indexes. _MEMORY: bytes of SQLite's
memory. _ROWS: rows of the answer. _CELL: bytes of one value. _OUTPUT: characters of the answer."""
_STEPS: Final = 100_000
"""The number of steps of SQLite after which the time is looked at: some milliseconds."""

_TABLES: Final = f"""
CREATE TABLE class (id INTEGER PRIMARY KEY, {", ".join(CLASS_COLUMNS)}, chain);
CREATE TABLE path (id INTEGER PRIMARY KEY, name);
CREATE TABLE event ({", ".join(EVENT_COLUMNS)});
CREATE VIEW events AS SELECT
    chain || ':' || seq AS id, seq,
    strftime('%Y-%m-%dT%H:%M:%S', time / 1000000000, 'unixepoch')
    || printf('.%09dZ', time % 1000000000) AS time,
    time AS time_ns, mount, app, uid, gid, pid, nullif(exe, '') AS exe, operation, syscall,
    CAST(first.name AS TEXT) AS path, CAST(second.name AS TEXT) AS new_path, decision, errno, rules,
    would_deny, would_allow, kind, nullif(io, '') AS io, nullif(view, '') AS view, generation, policy, handle,
    bytes_read, bytes_written, size_before, size_after, hidden, nullif(note, '') AS note,
    nullif(folded, '') AS folded, ifnull(repeats, 1) AS weight
FROM event LEFT JOIN class ON class.id = event.class LEFT JOIN path AS first ON first.id = event.path
LEFT JOIN path AS second ON second.id = event.new_path;
"""
_IDS: Final = {"class": "class + :class", "path": "path + :path", "new_path": "new_path + :path"}
_COPY: Final = (
    f"INSERT INTO class SELECT id + :class, {', '.join(CLASS_COLUMNS)}, :chain FROM part.class",
    "INSERT INTO path SELECT id + :path, name FROM part.path",
    f"INSERT INTO event SELECT {', '.join(_IDS.get(name, name) for name in EVENT_COLUMNS)} FROM part.event",
)


def add_sql(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    help_ = "a query of the table `events`, e.g. SELECT count(*) FROM events"
    parser.add_argument("statement", metavar="SQL", help=help_)


def run_sql(args: argparse.Namespace) -> int:
    """Run an SQL query on the events of the trail, and print its result. Return 1 if it has no rows."""
    trail = open_trail(args)
    if not trail.chains and not trail.holes:
        raise PolicyfsError(f"no mount has recorded anything at {args.trail}")
    database = sqlite3.connect("", isolation_level=None)  # a file without a name
    try:
        _fill(database, trail)
        heads, rows = _answer(database, args.statement)
        count = _print_json(heads, rows) if args.json else _print_table(heads, rows)
    except MemoryError:
        what = f"the query needs more than {_MEMORY >> 20} MiB: select fewer events, or sort fewer columns"
        raise PolicyfsError(what) from None
    except (sqlite3.Error, sqlite3.Warning) as exc:
        if str(exc) == "interrupted":
            raise PolicyfsError(f"the query takes more than {_SECONDS} s: select fewer events") from exc
        raise UsageError(f"SQL: {shown(str(exc))}") from exc
    finally:
        database.close()
    return finish(trail, EXIT_OK if count else EXIT_REFUSED)


def _fill(database: sqlite3.Connection, trail: IndexedTrail) -> None:
    database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
    numbers = {"class": 0, "path": 0}
    for chain in trail.chains:
        for portion in trail.portions(chain):
            database.execute("ATTACH ':memory:' AS part")
            database.deserialize(portion.index.data(), name="part")
            database.execute("BEGIN")
            for statement in _COPY:
                database.execute(statement, {"chain": short_name(chain.name), **numbers})
            database.execute("COMMIT")
            for name in numbers:
                [(most,)] = database.execute(f"SELECT ifnull(max(id) + 1, 0) FROM {name}")
                numbers[name] = most
            database.execute("DETACH part")


def _answer(database: sqlite3.Connection, statement: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run an SQL query, within the bounds. Return the names of its columns, and its rows."""
    database.text_factory = _text
    database.execute(f"PRAGMA hard_heap_limit = {_MEMORY}")
    database.execute("PRAGMA temp_store = MEMORY")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _CELL)
    confine(database)
    deadline = time.monotonic() + _SECONDS
    database.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    result = database.execute(statement)
    return [str(one[0]) for one in result.description or ()], _bounded(result)


def _text(text: bytes) -> str:
    """Return a value as in the lines of the trail: with ``\\xff`` for a byte of a path that is not UTF-8."""
    try:
        return text.decode("utf-8", "surrogatepass")  # older versions recorded lone surrogates in mountpoints
    except UnicodeDecodeError:
        return text.decode("utf-8", "backslashreplace")


def _bounded(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows until a bound of the answer. If rows are left out, say so on stderr."""
    left = _OUTPUT
    for number, row in enumerate(rows):
        left -= sum(len(str(cell)) for cell in row)
        if number == _ROWS or left < 0:
            sys.stdout.flush()
            what = f"only the first {number:,} rows are printed: select fewer, or use policyfs audit export"
            print(f"policyfs: {what}", file=sys.stderr)
            return
        yield row


def _print_json(heads: list[str], rows: Iterator[tuple[Any, ...]]) -> int:
    printed = 0
    for row in rows:
        print(json.dumps(dict(zip(heads, row, strict=True)), default=str))
        printed += 1
    return printed


def _print_table(heads: list[str], rows: Iterator[tuple[Any, ...]]) -> int:
    cells = [[shown(str("" if cell is None else cell)) for cell in row] for row in rows]
    if heads:
        print("\n".join(table([shown(head) for head in heads], cells, columns=columns(), flexible=0)))
    return len(cells)
