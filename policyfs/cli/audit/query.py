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
from policyfs.cli.audit.store_paths import StorePaths
from policyfs.cli.common.progress import silent
from policyfs.errors import EXIT_INCOMPLETE, PolicyfsError
from policyfs.follow.lines import fields_of_hole, with_id
from policyfs.journal.files.directories import cache_directory, key_directory
from policyfs.journal.files.inventory import unread
from policyfs.journal.files.reader import find_chains, find_machines, root_of
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.journal.sealing.ends import last_seqs
from policyfs.trail.chain.continuity import Hole
from policyfs.trail.lines.event import DECISIONS
from policyfs.trail.lines.record import BadLine, Fields, Record
from policyfs.trail.lines.table import shown
from policyfs.trail.query.expression import Term, Value, all_of
from policyfs.trail.query.query import merge
from policyfs.trail.query.selection import Selection, option, parse_query
from policyfs.trail.query.terms import Clock

_FIELDS: Final = ("since", "until", "app", "uid", "op", "decision", "path", "rule")
"""The fields that options select by (add_query, add_fields)."""
_TOLD: Final = 10
_MINUTE_NS: Final = 60_000_000_000
"""The time, in ns, by which events may be out of order."""
_OPENS: Final = ("open", "create")
"""The operations whose events may have a kind, a view and sizes; counts of bytes are in their releases."""


def add_query(parser: argparse.ArgumentParser, *, named: bool = False) -> None:
    """Add the query that selects events, and the options of its time. named: the query is the option
    `--query`, because the command has other positional arguments."""
    help_ = "conditions such as app:gallery 'path:/DCIM/**' 'size:>1M', joined by and, or, not"
    if named:
        parser.add_argument("--query", action="append", default=[], metavar="QUERY", help=help_)
    else:
        parser.add_argument("query", nargs="*", metavar="QUERY", help=help_)
    when = "10m, 2h, 1d, today, yesterday, 2026-03-01, 2026-03-01T08:15"
    add = parser.add_argument
    add("--since", metavar="WHEN", help=f"from this time on: {when}")
    add("--until", metavar="WHEN", help="before this time, in the same forms")


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add the options that select events by a field, for those who search without the query language."""
    add = parser.add_argument
    many = "; if repeated, one match is enough"
    add("--app", action="append", default=[], help=f"the app's name, or stranger{many}")
    add("--uid", action="append", default=[], type=int, help=f"the caller's uid{many}")
    add("--op", action="append", default=[], metavar="OPERATION", help=f"open, rename, ...{many}")
    add("--decision", action="append", default=[], choices=DECISIONS, help=f"the answer{many}")
    add("--path", metavar="GLOB", help="a glob as in policies; without a leading / at any depth")
    add("--rule", action="append", default=[], metavar="ID", help=f"a rule that decided{many}")


def selection_of(args: argparse.Namespace) -> Selection:
    """Return the events that a command line's query and options select. Raises UsageError."""
    text = " ".join(args.query)
    chosen = [parse_query(text)]
    for field in _FIELDS:
        if given := getattr(args, field, None):
            chosen.append(option(field, [given] if isinstance(given, str) else list(map(str, given))))
    tree = all_of(*chosen)
    return Selection(tree, Clock(datetime.now(UTC), zone_of(args)), text)


def opened(args: argparse.Namespace) -> tuple[IndexedTrail, Selection]:
    """Return the trails in the directory --trail, and the selection of events of a command line, in which
    paths of a store also stand for those in its mounts. Raises as selection_of() and open_trail()."""
    wanted = selection_of(args)
    trail = open_trail(args)
    tree = StorePaths(trail).translated(wanted.tree)
    return trail, wanted if tree == wanted.tree else Selection(tree, wanted.clock, wanted.text)


def zone_of(args: argparse.Namespace) -> tzinfo | None:
    """Return the time zone for printed times: UTC with --utc; else None, which means the machine's zone."""
    return UTC if getattr(args, "utc", False) else None


