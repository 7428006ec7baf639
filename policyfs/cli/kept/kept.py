"""`policyfs kept`: what is kept in a store of what apps have removed or overwritten.

docs/undo.md is the manual."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.cli.kept.stores import Store, choice_of, opened
from policyfs.errors import EXIT_OK, PolicyfsError
from policyfs.store.kept.bins import UNDO, Kept, find
from policyfs.store.kept.record import Record
from policyfs.store.kept.room import drop
from policyfs.store.kept.undo import restored
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.table import sheet, shown, shown_path, table
from policyfs.trail.query.query import parse_when
from policyfs.trail.text.render import local_time

_LISTED: Final = frozenset({"unlink", "replace", "write"})
_WORDS: Final = {"unlink": "removed", "replace": "replaced", "write": "overwritten"}


class _Listed(NamedTuple):
    kept: Kept
    record: Record

    @property
    def path(self) -> bytes:
        return self.record.new or self.record.path


def add_kept(parser: argparse.ArgumentParser, _words: Sequence[str] = ()) -> None:
    """Add the actions of ``policyfs kept``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("where", metavar="STORE", help="the store, or a mount of it")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("--app", metavar="NAME", help="only what this app (or stranger) has lost")
    some.add_argument("--since", metavar="TIME", help="only what was lost since this time: 2h, today")
    some.add_argument("--paths", action="append", metavar="GLOB", help="only at these paths")
    list_ = actions.add_parser("list", parents=[common, some], help="list what is kept, the oldest first")
    list_.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    list_.set_defaults(run=_guarded(_list))
    show = actions.add_parser("show", parents=[common], help="print the record of one kept object")
    show.add_argument("id", metavar="ID", help="the ID that list prints")
    show.set_defaults(run=_guarded(_show))
    restore = actions.add_parser(
        "restore", parents=[common], help="copy one kept file to its path, if that is free, or to a new file",
    )  # fmt: skip
    restore.add_argument("--to", metavar="FILE", help="write to the new file FILE instead")
    restore.add_argument("id", metavar="ID")
    restore.set_defaults(run=_guarded(_restore))
    drop_ = actions.add_parser("drop", parents=[common, some], help="remove kept objects for ever")
    drop_.add_argument("ids", nargs="*", metavar="ID")
    drop_.set_defaults(run=_guarded(_drop))


def _guarded(action: Callable[[argparse.Namespace, Store], int]) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        with opened(args.where) as store:
            try:
                return action(args, store)
            except ValueError as error:
                raise PolicyfsError(str(error)) from error
            except OSError as error:
                told = f"{shown(str(error.filename))}: " if error.filename else ""
                raise PolicyfsError(f"{told}{error.strerror}") from error

    return run


def _chosen(args: argparse.Namespace, store: Store) -> Iterator[_Listed]:
    from datetime import UTC, datetime

    since_ns = parse_when(args.since, datetime.now(UTC)) if args.since else 0
    is_wanted = choice_of(args.paths)
    for machine in store.bins.machines():
        apps = [app for app in store.bins.apps(machine) if args.app in {None, app}]
        for app in apps:
            for day, one in store.bins.records(app, since_ns, machine=machine):
                if not one.kept or one.op not in _LISTED:
                    continue
                found = _Listed(Kept(machine, app, day, one.kept), one)
                if is_wanted(found.path) and store.bins.is_there(found.kept):
                    yield found


def _list(args: argparse.Namespace, store: Store) -> int:
    found = sorted(_chosen(args, store), key=lambda one: one.record.time_ns)
    if args.json:
        for one in found:
            print(json.dumps(_fields(one)))
        return EXIT_OK
    if not found:
        print("nothing is kept")
        return EXIT_OK
    rows = [
        (
            one.kept.name, local_time(one.record.time_ns, None), _app(one.kept), _WORDS[one.record.op],
            f"{one.record.before.size if one.record.before else 0:,}", shown_path(one.path),
        )
        for one in found
    ]  # fmt: skip
    print("\n".join(table(("ID", "TIME", "APP", "WHAT", "BYTES", "PATH"), rows, right=frozenset({4}))))
    return EXIT_OK


def _app(kept: Kept) -> str:
    return "undo" if kept.app == UNDO else shown(kept.app)


def _fields(one: _Listed) -> dict[str, object]:
    before = one.record.before
    return {
        "id": one.kept.name, "time": iso_time(one.record.time_ns), "app": one.kept.app,
        "what": _WORDS.get(one.record.op, one.record.op), "path": shown_path(one.path),
        "until": iso_time(one.record.until_s * 10**9), "machine": one.kept.machine,
        "uid": one.record.uid, "pid": one.record.pid,
        **({} if before is None else {
            "size": before.size, "mode": f"{before.mode & 0o7777:o}", "owner": before.uid,
            "group": before.gid, "mtime": iso_time(before.mtime_ns),
        }),
    }  # fmt: skip


def _show(args: argparse.Namespace, store: Store) -> int:
    one = _Listed(*find(store.bins, args.id))
    print("\n".join(sheet([(name, shown(str(value))) for name, value in _fields(one).items()])))
    return EXIT_OK


def _restore(args: argparse.Namespace, store: Store) -> int:
    one = _Listed(*find(store.bins, args.id))
    _on_record(store, "restore", one.kept.app, one.path)
    try:
        where = restored(store.tree, store.bins, one.kept, one.record, one.path, args.to)
    except FileExistsError:
        raise PolicyfsError(
            f"{shown(args.to or shown_path(one.path))} exists already, and restore never overwrites a file:"
            " use --to FILE, or `policyfs undo`"
        ) from None
    except FileNotFoundError as error:
        raise PolicyfsError("its directory is not there any more: use --to FILE") from error
    print(f"{shown(one.kept.name)} is {shown(where)} now")
    return EXIT_OK


def _drop(args: argparse.Namespace, store: Store) -> int:
    if not args.ids and not (args.paths or args.app or args.since):
        raise PolicyfsError("name what to drop: IDs, or --paths, --app or --since")
    if args.ids:
        found = [_Listed(*find(store.bins, name)) for name in dict.fromkeys(args.ids)]
    else:
        found = list(_chosen(args, store))
    mine = [one for one in found if one.kept.machine == store.bins.machine]
    if len(mine) < len(found):
        raise PolicyfsError("another machine keeps some of these: drop them there")
    for app, number in Counter(one.kept.app for one in mine).items():
        _on_record(store, "drop", app, mine[0].path if number == 1 else b"")
    for one in mine:
        drop(store.bins, one.kept.app, one.kept.day, one.kept.name, "dropped by a command")
    print(f"{len(mine):,} dropped")
    return EXIT_OK


def _on_record(store: Store, done: str, app: str, path: bytes) -> None:
    fields: dict[str, object] = {"done": done, "app": app, "store": store.path}
    if path:
        fields["path"] = shown_path(path)
    store.tell(f"policyfs kept {done}", fields)
