"""`policyfs audit summary`: counts of the selected events, and the reasons of denials."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_query,
    finish,
    hole_fields,
    holes_of,
    opened,
    tell_lacking,
    tell_nothing,
    zone_of,
)
from policyfs.cli.common.colour import columns
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.journal.index.database import BY_SUM, SUMS, Index
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.journal.sealing.verification import is_recorded
from policyfs.trail.chain.restarts import STARTS, UNENDED, Restarts
from policyfs.trail.lines.record import BadLine, Fields
from policyfs.trail.lines.table import shown
from policyfs.trail.query.expression import And
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import COUNTED, GROUPS, HOUR_NS, Groups, Summary, Sums
from policyfs.trail.text.cause import cause_of, remedy_of
from policyfs.trail.text.render import grouped_lines, summary_json, summary_lines

_IN_MEMORY: Final = 50_000
"""The number of counts in memory, some 500 bytes each. Then they are added to the file."""
_CACHE_KIB: Final = 32 << 10


class StoredGroups(Groups):
    """Counts by group and decision, in memory, and beyond a bound in an SQLite database without a name."""

    def __init__(self, fields: int) -> None:
        """fields: the number of fields of a group."""
        super().__init__()
        self._database: sqlite3.Connection | None = None
        names = [f"field{number}" for number in range(fields)] + ["decision"]
        self._columns = ", ".join(names)
        self._match = " AND ".join(f"{name} = ?" for name in names[:-1]) or "1"
        self._marks = ", ".join("?" * (fields + 2))

    def add(self, key: tuple[str, ...], decision: str, weight: int) -> None:
        """Count requests of a group with a decision."""
        super().add(key, decision, weight)
        if len(self._counts) >= _IN_MEMORY:
            self._store()

    def _store(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect("", isolation_level=None)
            self._database.executescript(
                f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB};"
                f"CREATE TABLE groups ({self._columns}, count, PRIMARY KEY ({self._columns})) WITHOUT ROWID"
            )
        counts = sorted(
            (*map(_bytes, key), _bytes(decision), count) for (key, decision), count in self._counts.items()
        )
        add = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
        add = f"INSERT INTO groups VALUES ({self._marks}) {add}"
        self._database.execute("BEGIN")
        self._database.executemany(add, counts)
        self._database.execute("COMMIT")
        self._counts.clear()
        return self._database

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
        """Yield each group with the numbers of requests by decision, in order."""
        if self._database is None:
            yield from super().__iter__()
            return
        rows = self._store().execute(f"SELECT * FROM groups ORDER BY {self._columns}")
        for key, found in groupby(rows, key=lambda row: row[:-2]):
            yield tuple(map(_text, key)), {_text(row[-2]): row[-1] for row in found}

    def decisions(self) -> list[str]:
        """Return the decisions that were counted, in order."""
        if self._database is None:
            return super().decisions()
        return sorted(_text(row[0]) for row in self._store().execute("SELECT DISTINCT decision FROM groups"))

    def __contains__(self, key: tuple[str, ...]) -> bool:
        """Return True if a request of this group was counted."""
        if self._database is None:
            return super().__contains__(key)
        found = self._store() if self._counts else self._database
        return (
            found.execute(f"SELECT 1 FROM groups WHERE {self._match}", tuple(map(_bytes, key))).fetchone()
            is not None
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


_GROUPS: Final = f"class, path, new_path, time / {HOUR_NS}, sum(ifnull(repeats, 1))"
_NEW: Final = "new"
"""The further field of --by: ``yes`` for groups that have no event before --since."""


def add_summary(parser: argparse.ArgumentParser) -> None:
    by_help = (
        f"count for each combination of these fields: {', '.join(GROUPS)}; with --since also {_NEW}: whether"
        " the combination is new since then"
    )
    parser.add_argument("--by", metavar="FIELD,...", help=by_help)
    add_query(parser)


def run_summary(args: argparse.Namespace) -> int:
    """Print the counts of the selected events. Return 1 if no event is selected."""
    by = args.by.split(",") if args.by else []
    for name in by:
        if name not in (*GROUPS, _NEW):
            raise UsageError(f"--by {shown(name)!r}: the possible fields are {', '.join((*GROUPS, _NEW))}")
    trail, wanted = opened(args)
    check_names(trail, wanted)
    fields = [name for name in by if name != _NEW]
    summary = summarize(trail, wanted, fields)
    if _NEW in by:
        summary.grouped = _marked(summary, by.index(_NEW), _keys_before(args, fields), len(by))
    policies = KeptPolicies(trail.chains)
    if args.json:
        holes = hole_fields(holes_of(trail, wanted))
        print(
            json.dumps({**summary_json(summary), "grounds": _grounds(summary, policies), "holes": holes})[
                :-1
            ],
            end="",
        )
        if by:
            _print_groups(summary.grouped, by)
        print("}")
    elif by:
        for line in grouped_lines(summary, by, columns()):
            print(line)
    else:
        print("\n".join(summary_lines(summary, zone_of(args), columns(), policies.fact)))
    tell_lacking(trail, wanted)
    if not summary.events:
        tell_nothing(trail, args, "matches")
    return finish(trail, EXIT_OK if summary.events else EXIT_REFUSED, wanted)


def _keys_before(args: argparse.Namespace, by: list[str]) -> Groups:
    """Return the groups that the query finds before --since. Raises UsageError without --since."""
    if args.since is None:
        raise UsageError(f"--by {_NEW} needs --since WHEN: what came before is not new")
    earlier = argparse.Namespace(**{**vars(args), "since": None, "until": args.since})
    return summarize(*opened(earlier), by).grouped


def _marked(summary: Summary, at: int, before: Groups, fields: int) -> Groups:
    """Return the groups of a summary with the field `new`. at: its position. before: groups that are not
    new. fields: the number of fields, with it."""
    marked = StoredGroups(fields)
    for key, counts in summary.grouped:
        for decision, count in counts.items():
            marked.add((*key[:at], "no" if key in before else "yes", *key[at:]), decision, count)
    return marked


def summarize(trail: IndexedTrail, wanted: Selection, by: list[str]) -> Summary:
    """Count the events of a selection. by: the fields by which they are grouped."""
    summary = Summary(by, StoredGroups(len(by)))
    for chain in trail.chains:
        restarts = Restarts()
        for portion in trail.portions(chain):
            count_portion(summary, portion, wanted, restarts)
        if restarts.unended and not is_recorded(chain):
            summary.crashes.append((chain.name, UNENDED))
    return summary


def count_portion(summary: Summary, portion: Portion, wanted: Selection, restarts: Restarts) -> None:
    """Count the events of one portion (a part of a trail file, with its index), and its bad lines.

    Count also the records of the journal about itself, if their kind is in COUNTED. restarts: the starts and
    ends of daemons in the earlier portions of the chain.
    """
    index = portion.index
    for item in portion.own(COUNTED | STARTS):
        if isinstance(item, BadLine):
            summary.add_trouble(item)
            continue
        restarts.note(index.time_before(item.place.line - portion.first_line))
        crash = restarts.take(item)
        if wanted.concerns(item):
            summary.add_trouble(item)
        if crash and wanted.overlaps(restarts.alive_ns, item.time_ns):
            summary.crashes.append((item.id, crash))
    restarts.note(index.time_before(index.lines + 1))
    add_events(summary, index, wanted, portion.file.chain.machine)


def add_events(summary: Summary, index: Index, wanted: Selection, machine: str = "") -> None:
    """Count the events of an index that a selection contains, as Summary.add() does, but read no line.
    machine: stands before mounts (``ada:/mnt``), if there is one."""
    classes, is_all = index.classes, wanted.tree == And()
    if machine:
        classes = {id_: one._replace(mount=f"{machine}:{one.mount}") for id_, one in classes.items()}
    sums = index.query("SELECT * FROM hour") if is_all else index.select(SUMS, wanted, BY_SUM)
    for hour, class_id, denied, *numbers, first_ns, last_ns in sums:
        event, found = classes[class_id], Sums(*numbers)
        summary.add_sums(event, hour, found)
        summary.add_period(first_ns, last_ns)
        if denied is not None:
            summary.add_denied(event, index.path(denied), found.weight)
    if summary.by_path:
        for class_id, path, new_path, hour, weight in index.select(_GROUPS, wanted, "GROUP BY 1, 2, 3, 4"):
            new = None if new_path is None else index.path(new_path)
            summary.add_group(classes[class_id]._replace(path=index.path(path), new_path=new), hour, weight)


def _print_groups(groups: Groups, by: list[str]) -> None:
    """Print the groups as a field of a JSON object, one by one: they may be many."""
    print(', "by": [', end="")
    separator = ""
    for key, counts in groups:
        for decision, count in counts.items():
            fields = {**dict(zip(by, key, strict=True)), "decision": decision, "count": count}
            print(separator, json.dumps(fields), sep="", end="")
            separator = ", "
    print("]", end="")


def _grounds(summary: Summary, policies: KeptPolicies) -> list[Fields]:
    refusals = sorted(summary.refusals.values(), key=lambda one: -one.count)[:100]
    return [
        {
            "app": one.event.app,
            "count": one.count,
            "cause": cause_of(one.event, policies.fact),
            "rules": list(one.event.rules),
            "path": one.path.decode("utf-8", "backslashreplace"),
            "remedy": remedy_of(one.event, policies.fact),
        }
        for one in refusals
    ]
