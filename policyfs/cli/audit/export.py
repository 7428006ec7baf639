"""`policyfs audit export` writes events for other programs."""

from __future__ import annotations

import argparse
import csv
import functools
import heapq
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import (
    add_query,
    events_of,
    finish,
    opened,
    tell_nothing,
    unreadable,
)
from policyfs.cli.common.output import private_file
from policyfs.domain import NO_FACTS, Facts, FileType, Principal
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.linux.code_digest import VERSION
from policyfs.policy.decide import Engine, as_of, compile_policy
from policyfs.policy.explain.explain import explain
from policyfs.trail.lines.event import STRANGER, Event
from policyfs.trail.lines.line import LineFormatter
from policyfs.trail.lines.record import Fields, Record, short_name
from policyfs.trail.lines.table import shown
from policyfs.trail.query.selection import Selection
from policyfs.trail.text.cause import Lookup, nothing_known
from policyfs.trail.text.export import CSV_HEAD, csv_row, ocsf
from policyfs.trail.text.part import part_of
from policyfs.trail.text.templates import Templates, Values


class PolicySight:
    """The rights of one app at the time of each event: under the policy that the event names.

    The app has no rights if the policy does not name the app, or if the policy's text is not kept or was
    changed. An exception of the policy (an allow rule with an end date) counts for events before its end.
    """

    def __init__(self, kept: KeptPolicies, app: str) -> None:
        """Raises UsageError if *app* is `stranger`: strangers are not one app."""
        if app == STRANGER:
            raise UsageError("--for-app: strangers are not one app; name an app of the policy")
        self._kept = kept
        self._app = app
        self._engines: dict[str, Engine | None] = {}
        self._latest_ns: dict[str, int] = {}
        """Mount -> the latest time of its events so far, in ns since 1970. After the clock was set back, an
        exception that has ended stays ended (daemon/high_water.py)."""
        self.unknown: set[str] = set()
        """Digests of policies that do not name the app, or whose text is not kept or was changed."""

    def sees(self, event: Event, path: bytes, *, directory: bool) -> bool:
        """Return True if the app could see this path when the event happened. The answer holds for every kind
        and owner that the file could have had."""
        ftype = FileType.DIRECTORY if directory else FileType.REGULAR
        return self._may(event, "see", path, ftype, NO_FACTS)

    def reads(self, event: Event, path: bytes, kind: str | None) -> bool:
        """Return True if the app could read a file of this kind at this path when the event happened."""
        return self._may(event, "read", path, FileType.REGULAR, Facts(kind))

    def _may(self, event: Event, request: str, path: bytes, ftype: FileType, facts: Facts) -> bool:
        found = self._of(event)
        if found is None:
            return False
        engine, who = found
        explained = explain(engine, who, request, path, ftype, facts)
        return explained.decision.allowed and not explained.hidden_by

    def _of(self, event: Event) -> tuple[Engine, Principal] | None:
        """Return the engine of an event's policy at that time, and the app as its caller."""
        digest = event.policy_digest
        if digest not in self._engines:
            policy = self._kept.policy(digest)
            if policy is None or all(app.name != self._app for app in policy.apps):
                self.unknown.add(digest)
                self._engines[digest] = None
            else:
                self._engines[digest] = compile_policy(policy)
        engine = self._engines[digest]
        if engine is None:
            return None
        if engine.policy.exceptions:
            at_ns = self._latest_ns[event.mount] = max(event.time_ns, self._latest_ns.get(event.mount, 0))
            self._engines[digest] = engine = as_of(engine, at_ns)
        uids = next(app.uids for app in engine.policy.apps if app.name == self._app)
        return engine, engine.app_principal(self._app, uids[0][0] if uids else 0)


_FORMATS = ("jsonl", "csv", "ocsf")
_BATCH = 500
_ABSENT = " + ".join(f"({name} IS NULL) * {1 << at}" for at, name in enumerate(Values._fields[2:]))
_COLUMNS = f"line, offset, seq, class, {_ABSENT}, repeats, {', '.join(Values._fields)}".replace(
    "time_ns", "time"
)


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(lists=True)
    add = parser.add_argument
    add("--format", choices=_FORMATS, default="jsonl", help="default: %(default)s")
    help_ = "only the requests of this app, with the facts that the app may know"
    add("--for-app", metavar="NAME", help=help_)
    add("--schema", action="store_true", help="print the JSON Schema of the lines of a trail, and no event")
    add("-o", "--output", metavar="FILE", help="write to this file, not to standard output")
    add_query(parser)


