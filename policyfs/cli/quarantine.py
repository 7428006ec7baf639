"""`policyfs quarantine`: files that policyfs refused and kept, because a rule has `on_refused: quarantine`.

The command works without a running mount. `release` without `--to` needs the store. `release` and `drop`
write on the trail. docs/operations.md is the manual of the command.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.audit.command import add_trail_option
from policyfs.cli.common.colour import print_error
from policyfs.cli.common.on_record import record, starter
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.store.quarantine import NAME, About, Entry, Quarantine, WrongEntryError, release
from policyfs.store.tree import Tree
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.table import sheet, shown, shown_path, table
from policyfs.trail.text.render import local_time

_RECORDED: Final = ("id", "app", "path", "path_b64", "mount", "store", "kind", "size", "sha256")
"""The names of the fields that describe the file, in the trail's record of a release or drop of this file."""
_TAKEN: Final = (
    "exists already, and release never overwrites a file: move that file away, or release with --to FILE"
)


def add_quarantine(parser: argparse.ArgumentParser, _words: Sequence[str] = ()) -> None:
    """Add the actions of ``policyfs quarantine``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    add_trail_option(common)
    add = actions.add_parser
    list_ = add("list", parents=[common], help="list the kept files, the oldest first")
    list_.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    list_.add_argument("--app", metavar="NAME", help="only files of this app, or of stranger")
    list_.set_defaults(run=_guarded(_list))
    show = add("show", parents=[common], help="print everything about one file except its bytes")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.add_argument("id", metavar="ID", help="the ID that list prints")
    show.set_defaults(run=_guarded(_show))
    release_ = add(
        "release", parents=[common], help="store a file although a rule refused it",
        description="Puts a file into the store under its intended name, and removes it from the quarantine."
        " An existing file is never overwritten.",
    )  # fmt: skip
    release_.add_argument("--to", metavar="FILE", help="write to the new file FILE instead, for root only")
    release_.add_argument("id", metavar="ID")
    release_.set_defaults(run=_guarded(_release))
    drop = add("drop", parents=[common], help="delete files from the quarantine")
    drop.add_argument("ids", nargs="+", metavar="ID")
    drop.set_defaults(run=_guarded(_drop))


def _guarded(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        try:
            return action(args)
        except PermissionError as error:
            raise PolicyfsError(
                f"cannot read the quarantine below {args.trail}: only root may read it"
            ) from error
        except (OSError, WrongEntryError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise PolicyfsError(f"cannot use the quarantine below {args.trail}: {reason}") from error

    return run


def _places(root: str) -> list[Quarantine]:
    """Return the quarantine (directory of refused files) of each mount below a trail root."""
    path = Path(root)
    if not path.is_dir():
        raise PolicyfsError(f"there is no trail at {root}; name its directory with --trail")
    found = [path, *sorted(each for each in path.iterdir() if each.is_dir() and each.name != NAME)]
    return [Quarantine(each / NAME) for each in found if (each / NAME).is_dir()]


def _find(root: str, name: str) -> tuple[Quarantine, Entry]:
    found = [(place, entry) for place in _places(root) for entry in place.entries() if entry.id == name]
    if not found:
        raise PolicyfsError(f"no refused file {name!r} is kept below {root}: see `policyfs quarantine list`")
    if len(found) > 1:
        raise PolicyfsError(
            f"several mounts keep a file {name}: name the trail directory of one of them, a directory below"
            f" {root}, with --trail"
        )
    return found[0]


def _whole(entry: Entry) -> About:
    if entry.about is None:
        raise PolicyfsError(f"{entry.id} is incomplete ({entry.why}): you can only drop this file")
    return entry.about


def _as_json(entry: Entry) -> str:
    if entry.about is None:
        return json.dumps({"id": entry.id, "app": entry.app, "incomplete": entry.why})
    fields = json.loads(entry.about.packed())
    del fields["format"]
    return json.dumps({"id": entry.id, "time": iso_time(entry.about.time_ns)} | fields)


def _list(args: argparse.Namespace) -> int:
    entries = [entry for place in _places(args.trail) for entry in place.entries()]
    if args.app is not None:
        entries = [entry for entry in entries if entry.app == args.app]
    if args.json:
        for entry in entries:
            print(_as_json(entry))
        return EXIT_OK
    if not entries:
        print("no refused file is kept")
        return EXIT_OK
    rows = [_row(entry) for entry in entries]
    print("\n".join(table(("ID", "TIME", "APP", "BYTES", "KIND", "PATH"), rows, right=frozenset({3}))))
    return EXIT_OK


def _row(entry: Entry) -> tuple[str, ...]:
    about = entry.about
    if about is None:
        return entry.id, "", shown(entry.app), "", "", f"incomplete: {shown(entry.why)}"
    when, kind = local_time(about.time_ns, None), shown(about.kind or "unknown")
    return entry.id, when, shown(about.app), f"{about.size:,}", kind, shown_path(about.path)


def _show(args: argparse.Namespace) -> int:
    _, entry = _find(args.trail, args.id)
    about = _whole(entry)
    if args.json:
        print(_as_json(entry))
        return EXIT_OK
    rows = [
        ("id", entry.id),
        ("refused", iso_time(about.time_ns)),
        ("path", shown_path(about.path)),
        ("mount", shown(about.mount)),
        ("store", shown(about.store)),
        ("app", f"{about.app} (uid {about.uid}, gid {about.gid}, pid {about.pid})"),
        ("kind", shown(about.kind or "unknown")),
        ("size", f"{about.size:,} bytes"),
        ("mode", f"{about.mode:o}"),
        ("sha256", shown(about.sha256)),
        ("rules", shown(", ".join(about.rules))),
        ("reason", shown(about.reason)),
        ("bytes", shown(str(entry.directory / "bytes"))),
    ]
    print("\n".join(sheet(rows)))
    return EXIT_OK


def _record(place: Quarantine, entry: Entry, done: str, to: str = "") -> None:
    """Write on the trail that a file is released or dropped. The action follows."""
    directory = Path(os.path.abspath(place.directory)).parent
    told = {"id": entry.id, "app": entry.app} if entry.about is None else json.loads(_as_json(entry))
    fields = {"done": done, **{name: told[name] for name in _RECORDED if name in told}}
    if to:
        fields["to"] = to
    how = f"policyfs quarantine {done}"
    record(directory.parent, directory.name, "quarantine", fields | starter(how), end=starter(how))


def _release(args: argparse.Namespace) -> int:
    place, entry = _find(args.trail, args.id)
    about = _whole(entry)
    source = place.open(entry)
    try:
        _record(place, entry, "release", "" if args.to is None else os.path.abspath(args.to))
        if args.to is None:
            where = _into_store(entry, about, source)
        else:
            where = _to_file(entry, source, os.path.abspath(args.to))
    finally:
        os.close(source)
    place.drop(entry)
    print(f"{entry.id} is {shown(where)} now")
    return EXIT_OK


def _into_store(entry: Entry, about: About, source: int) -> str:
    """Copy a refused file to its intended path in the store, through no symlink. Return the path."""
    *above, name = about.path.lstrip(b"/").split(b"/")
    where = os.path.join(about.store, os.fsdecode(about.path.lstrip(b"/")))
    try:
        with Tree.open(about.store) as tree:
            # An entry of an older version lacks the identity of the store. Then an empty directory counts as
            # a store that is not mounted.
            if tree.identity() != about.root if about.root else not os.listdir(about.store):
                raise PolicyfsError(
                    f"{shown(about.store)}: the store is not mounted, or it is another store: mount it, or"
                    " release with --to FILE"
                )
            dirfd = tree.open_below(tree.root_fd, above) if above else os.dup(tree.root_fd)
            try:
                release(entry, source, dirfd, name, as_was=True)
            finally:
                os.close(dirfd)
    except OSError as error:
        raise _told(error, where) from error
    return where


def _to_file(entry: Entry, source: int, where: str) -> str:
    try:
        dirfd = os.open(os.path.dirname(where), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            release(entry, source, dirfd, os.fsencode(os.path.basename(where)), as_was=False)
        finally:
            os.close(dirfd)
    except OSError as error:
        raise _told(error, where) from error
    return where


def _told(error: OSError, where: str) -> PolicyfsError:
    shown_where = shown(where)
    if error.errno == errno.EEXIST:
        return PolicyfsError(f"{shown_where} {_TAKEN}")
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return PolicyfsError(
            f"{shown_where}: its directory does not exist any more; create the directory, or release with"
            " --to FILE"
        )
    return PolicyfsError(
        f"{shown_where} cannot be written: {error.strerror}; the file stays in the quarantine"
    )


def _drop(args: argparse.Namespace) -> int:
    code = EXIT_OK
    for name in dict.fromkeys(args.ids):
        try:
            place, entry = _find(args.trail, name)
            _record(place, entry, "drop")
            place.drop(entry)
        except BlockingIOError:
            print(f"policyfs: {shown(name)} is still being copied: try again in a moment", file=sys.stderr)
            code = EXIT_REFUSED
        except FileNotFoundError:
            print(f"policyfs: {shown(name)} was removed meanwhile", file=sys.stderr)
            code = EXIT_REFUSED
        except PolicyfsError as error:
            print_error(error)
            code = EXIT_REFUSED
        else:
            print(f"{shown(name)} is dropped")
    return code