def chains_of(args: argparse.Namespace, *, machines: bool = False) -> list[Chain]:
    """Return the chains (each mount's trail) in --trail. machines: also those in trail roots in it. Raises
    PolicyfsError without such a directory."""
    root = Path(args.trail)
    try:
        return find_machines(root) if machines else find_chains(root)
    except FileNotFoundError:
        raise PolicyfsError(f"there is no trail at {root}: name its directory with --trail") from None


def unreadable(args: argparse.Namespace, error: OSError) -> PolicyfsError:
    """Return the error with the message that the trail in the directory --trail cannot be read."""
    why = "only root may read it" if isinstance(error, PermissionError) else error.strerror or error
    return PolicyfsError(f"cannot read the trail at {args.trail}: {why}")


def open_trail(args: argparse.Namespace) -> IndexedTrail:
    """Return the trails in the directory --trail, with their indexes. Warn on stderr if new indexes cannot be
    saved. Raises PolicyfsError."""
    cache, root = IndexCache(cache_directory()), Path(args.trail)
    if cache.problem:
        print(f"policyfs: no index is kept, so this query takes longer: {cache.problem}", file=sys.stderr)
    try:
        ends = last_seqs(key_directory(), root_of(root))  # before the chains, which may grow meanwhile
        trail = IndexedTrail(chains_of(args, machines=True), cache, getattr(args, "progress", silent), ends)
        own = [chain for chain in trail.chains if not chain.machine]
        trail.holes |= {name: [hole] for name, hole in unread(root, own, ends)}
        for machine in {chain.machine for chain in trail.chains} - {""}:
            those = [chain for chain in trail.chains if chain.machine == machine]
            found = unread(root / machine, those, {})
            trail.holes |= {f"{machine}/{name}": [hole] for name, hole in found}
    except OSError as error:
        raise unreadable(args, error) from error
    return trail


def holes_of(trail: IndexedTrail, wanted: Selection | None = None) -> list[tuple[str, Hole]]:
    """Return the holes in what was read of a trail, with the names of their chains. wanted: leave out those
    that are certainly not in its period."""
    return [
        (name, hole)
        for name, holes in sorted(trail.holes.items())
        for hole in holes
        if wanted is None or wanted.overlaps(hole.since_ns - _MINUTE_NS, hole.until_ns + _MINUTE_NS)
    ]


def hole_fields(holes: list[tuple[str, Hole]]) -> list[Fields]:
    """Return the fields for JSON of holes in a trail."""
    return [fields_of_hole(name, hole) for name, hole in holes]


def finish(trail: IndexedTrail, code: int, wanted: Selection | None = None) -> int:
    """Print the holes in what was read on stderr. Return EXIT_INCOMPLETE if there are some, else *code*."""
    holes = holes_of(trail, wanted)
    sys.stdout.flush()
    for name, hole in holes[:_TOLD]:
        what = f"{shown(name)}, {hole.what}: {shown(hole.why)}"
        print(f"policyfs: the trail is not whole: {what}", file=sys.stderr)
    if len(holes) > _TOLD:
        print(f"policyfs: and {len(holes) - _TOLD} more: see policyfs audit verify", file=sys.stderr)
    return EXIT_INCOMPLETE if holes else code


def selected(trail: IndexedTrail, wanted: Selection, limit: int = 0) -> Iterator[Record | BadLine]:
    """Return the events of a selection, and also bad lines and records of problems, from all mounts, in the
    order of time. limit: return only this number of the newest events of each mount; 0: all events."""
    check_names(trail, wanted)
    if limit:
        return merge([trail.newest(chain, wanted, limit) for chain in trail.chains])
    return merge([trail.selected(chain, wanted) for chain in trail.chains])


def tell_nothing(trail: IndexedTrail, args: argparse.Namespace, what: str) -> None:
    """Print on stderr that nothing was found, and what is on record at all. what: such as "matches"."""
    sys.stdout.flush()
    stores = ", ".join(map(shown, StorePaths(trail).stores)) or "stores"
    covered = f"what programs did in the mounts of {stores}; not what they changed in a store itself"
    print(f"policyfs: nothing in the trail at {shown(args.trail)} {what}", file=sys.stderr)
    print(f"policyfs: on record is {covered}, past its mounts", file=sys.stderr)


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