def run_export(args: argparse.Namespace) -> int:
    """Write the events that the query selects. Return 1 if there is none. With --schema, write the schema."""
    if args.schema:
        from policyfs.trail.lines.schema import line_schema

        print(json.dumps(line_schema(), indent=2))
        return EXIT_OK
    trail, wanted = opened(args)
    if args.output is None:
        count = _written(args, trail, wanted, sys.stdout)
    else:
        count = _text_file(args, trail, wanted)
        print(f"{shown(args.output)}: {count} event{'s' * (count != 1)}")
    if not count:
        tell_nothing(trail, args, "matches")
    return finish(trail, EXIT_OK if count else EXIT_REFUSED, wanted)


def _text_file(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection) -> int:
    """Write the selected events to the file --output. Return their number. Raises PolicyfsError."""
    try:
        with private_file(args.output) as file:
            return _written(args, trail, wanted, file)
    except OSError as exc:
        raise PolicyfsError(f"cannot write {args.output}: {exc.strerror or exc}") from exc


def _written(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection, file: TextIO) -> int:
    if args.format == "csv":
        file.write(_csv_line(CSV_HEAD))
    lines, count = _lines(args, trail, wanted), 0
    while batch := list(itertools.islice(lines, _BATCH)):
        file.write("".join(batch))
        count += len(batch)
    return count


def _lines(args: argparse.Namespace, trail: IndexedTrail, wanted: Selection) -> Iterator[str]:
    """Yield a line for each selected event by time, newline included. Raises PolicyfsError."""
    try:
        policies = KeptPolicies(trail.chains)
        form = functools.partial(_line, args.format, nothing_known if args.for_app else policies.fact)
        if args.for_app:
            told = _told(args, events_of(trail, wanted), policies)
            yield from (form(event, name, fields) for name, event, fields in told)
            return
        check_names(trail, wanted)
        chains = [_of_chain(args.format, trail, chain, wanted, form) for chain in trail.chains]
        yield from (line for _, _, line in heapq.merge(*chains, key=lambda one: one[:2]))
    except OSError as exc:
        raise unreadable(args, exc) from exc


def _line(form: str, lookup: Lookup, event: Event, name: str, fields: Fields | None = None) -> str:
    if form == "csv":
        return _csv_line(csv_row(event, name))
    if form == "ocsf":
        fields = ocsf(event, name, VERSION, lookup, os.uname().nodename)
    return json.dumps(fields) + "\n"


def _of_chain(
    form: str, trail: IndexedTrail, chain: Chain, wanted: Selection, line_of: Callable[..., str]
) -> Iterator[tuple[int, str, str]]:
    """Yield the time, the chain and the line of each selected event. Few are read from the segments: the
    index has what CSV and OCSF need."""
    latest_ns, prefix = 0, f"{short_name(chain.name)}:"
    for portion in trail.portions(chain):
        templates, classes = Templates(line_of, in_json=form == "ocsf"), portion.index.classes
        paths: dict[int | None, bytes] = dict(portion.index.query("SELECT id, name FROM path"))
        for row in portion.index.select(_COLUMNS, wanted):
            line, offset, seq, class_id, absent, repeats, time_ns, path, new_path, *numbers = row
            name, text = f"{prefix}{seq}", None
            latest_ns = max(latest_ns, time_ns)
            if form == "jsonl":
                raw = portion.file.line(offset).decode("utf-8", "backslashreplace")
                text = f'{{"id":"{name}",{raw[1:]}\n'
            elif repeats is None:
                values = Values(time_ns, paths[path], paths.get(new_path), *numbers)
                text = templates.text(class_id, absent, classes[class_id], values, name)
            if text is None and isinstance(item := portion.row(line, offset), Record) and item.event:
                text = line_of(item.event, item.id)
            if text is not None:
                yield latest_ns, chain.name, text


def _csv_line(row: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    return line.getvalue()


def _told(
    args: argparse.Namespace, events: Iterator[tuple[Record, Event]], policies: KeptPolicies
) -> Iterator[tuple[str, Event, Fields]]:
    """Yield what an app may know of each selected event: its id, the event, and its fields."""

    sight, formatter, number = PolicySight(policies, args.for_app), LineFormatter(), 0
    for _, event in events:
        part = part_of(event, args.for_app, sight)
        if part is None:
            continue
        number += 1
        fields = json.loads(formatter.event(part, number) + b"}")
        for name in ("generation", "policy"):
            del fields[name]
        yield f"{args.for_app}:{number}", part, {"id": f"{args.for_app}:{number}", **fields}
    for digest in sorted(sight.unknown):
        what = (
            f"the trail does not keep policy {digest[:12]}, or this policy has no app {args.for_app}:"
            " denials by this policy are left out"
        )
        print(f"policyfs: {shown(what)}", file=sys.stderr)
