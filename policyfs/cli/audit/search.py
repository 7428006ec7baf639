"""`policyfs audit search`: print records of the trail, as rows of a table or as JSON lines."""

from __future__ import annotations

import argparse
import heapq
import json
import select
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_fields,
    add_query,
    finish,
    hole_fields,
    holes_of,
    json_fields,
    opened,
    selected,
    tell_lacking,
    tell_nothing,
    zone_of,
)
from policyfs.cli.common.colour import columns
from policyfs.cli.common.quantities import count
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.journal.files.reader import Follower, last_records, records
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.record import BadLine, Record
from policyfs.trail.query.expression import And
from policyfs.trail.query.query import merge
from policyfs.trail.query.rows import Row, Rows
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import TROUBLE
from policyfs.trail.text.render import RowPrinter
from policyfs.trail.text.sentences import describe

_FOLLOW_POLL_MS: Final = 200
_FOLLOWED: Final = 20
"""The number of rows that --follow prints before the new records, if --last does not say it."""
_LAST_RECORDS: Final = 1000


def add_search(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    add_query(parser)
    add_fields(parser)
    parser.add_argument("-n", "--last", type=count, metavar="N", help="only the newest N of them")
    parser.add_argument("-f", "--follow", action="store_true", help="also print new records, until Ctrl-C")
    parser.add_argument("--each", action="store_true", help="print a row for each record, also for repeats")


class _Printer:
    """A printer of records, one by one: as rows below a line of column names, or as JSON lines."""

    def __init__(self, args: argparse.Namespace, chains: Sequence[Chain]) -> None:
        self._as_json = args.json
        self._rows = RowPrinter(columns(), zone_of(args), KeptPolicies(chains).fact)
        self._begun = False

    def print(self, row: Row) -> None:
        if self._as_json:
            print(json.dumps(json_fields(row.item)))
            return
        if not self._begun:
            self._begun = True
            print(self._rows.head())
        print(self._rows.row(row.item, row.again))

    def print_all(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.print(row)


class _Single:
    """The rows for --json or --each: one row for each record."""

    def __init__(self) -> None:
        self._added = 0

    def add(self, item: Record | BadLine) -> list[Row]:
        self._added += 1
        return [Row(item, newest=self._added)]

    def due(self, _now_ns: int) -> Iterator[Row]:
        return iter(())

    def rest(self) -> Iterator[Row]:
        return iter(())


def _rows(args: argparse.Namespace, *, at_once: bool = False) -> Rows | _Single:
    return _Single() if args.json or args.each else Rows(at_once=at_once)


class _Newest:
    """The newest rows of a listing. An old row stays if its request was repeated lately."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[int, int, Row]] = []
        self._count = 0

    def extend(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._count += 1
            heapq.heappush(self._heap, (row.newest, self._count, row))
            if len(self._heap) > self._limit:
                heapq.heappop(self._heap)

    def rows(self) -> list[Row]:
        """Return the newest rows, in the order of the listing."""
        return [row for _, _, row in sorted(self._heap, key=lambda one: one[1])]


def run_search(args: argparse.Namespace) -> int:
    """Print the events that match the query; without a query, all records. Return 1 if there is none."""
    # First find the end of the trail, then read up to it. So no line between the two steps is lost.
    follower = Follower(Path(args.trail)) if args.follow else None
    last = args.last or (_FOLLOWED if args.follow else 0)
    trail, wanted = opened(args)
    printer, rows, newest = _Printer(args, trail.chains), _rows(args), _Newest(last)
    keep = newest.extend if last else printer.print_all
    found, trouble = 0, list[str]()
    last_seq: dict[str, int] = {}
    everything = wanted.tree == And()
    for item in _items(trail, wanted, last):
        if isinstance(item, Record):
            last_seq[item.place.mount_id] = max(item.seq, last_seq.get(item.place.mount_id, 0))
        if everything or (isinstance(item, Record) and item.event is not None):
            found += 1
            keep(rows.add(item))
        elif isinstance(item, Record) and item.kind in TROUBLE and wanted.concerns(item):
            trouble.append(f"{item.id}: {describe(item)}")
    keep(rows.rest())
    printer.print_all(newest.rows())
    if args.json:
        for fields in hole_fields(holes_of(trail, wanted)):
            print(json.dumps(fields))
    _warn(trouble)
    tell_lacking(trail, wanted)
    code = finish(trail, EXIT_OK if found else EXIT_REFUSED, wanted)
    if follower is not None:
        _follow(follower, printer, _rows(args, at_once=True), wanted, last_seq)
        return EXIT_OK
    if not found:
        tell_nothing(trail, args, "matches")
    return code


def _items(trail: IndexedTrail, wanted: Selection, last: int) -> Iterator[Record | BadLine]:
    """Return the records that may be wanted; for *last* rows more, since a row may stand for several."""
    if wanted.tree != And():
        return selected(trail, wanted, max(50 * last, _LAST_RECORDS) if last else 0)
    return merge([_all(trail, chain, max(last, _LAST_RECORDS) if last else 0) for chain in trail.chains])


def _all(trail: IndexedTrail, chain: Chain, last: int) -> Iterator[Record | BadLine]:
    inventory = trail.inventory(chain)
    yield from last_records(chain, last, inventory) if last else records(chain, inventory)
    trail.holes[chain.name] = inventory.end()


def _follow(
    follower: Follower, printer: _Printer, rows: Rows | _Single, wanted: Selection, last_seq: dict[str, int]
) -> None:
    """Print new records as they arrive, until Ctrl-C or until the program that reads the output has ended."""
    everything = wanted.tree == And()
    reader_gone = select.poll()
    reader_gone.register(sys.stdout.fileno(), 0)  # poll reports POLLERR also with 0: the reader has ended
    while True:
        for item in merge([follower.poll()]):
            if isinstance(item, Record) and item.seq <= last_seq.get(item.place.mount_id, 0):
                continue  # printed already among the newest rows
            event = item.event if isinstance(item, Record) else None
            if everything or (event is not None and wanted.matches(event)):
                printer.print_all(rows.add(item))
        printer.print_all(rows.due(time.time_ns()))
        last_seq.clear()  # only the first round can repeat printed lines
        sys.stdout.flush()
        if reader_gone.poll(_FOLLOW_POLL_MS):
            return


def _warn(trouble: list[str]) -> None:
    """Print the first problems of the trail on stderr: because of them, the answer may be incomplete."""
    sys.stdout.flush()
    for sentence in trouble[:3]:
        print(f"policyfs: the trail is not whole: {sentence}", file=sys.stderr)
    if len(trouble) > 3:
        print(f"policyfs: and {len(trouble) - 3} more: see policyfs audit verify", file=sys.stderr)
