"""`policyfs audit show`: one record, the source lines of its rules, and the events around it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from policyfs.cli.audit.policies import KeptPolicies, copies_of
from policyfs.cli.audit.query import chains_of, finish, json_fields, open_trail, zone_of
from policyfs.cli.common.colour import columns
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.journal.files.policy_texts import read_policy
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.trail.chain.restarts import STARTS, Restarts
from policyfs.trail.lines.record import Record, parse_id
from policyfs.trail.lines.table import shown
from policyfs.trail.query.query import merge
from policyfs.trail.text.cause import remedy_of
from policyfs.trail.text.render import RowPrinter, record_sheet

_POLICY_STARTS = frozenset({"mount", "policy"})
_AROUND = 5
_OF_PROCESS = "pid = ? AND class IN (SELECT id FROM class WHERE uid = ?)"
_OF_FILE = "line IN (SELECT line FROM place WHERE path = (SELECT path FROM event WHERE line = ?))"


def add_show(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    parser.add_argument("id", nargs="?", metavar="ID", help="the ID that search prints, e.g. 0123abcd:42")
    help_ = "print the policies in force, or the text of this policy; the first digits are enough"
    parser.add_argument("--policy", nargs="?", const="", metavar="DIGEST", help=help_)


def run_show(args: argparse.Namespace) -> int:
    """Print one record, the rules that decided, and the records before and after it. With --policy, print
    policies."""
    if (args.id is None) == (args.policy is None):
        raise UsageError("name a record, such as 0123abcd:42, or give --policy")
    if args.policy is not None:
        return _policies(args)
    try:
        mount, seq = parse_id(args.id)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    trail = open_trail(args)
    found = False
    for chain in trail.chains:
        for portion in trail.portions(chain) if chain.name.startswith(mount) else ():
            place = _find(portion, seq)
            if place is None:
                continue
            row, item = place
            if args.json:
                print(json.dumps(json_fields(item)))
            else:
                print("\n\n" * found + "\n".join(record_sheet(item, zone_of(args))))
                _print_more(trail, portion, row, item, args)
                if crash := _crash_before(trail, chain, item):
                    print(f"\n{crash}")
            found = True
            break
    if found:
        return EXIT_OK
    print(f"policyfs: no record {shown(args.id)} in the trail at {shown(args.trail)}", file=sys.stderr)
    return finish(trail, EXIT_REFUSED)


def _find(portion: Portion, seq: int) -> tuple[int, Record] | None:
    """Find the record with the number *seq* in a portion (a part of a trail file, with its index)."""
    places = (
        "SELECT line, offset FROM event WHERE seq = ?1 UNION SELECT line, offset FROM other WHERE seq = ?1"
    )
    for line, offset in portion.index.query(places, seq):
        item = portion.row(line, offset)
        if isinstance(item, Record):
            return line, item
    return None


def _print_more(
    trail: IndexedTrail, portion: Portion, row: int, item: Record, args: argparse.Namespace
) -> None:
    event, policies = item.event, KeptPolicies(trail.chains)
    if event is None:
        return
    remedy = remedy_of(event, policies.fact)
    if remedy:
        print(f"\n{shown(remedy)}")
    for rule in (*event.rules, *event.would_deny):
        fact = policies.fact(event.policy_digest, rule)
        if fact is not None:
            print(f"\n{shown(fact.place)}")
            print("\n".join(f"  {shown(line)}" for line in policies.source(event.policy_digest, rule)))
    rows = RowPrinter(columns(), zone_of(args), policies.fact)
    for title, around in (
        ("the same process", _around(portion, row, _OF_PROCESS, event.pid, event.uid)),
        ("the same file", _around(portion, row, _OF_FILE, row)),
    ):
        if len(around) > 1:
            print(f"\nAround this record, {title}:\n  {rows.head()}")
            for line, offset in around:
                print(f"{'>' if line == row else ' '} {rows.row(portion.row(line, offset))}")


def _crash_before(trail: IndexedTrail, chain: Chain, record: Record) -> str:
    """Return a sentence if this record shows that the daemon before crashed, else an empty text."""
    if record.kind not in STARTS:
        return ""
    restarts = Restarts()
    for portion in trail.portions(chain):
        for item in portion.own(STARTS):
            if isinstance(item, Record) and item.kind in STARTS:
                crash = restarts.take(item)
                if item.seq == record.seq:
                    return crash
    return ""


def _around(portion: Portion, row: int, condition: str, *values: object) -> list[tuple[int, int]]:
    """Return line and offset of a row of the index, and of the nearest rows that meet an SQL condition."""
    found: list[tuple[int, int]] = []
    for where, count in (("line < ?", _AROUND), ("line >= ?", _AROUND + 1)):
        order = "DESC" if count == _AROUND else "ASC"
        rows = f"WHERE {where} AND {condition} ORDER BY line {order} LIMIT {count}"
        found += portion.index.query(f"SELECT line, offset FROM event {rows}", row, *values)
    return sorted(found)


def _policies(args: argparse.Namespace) -> int:
    """Print the policies that were in force, each with its time, or the text of one policy."""
    if args.policy:
        return _print_policy(chains_of(args), args.policy)
    return _list_policies(open_trail(args), RowPrinter(columns(), zone_of(args)), as_json=args.json)


def _list_policies(trail: IndexedTrail, rows: RowPrinter, *, as_json: bool) -> int:
    found = EXIT_REFUSED
    for item in merge([trail.own(chain, _POLICY_STARTS) for chain in trail.chains]):
        if isinstance(item, Record):
            found = EXIT_OK
            print(json.dumps({"id": item.id, **item.fields}) if as_json else rows.row(item))
    if found != EXIT_OK:
        print("policyfs: the trail records no start of a mount", file=sys.stderr)
    return finish(trail, found)


def _print_policy(chains: list[Chain], digest: str) -> int:
    found = {kept: copies for kept, copies in copies_of(chains).items() if kept.startswith(digest)}
    if len(found) != 1:
        which = "no" if not found else "more than one"
        print(f"policyfs: the trail keeps {which} policy {shown(digest)}", file=sys.stderr)
        return EXIT_REFUSED
    from policyfs.policy.text.parse import digest_of

    [(kept, directories)] = found.items()
    copies = [read_policy(directory, kept) for directory in directories]
    files = next((copy for copy in copies if digest_of(text for _, text in copy) == kept), None)
    if files is None:
        print(
            f"policyfs: the text of policy {kept} was changed after policyfs kept the text", file=sys.stderr
        )
        return EXIT_REFUSED
    sys.stdout.flush()
    for path, text in files:
        if len(files) > 1:
            sys.stdout.write(f"# {shown(Path(path).name)}\n")
        sys.stdout.write(text.decode("utf-8", "backslashreplace"))
    return EXIT_OK
