"""`policyfs audit`: the query and options that select events, and the reader of the selected records."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

from policyfs.cli.audit.names import check_names
from policyfs.cli.common.progress import silent
from policyfs.errors import PolicyfsError
from policyfs.forward.messages import with_id
from policyfs.journal.files.directories import cache_directory
from policyfs.journal.files.reader import Chain, find_chains
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.event import DECISIONS, Event
from policyfs.trail.lines.record import BadLine, Fields, Record
from policyfs.trail.query.expression import Term, Value, all_of
from policyfs.trail.query.query import merge
from policyfs.trail.query.selection import Selection, option, parse_query
from policyfs.trail.query.terms import Clock

_OPENS: Final = ("open", "create")
"""The operations whose events may have a kind, a view and sizes; counts of bytes are in their releases."""


def add_query(parser: argparse.ArgumentParser, *, named: bool = False) -> None:
    """Add the query and the options that select events. named: the query is the option `--query`, because the
    command has other positional arguments."""
    help_ = "conditions such as app:gallery 'path:/DCIM/**' 'size:>1M', joined by and, or, not"
    if named:
        parser.add_argument("--query", action="append", default=[], metavar="QUERY", help=help_)
    else:
        parser.add_argument("query", nargs="*", metavar="QUERY", help=help_)
    when = "10m, 2h, 1d, today, yesterday, 2026-03-01, 2026-03-01T08:15"
    add = parser.add_argument
    add("--since", metavar="WHEN", help=f"from this time on: {when}")
    add("--until", metavar="WHEN", help="before this time, in the same forms")
    many = "; if repeated, one match is enough"
    add("--app", action="append", default=[], help=f"the app's name, or stranger{many}")
    add("--uid", action="append", default=[], type=int, help=f"the caller's uid{many}")
    add("--op", action="append", default=[], metavar="OPERATION", help=f"open, rename, ...{many}")
    add("--decision", action="append", default=[], choices=DECISIONS, help=f"the answer{many}")
    add("--path", metavar="GLOB", help="a glob as in policies; without a leading / at any depth")
    add("--rule", action="append", default=[], metavar="ID", help=f"a rule that decided{many}")


def selection_of(args: argparse.Namespace) -> Selection:
    """Return the selection of events that the query and options of a command line describe. Raises
    UsageError."""
    text = " ".join(args.query)
    given = {
        "since": [args.since] if args.since else [],
        "until": [args.until] if args.until else [],
        "app": args.app,
        "uid": [str(uid) for uid in args.uid],
        "op": args.op,
        "decision": args.decision,
        "path": [args.path] if args.path else [],
        "rule": args.rule,
    }
    tree = all_of(parse_query(text), *(option(field, values) for field, values in given.items()))
    return Selection(tree, Clock(datetime.now(UTC), zone_of(args)), text)


def zone_of(args: argparse.Namespace) -> tzinfo | None:
    """Return the time zone for printed times: UTC with --utc; else None, which means the machine's zone."""
    return UTC if getattr(args, "utc", False) else None


def chains_of(args: argparse.Namespace) -> list[Chain]:
    """Return the chains (the trail of each mount) in the directory --trail. Raises PolicyfsError if the
    directory does not exist."""
    root = Path(args.trail)
    try:
        return find_chains(root)
    except FileNotFoundError:
        raise PolicyfsError(f"there is no trail at {root}: name its directory with --trail") from None


def unreadable(args: argparse.Namespace, error: OSError) -> PolicyfsError:
    """Return the error with the message that the trail in the directory --trail cannot be read."""
    why = "only root may read it" if isinstance(error, PermissionError) else error.strerror or error
    return PolicyfsError(f"cannot read the trail at {args.trail}: {why}")


def open_trail(args: argparse.Namespace) -> IndexedTrail:
    """Return the trails in the directory --trail, with their indexes. Warn on stderr if new indexes cannot be
    saved."""
    cache = IndexCache(cache_directory())
    if cache.problem:
        print(f"policyfs: no index is kept, so this query takes longer: {cache.problem}", file=sys.stderr)
    return IndexedTrail(chains_of(args), cache, getattr(args, "progress", silent))


def read(args: argparse.Namespace, wanted: Selection, limit: int = 0) -> Iterator[Record | BadLine]:
    """Return the events that may match a selection, and also bad lines and records of problems.

    The events come from all mounts, in the order of time. The caller must check whether each event really
    matches. limit: return only this number of the newest events of each mount; 0: all events.
    """
    trail = open_trail(args)
    check_names(trail, wanted)
    if limit:
        return merge([trail.newest(chain, wanted, limit) for chain in trail.chains])
    return merge([trail.selected(chain, wanted) for chain in trail.chains])


def events_of(args: argparse.Namespace) -> Iterator[tuple[Record, Event]]:
    """Yield the records of the events that a command line selects, each with its event, by time."""
    wanted = selection_of(args)
    for item in read(args, wanted):
        if isinstance(item, Record) and item.event is not None and wanted.matches(item.event):
            yield item, item.event


def tell_lacking(trail: IndexedTrail, wanted: Selection) -> None:
    """Print on stderr how many events of opened files lack a field of the query, but match otherwise."""
    for field, lacking in wanted.lacking():
        opens = lacking.narrowed(Term("op", tuple(map(Value, _OPENS))))
        portions = (portion for chain in trail.chains for portion in trail.portions(chain))
        counts = Counter[str]()
        for portion in portions:
            weights = portion.index.select("class, sum(ifnull(repeats, 1))", opens, "GROUP BY class")
            for class_id, weight in weights:
                counts[portion.index.classes[class_id].operation] += weight
        if counts:
            sys.stdout.flush()
            number = ", ".join(f"{count} of {name}" for name, count in counts.most_common())
            what = f"of {counts.total()} further events that match otherwise ({number}), no {field} is known"
            print(f"policyfs: {what}, because the policy did not need it", file=sys.stderr)


def json_fields(item: Record | BadLine) -> Fields:
    """Return the fields that `--json` prints for a record or for a bad line of the trail."""
    if isinstance(item, BadLine):
        return {"type": "bad_line", "why": item.why, **item.place._asdict()}
    return with_id(item.id, item.fields)
