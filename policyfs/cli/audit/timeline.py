"""`policyfs audit timeline`: all events of a file, under all its names."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import finish, hole_fields, holes_of, open_trail, tell_nothing, zone_of
from policyfs.cli.audit.store_paths import MOUNTS, StorePaths, option_of, quoted
from policyfs.cli.common.colour import columns
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import Record
from policyfs.trail.lines.table import shown_path
from policyfs.trail.query.expression import Expression, Term, Value, all_of, any_of
from policyfs.trail.query.lives import (
    MOVES,
    NAMES,
    Life,
    Lives,
    Move,
    happened,
    other_names,
)
from policyfs.trail.query.query import merge
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.terms import Clock
from policyfs.trail.text.render import RowPrinter

_MOVED = (
    "SELECT class, first.name, second.name FROM event JOIN path first ON first.id = path"
    " JOIN path second ON second.id = new_path WHERE new_path IS NOT NULL ORDER BY line"
)


def add_timeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="a path in the mounts or in the store, at any time")


def run_timeline(args: argparse.Namespace) -> int:
    """Print the events of each file that had the given path at any time."""
    if not args.path.startswith("/"):
        raise UsageError(f"write the path from the root of the mount, such as /DCIM/a.jpg, not {args.path!r}")
    trail = open_trail(args)
    paths = set(map(os.fsencode, (args.path, *StorePaths(trail).told(args.path))))
    moves, known = _survey(trail)
    names = {name for path in paths for name in other_names(path, moves)}
    wanted = Selection(_about(names, moves), Clock(datetime.now(UTC)))
    lives: defaultdict[str, Lives[Record]] = defaultdict(Lives)
    for store, event, item in _events(trail, wanted, known):
        lives[store].add(event, item)
    found = [life for of_store in lives.values() for life in of_store.all if paths & life.ever]
    is_cut = len(names) >= NAMES
    if args.json:
        for number, life in enumerate(found, start=1):
            for _, item in life.events:
                print(json.dumps({"life": number, "id": item.id, **item.fields}))
        for fields in hole_fields(holes_of(trail)):
            print(json.dumps(fields))
    else:
        policies = KeptPolicies(trail.chains)
        for life in found:
            rows = RowPrinter(columns(), zone_of(args), policies.fact)
            _print_life(life, rows, several=len(found) > 1, is_cut=is_cut)
    if is_cut:
        what = f"the file has had {NAMES:,} names or more: events under further names are left out"
        print(f"policyfs: {what}", file=sys.stderr)
    if not found:
        tell_nothing(trail, args, f"is about {shown_path(os.fsencode(args.path))}")
    return finish(trail, EXIT_OK if found else EXIT_REFUSED)


def _events(trail: IndexedTrail, wanted: Selection, known: set[str]) -> Iterator[tuple[str, Event, Record]]:
    """Yield the selected events by time, with store and record. known: stores of all mounts."""
    # Events before the first ``mount`` record of a chain are of the store *unknown*.
    unknown = next(iter(known)) if len(known) == 1 else ""
    stores: dict[str, str] = {}
    for item in merge([trail.selected(chain, wanted, MOUNTS) for chain in trail.chains]):
        if not isinstance(item, Record):
            continue
        if item.kind == "mount":
            stores[item.place.mount_id] = option_of(item, "store")
        elif item.event is not None:
            yield stores.get(item.place.mount_id) or unknown, item.event, item


def _print_life(life: Life[Record], rows: RowPrinter, *, several: bool, is_cut: bool) -> None:
    ways = " -> ".join(shown_path(name) for name in _in_order(life))
    there = "end not known" if is_cut else "refused" if life.was_refused else "still there"
    end = "deleted" if life.was_deleted else "replaced" if life.was_replaced else there
    begin = "made" if life.was_made else "there before"
    if several or life.was_refused or len(life.ever) > 1:
        print(f"{ways}: {begin}, {end}, {len(life.events)} events")
    print(rows.head())
    for _, item in life.events:
        print(rows.row(item))


def _in_order(life: Life[Record]) -> list[bytes]:
    names = [life.first]
    for event, _ in life.events:
        if event.operation in MOVES and event.new_path is not None and happened(event):
            new, below = event.new_path, event.path + b"/"
            moved = [new, *(new + name[len(event.path) :] for name in names if name.startswith(below))]
            names += [name for name in moved if name in life.ever and name not in names]
    return names


def _survey(trail: IndexedTrail) -> tuple[list[Move], set[str]]:
    """Return all renames and links on the trail that succeeded, and the stores of its mounts."""
    found: list[Move] = []
    stores: set[str] = set()
    for chain in trail.chains:
        for portion in trail.portions(chain):
            stores |= {option_of(item, "store") for item in portion.own(MOUNTS) if isinstance(item, Record)}
            classes = portion.index.classes
            moving = {id_ for id_, event in classes.items() if event.operation in MOVES and happened(event)}
            moves = portion.index.query(_MOVED) if moving else ()
            found += [(old, new) for class_id, old, new in moves if class_id in moving]
    return found, stores - {""}


def _on(names: set[bytes]) -> Term:
    """Return a condition of a query (a Term) that selects the events of these paths."""
    return Term("path", tuple(Value(quoted(os.fsdecode(name))) for name in sorted(names)))


def _about(names: set[bytes], moves: list[Move]) -> Expression:
    """Return a condition for the events of these paths, and for renames of directories above them."""
    moved = {path for move in moves for path in move}
    above = {name[:end] for name in names for end, byte in enumerate(name) if byte == ord("/")} & moved
    renames = [all_of(Term("op", (Value("rename"),)), _on(above))] if above else []
    return any_of(_on(names), *renames)
