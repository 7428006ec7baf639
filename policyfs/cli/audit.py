"""``policyfs audit``: read, search, sum up and verify the trail.

Reads files only, so it works with no mount running and on a copy of a trail. All mounts below
the trail root are read as one. docs/audit.md is its manual.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policyfs.cli import (
    audit_compare,
    audit_export,
    audit_files,
    audit_forward,
    audit_hold,
    audit_index,
    audit_keys,
    audit_policy,
    audit_prove,
    audit_report,
    audit_schema,
    audit_show,
    audit_summary,
)
from policyfs.cli.audit_policies import KeptPolicies
from policyfs.cli.audit_query import (
    add_query,
    chains_of,
    columns,
    json_fields,
    read,
    selection_of,
    zone_of,
)
from policyfs.cli.audit_verify import add_options, anchors, verify
from policyfs.cli.on_record import trail_root
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.journal.reader import Follower, last_records
from policyfs.trail.expression import And
from policyfs.trail.query import merge
from policyfs.trail.record import BadLine, Record
from policyfs.trail.render import RowPrinter
from policyfs.trail.rows import Row, Rows
from policyfs.trail.selection import Selection
from policyfs.trail.sentences import describe
from policyfs.trail.summary import TROUBLE

_FOLLOW_POLL_MS: Final = 200
_PATIENCE_S: Final = 1.0
_TAIL_RECORDS: Final = 1000
_YOUNG: Final = 200_000
"""Objects between two collections of garbage: a review makes many that live to its end, few in circles."""
_LASTING: Final = ("forward", "tail")
"""Actions that may run for days, and collect as usual."""


def add_trail_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trail``, for commands that read a trail root."""
    parser.add_argument(
        "--trail",
        metavar="DIR",
        default=trail_root(),
        help="the trail root, or one mount's directory in it (default: %(default)s)",
    )


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``audit`` and its actions to the command line."""
    parser = subparsers.add_parser("audit", help="read, search and verify the trail")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    add_trail_option(common)
    common.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    common.add_argument("--utc", action="store_true", help="times in UTC, not in this machine's zone")

    tail = actions.add_parser("tail", parents=[common], help="print the newest records")
    add_query(tail)
    tail.add_argument("-f", "--follow", action="store_true", help="also print new records, until Ctrl-C")
    tail.add_argument(
        "-n", "--lines", type=_count, default=20, metavar="N", help="number of records (default 20)"
    )

    search = actions.add_parser("search", parents=[common], help="print matching events")
    add_query(search)
    search.add_argument("--limit", type=_count, metavar="N", help="only the newest N matching events")
    for listing in (tail, search):
        listing.add_argument(
            "--each", action="store_true", help="print a row for each record, also for repeats"
        )

    audit_summary.add_parser(actions, common)
    audit_show.add_parser(actions, common)
    audit_policy.add_parser(actions, common)
    audit_index.add_parser(actions, common)
    audit_files.add_parsers(actions, common)
    audit_compare.add_parsers(actions, common)
    audit_report.add_parser(actions, common)
    audit_export.add_parsers(actions, common)
    verify = actions.add_parser("verify", parents=[common], help="check that no line is missing or changed")
    add_options(verify)
    audit_keys.add_parsers(actions, common)
    audit_hold.add_parser(actions, common)
    audit_prove.add_parser(actions, common)
    audit_forward.add_parser(actions, common)
    audit_schema.add_parser(actions, common)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines; write 20")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Carry out one action. Return the exit code; raises PolicyfsError with a message for people."""
    actions = {"tail": _tail, "search": _search, "summary": audit_summary.run, "show": audit_show.run,
               "policy": _policy, "verify": _verify, "index": audit_index.index_segments,
               "key": _key, "checkpoint": _checkpoint, "hold": _hold, "prove": _prove,
               "forward": audit_forward.run, "schema": audit_schema.run,
               "timeline": audit_files.run_timeline, "changes": audit_files.run_changes,
               "who-did": audit_files.run_who_did,
               "diff": audit_compare.run_diff, "who-could": audit_compare.run_who_could,
               "report": audit_report.run,
               "export": audit_export.run_export, "sql": audit_export.run_sql}  # fmt: skip
    if args.action not in _LASTING:
        gc.set_threshold(_YOUNG)
    try:
        code = actions[args.action](args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has stopped (head, a pager that was left): nothing more can be printed there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_OK
    except PermissionError as exc:
        raise PolicyfsError(f"cannot read the trail at {args.trail}: only root may read it") from exc
    except OSError as exc:
        raise PolicyfsError(f"cannot read the trail at {args.trail}: {exc.strerror or exc}") from exc
    return code


# -- what all actions share


class _Printer:
    """Prints records one by one, as rows under a heading or as JSON lines."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._as_json = args.json
        self._rows = RowPrinter(columns(), zone_of(args), KeptPolicies(chains_of(args)).fact)
        self._begun = False

    def print(self, row: Row) -> None:
        if self._as_json:
            print(json.dumps(json_fields(row.item)))
            return
        if not self._begun:
            self._begun = True
            print(self._rows.head())
        print(self._rows.row(*row))


class _Single:
    """Makes a row of each record: for programs, and for people who use --each."""

    def add(self, item: Record | BadLine) -> list[Row]:
        return [Row(item)]

    def due(self, _now_ns: int) -> Iterator[Row]:
        return iter(())

    def rest(self) -> Iterator[Row]:
        return iter(())


def _rows(args: argparse.Namespace, *, at_once: bool = False) -> Rows | _Single:
    return _Single() if args.json or args.each else Rows(at_once=at_once)


# -- the actions


def _tail(args: argparse.Namespace) -> int:
    wanted = selection_of(args)
    # First find the end, then read up to it: nothing is lost between the two.
    follower = Follower(Path(args.trail)) if args.follow else None
    printer, rows = _Printer(args), _rows(args)
    # Read more records than the wanted rows: several may be one row.
    count = args.lines if isinstance(rows, _Single) else max(args.lines, _TAIL_RECORDS)
    items = (
        merge([last_records(chain, count) for chain in chains_of(args)])
        if wanted.tree == And()
        else read(args, wanted, count)
    )
    last_seq: dict[str, int] = {}
    newest: deque[Row] = deque(maxlen=args.lines)
    for item in items:
        if isinstance(item, Record):
            last_seq[item.place.mount_id] = max(item.seq, last_seq.get(item.place.mount_id, 0))
        if _is_wanted(item, wanted):
            newest.extend(rows.add(item))
    newest.extend(rows.rest())
    for row in newest:
        printer.print(row)
    if follower is not None:
        _follow(follower, printer, _rows(args, at_once=True), wanted, last_seq)
    elif not newest:
        print(f"policyfs: no records in the trail at {args.trail}", file=sys.stderr)
    return EXIT_OK if newest or follower is not None else EXIT_REFUSED


def _is_wanted(item: Record | BadLine, wanted: Selection) -> bool:
    """True if `tail` prints the line: with a query events only, else all."""
    if wanted.tree == And():
        return True
    return isinstance(item, Record) and item.event is not None and wanted.matches(item.event)


def _follow(
    follower: Follower, printer: _Printer, rows: Rows | _Single, wanted: Selection, last_seq: dict[str, int]
) -> None:
    """Print new rows, until Ctrl-C or until nobody reads any more."""
    reader_gone = select.poll()
    reader_gone.register(sys.stdout.fileno(), 0)  # poll reports POLLERR anyway, when the pipe's reader left
    while True:
        for item in merge([follower.poll()]):
            if isinstance(item, Record) and item.seq <= last_seq.get(item.place.mount_id, 0):
                continue  # printed already, as one of the newest
            if _is_wanted(item, wanted):
                for row in rows.add(item):
                    printer.print(row)
        for row in rows.due(time.time_ns()):
            printer.print(row)
        last_seq.clear()  # only the first round can overlap
        sys.stdout.flush()
        if reader_gone.poll(_FOLLOW_POLL_MS):
            return


def _search(args: argparse.Namespace) -> int:
    wanted = selection_of(args)
    printer, rows = _Printer(args), _rows(args)
    newest: deque[Row] = deque(maxlen=args.limit)
    found = 0
    trouble: list[str] = []
    for item in read(args, wanted, max(50 * args.limit, _TAIL_RECORDS) if args.limit else 0):
        if isinstance(item, BadLine):
            trouble.append(f"line {item.place.line} of {item.place.segment} is not a record")
        elif item.event is not None:
            if wanted.matches(item.event):
                found += 1
                newest.extend(rows.add(item))
                while newest and not args.limit:
                    printer.print(newest.popleft())
        elif item.kind in TROUBLE and wanted.covers(item.time_ns):
            trouble.append(f"{item.id}: {describe(item)}")
    newest.extend(rows.rest())
    for row in newest:
        printer.print(row)
    _warn(trouble)
    if not found:
        print(f"policyfs: no event in the trail at {args.trail} matches", file=sys.stderr)
    return EXIT_OK if found else EXIT_REFUSED


def _warn(trouble: list[str]) -> None:
    """Tell on stderr that an answer may be incomplete, so that it never looks complete."""
    sys.stdout.flush()
    for sentence in trouble[:3]:
        print(f"policyfs: the trail is not whole: {sentence}", file=sys.stderr)
    if len(trouble) > 3:
        print(f"policyfs: and {len(trouble) - 3} more: see policyfs audit verify", file=sys.stderr)


def _policy(args: argparse.Namespace) -> int:
    return audit_policy.show(chains_of(args), args.digest, columns(), as_json=args.json)


def _verify(args: argparse.Namespace) -> int:
    return verify(chains_of(args), args.trail, anchors(args), as_json=args.json)


def _key(args: argparse.Namespace) -> int:
    return audit_keys.key(args.what, as_json=args.json)


def _checkpoint(args: argparse.Namespace) -> int:
    return audit_keys.checkpoint(chains_of(args), args.append)


def _hold(args: argparse.Namespace) -> int:
    return audit_hold.hold(chains_of(args), args)


def _prove(args: argparse.Namespace) -> int:
    return audit_prove.check(args.check) if args.check else audit_prove.prove(chains_of(args), args.id)
