"""`policyfs audit hold`: add, remove and list holds.

A hold is a period of the trail that must be kept. policyfs removes old files of a trail, but no file with
lines of this period.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime

from policyfs.cli.audit.query import chains_of, zone_of
from policyfs.cli.common.on_record import record, starter
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.journal.files import holds
from policyfs.journal.files.holds import Hold, is_hold_name, read_holds, remove_hold
from policyfs.journal.files.segments import Chain
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import parse_time
from policyfs.trail.lines.table import shown
from policyfs.trail.query.query import parse_when


def add_hold(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", choices=("add", "remove", "list"), metavar="add|remove|list", help="what to do")
    add("name", nargs="?", metavar="NAME", help="the name of the hold")
    add("--since", metavar="WHEN", help="hold from this time on (default: the beginning)")
    add("--until", metavar="WHEN", help="hold up to this time (default: no end)")
    add("--reason", default="", metavar="TEXT", help="the reason, for people who read the trail")


def run_hold(args: argparse.Namespace) -> int:
    """Add, remove or list holds (periods to be kept) of all mounts below --trail. Raises UsageError."""
    chains = chains_of(args)
    if args.what == "list":
        return _list(chains, as_json=args.json)
    if args.name is None or not is_hold_name(args.name):
        raise UsageError(f"audit hold {args.what} needs a NAME of up to 64 letters, digits and . _ -")
    wanted = _hold(args)
    done = 0
    for chain in chains:
        there = any(one.name == args.name for one in read_holds(chain.directory))
        if there == (args.what == "add"):
            why = "has this hold already" if there else "has no such hold"
            print(f"policyfs: {shown(chain.mount_id)} {why}: {shown(args.name)}", file=sys.stderr)
            continue
        # A hold is added before its record, and removed after its record. So if the record fails, the hold
        # stays.
        if args.what == "add":
            holds.add_hold(chain.directory, wanted)
        fields = {"name": wanted.name, "done": args.what, **starter(f"policyfs audit hold {args.what}")}
        if args.what == "add":
            fields |= {"since": wanted.since, "until": wanted.until, "why": wanted.reason}
        end = starter(f"policyfs audit hold {args.what}")
        root = chain.directory.resolve().parent  # --trail may name one chain, also as a symbolic link
        record(root, chain.mount_id, "hold", fields, end=end)
        if args.what == "remove":
            remove_hold(chain.directory, args.name)
        done += 1
    if done:
        print(f"{'held' if args.what == 'add' else 'no longer held'}: {shown(args.name)}, in {done} chains")
    return EXIT_OK if done else EXIT_REFUSED


def _hold(args: argparse.Namespace) -> Hold:
    now = datetime.now(UTC)
    try:
        zone = zone_of(args)
        since, until = (parse_when(when, now, zone) if when else None for when in (args.since, args.until))
        begin, end = ("" if when is None else iso_time(when) for when in (since, until))
        for text in filter(None, (begin, end)):
            parse_time(text)  # else the hold counts as damaged, and protects all files
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    if since is not None and until is not None and until < since:
        raise UsageError("--until is before --since: such a hold would protect nothing")
    return Hold(args.name, begin, end, args.reason[:200], iso_time(time.time_ns()))


def _list(chains: list[Chain], *, as_json: bool) -> int:
    found = EXIT_REFUSED
    for chain in chains:
        for one in read_holds(chain.directory):
            found = EXIT_OK
            if as_json:
                print(json.dumps({"mount_id": chain.mount_id, **one._asdict()}))
            else:
                since, until = (when and f"{when[:19]}Z" for when in (one.since, one.until))
                period = f"{since or 'the beginning'} to {until or 'the end'}"
                print(f"{shown(chain.mount_id)}  {shown(one.name)}  {period}  {shown(one.reason)}".rstrip())
    if found != EXIT_OK:
        print("policyfs: there are no holds", file=sys.stderr)
    return found
