"""`policyfs undo`: take back what one app has removed or changed in a store since a time.

docs/undo.md is the manual."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from policyfs.cli.kept.stores import Store, choice_of, opened
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.store.kept.bins import UNDO
from policyfs.store.kept.plan import Action, Conflict, Conflicts, Plan, Step
from policyfs.store.kept.undo import Undo, has_writers, pasts_of, planned, restored_below
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.table import shown, shown_path
from policyfs.trail.query.query import parse_when

_SHOWN: Final = 20
_RELEASE_S: Final = 0.5
"""The time in which a daemon hears that an app has closed its files."""
_NOW_NS: Final = 1 << 63


def add_undo(parser: argparse.ArgumentParser, _words: Sequence[str] = ()) -> None:
    """Add the options of ``policyfs undo``."""
    add = parser.add_argument
    add("where", metavar="STORE", help="the store, or a mount of it")
    add("--app", metavar="NAME", help="whose changes (stranger: of callers that are no app)")
    add("--last", action="store_true", help="take back what undo itself has done")
    add("--since", required=True, metavar="TIME", help="changes since this time: 2h, today, 2026-03-01T08:15")
    add("--until", metavar="TIME", help="and before this time (default: now)")
    paths_help = "only changes at these paths, such as '/DCIM/***' (may be repeated)"
    add("--paths", action="append", metavar="GLOB", help=paths_help)
    add("--dry-run", action="store_true", help="print the plan, and change nothing")
    conflicts_help = (
        "what others have changed since: leave it (default), put the old version beside it, or replace it"
        " (it is kept)"
    )
    choices = [each.value for each in Conflicts]
    add("--conflicts", choices=choices, default=Conflicts.LEAVE.value, help=conflicts_help)
    add("--to", metavar="DIR", help="write the old versions below DIR, and change nothing in the store")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if bool(args.app) == args.last:
        raise UsageError("name an app with --app, or give --last")
    app = UNDO if args.last else str(args.app)
    try:
        now = datetime.now(UTC)
        since_ns = parse_when(args.since, now)
        until_ns = parse_when(args.until, now) if args.until else _NOW_NS
        wanted = choice_of(args.paths)
    except ValueError as error:
        raise UsageError(str(error)) from error

    with opened(args.where) as store:
        if app not in store.bins.apps():
            raise PolicyfsError(
                f"nothing is kept of {shown(app)} in {shown(store.path)}: see `policyfs kept list`"
            )
        try:
            return _undo(args, store, app, since_ns, until_ns, wanted)
        except OSError as error:
            raise PolicyfsError(f"cannot undo in {shown(store.path)}: {error.strerror}") from error


def _undo(
    args: argparse.Namespace, store: Store, app: str, since_ns: int, until_ns: int,
    wanted: Callable[[bytes], bool],
) -> int:  # fmt: skip
    pasts, undone = pasts_of(store.bins, app, since_ns, until_ns, wanted)
    if has_writers(pasts):
        time.sleep(_RELEASE_S)
        pasts, undone = pasts_of(store.bins, app, since_ns, until_ns, wanted)
    plan = planned(store.tree, pasts, since_ns, Conflicts(args.conflicts), undone)
    print(f"{len(pasts):,} changes of {shown(app)} since {iso_time(since_ns)}")
    if args.to is not None:
        left = restored_below(store.tree, store.bins, plan, args.to)
        return _told(plan, [*plan.conflicts, *left], f"below {shown(args.to)}")
    if args.dry_run:
        for line in _lines(plan.steps):
            print(line)
        return _told(plan, plan.conflicts, "planned; nothing is changed")
    _on_record(store, app, since_ns, until_ns, plan)
    left = Undo(store.tree, store.bins, store.kept, undone.remade).carry_out(plan, app)
    return _told(plan, [*plan.conflicts, *left], "done")


def _lines(steps: list[Step]) -> Iterator[str]:
    for step in steps:
        to = f" to {shown_path(step.new)}" if step.new else ""
        beside = " under another name" if step.beside else ""
        yield f"{shown_path(step.path)} {step.action.value}{to}{beside}"


def _told(plan: Plan, conflicts: list[Conflict], how: str) -> int:
    counts = Counter(step.action for step in plan.steps)
    for action in Action:
        if counts[action]:
            print(f"{counts[action]:>9,} {action.value}")
    for conflict in conflicts[:_SHOWN]:
        print(f"left: {shown_path(conflict.path)}: {conflict.why}", file=sys.stderr)
    if len(conflicts) > _SHOWN:
        print(f"left: and {len(conflicts) - _SHOWN:,} more", file=sys.stderr)
    print(f"{how}{f', {len(conflicts):,} left' if conflicts else ''}")
    return EXIT_REFUSED if conflicts else EXIT_OK


def _on_record(store: Store, app: str, since_ns: int, until_ns: int, plan: Plan) -> None:
    """Write on the trail of each running mount of the store that an undo begins."""
    counts = Counter(step.action.name.lower() for step in plan.steps)
    fields: dict[str, object] = {
        "done": "undo", "app": app, "since": iso_time(since_ns), "store": store.path,
        "steps": dict(counts), "left": len(plan.conflicts),
    }  # fmt: skip
    if until_ns != _NOW_NS:
        fields["until"] = iso_time(until_ns)
    store.tell("policyfs undo", fields)
