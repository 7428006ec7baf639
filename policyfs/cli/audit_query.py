"""`policyfs audit`: the query and the options that select events, and the records that they may select."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from policyfs.cli.audit_names import check_names
from policyfs.errors import PolicyfsError
from policyfs.journal.reader import Chain, find_chains, records
from policyfs.trail.event import DECISIONS
from policyfs.trail.expression import all_of
from policyfs.trail.query import merge
from policyfs.trail.record import BadLine, Record
from policyfs.trail.selection import Prefilter, Selection, option, parse_query
from policyfs.trail.terms import Clock


def add_query(parser: argparse.ArgumentParser) -> None:
    """Add the query and the options that select events."""
    parser.add_argument(
        "query",
        nargs="*",
        metavar="QUERY",
        help="conditions such as app:gallery 'path:/DCIM/**' 'size:>1M', joined by and, or, not",
    )
    when = "10m, 2h, 1d, today, yesterday, 2026-03-01, 2026-03-01T08:15"
    parser.add_argument("--since", metavar="WHEN", help=f"from this time on: {when}")
    parser.add_argument("--until", metavar="WHEN", help="before this time, in the same forms")
    many = "; if repeated, one match is enough"
    parser.add_argument("--app", action="append", default=[], help=f"the app's name, or stranger{many}")
    parser.add_argument("--uid", action="append", default=[], type=int, help=f"the caller's uid{many}")
    parser.add_argument(
        "--op", action="append", default=[], metavar="OPERATION", help=f"open, rename, ...{many}"
    )
    parser.add_argument(
        "--decision", action="append", default=[], choices=DECISIONS, help=f"the answer{many}"
    )
    parser.add_argument(
        "--path", metavar="GLOB", help="a glob as in policies; without a leading / at any depth"
    )
    parser.add_argument(
        "--rule", action="append", default=[], metavar="ID", help=f"a rule that decided{many}"
    )


def selection_of(args: argparse.Namespace) -> Selection:
    """Return the selection of a command line. Raises UsageError."""
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
    """Return the zone of times: UTC with --utc, else None, the machine's."""
    return UTC if getattr(args, "utc", False) else None


def chains_of(args: argparse.Namespace) -> list[Chain]:
    """Return the chains below --trail. Raises PolicyfsError if there is no such directory."""
    root = Path(args.trail)
    try:
        return find_chains(root)
    except FileNotFoundError:
        raise PolicyfsError(f"there is no trail at {root}: name its directory with --trail") from None


def read(args: argparse.Namespace, wanted: Selection) -> Iterator[Record | BadLine]:
    """Return all records that a selection may contain, from all mounts, by time."""
    chains, may_match = chains_of(args), Prefilter(wanted).may_match
    check_names(chains, wanted)
    return merge([records(chain, may_match) for chain in chains])
