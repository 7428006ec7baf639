"""`policyfs owner`: show, set, export and import the owners of a store's files, without a mount."""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import record, starter, trail_root
from policyfs.cli.common.output import private_file
from policyfs.cli.owners.owner_list import Owned, checked_owner, names_of, read, written
from policyfs.daemon.control import control
from policyfs.domain import OWNER_NONE, FileType
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.linux.leases import writers_seen
from policyfs.linux.statx import Stat
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from policyfs.trail.lines.table import shown, shown_path

_DATABASE: Final = "owners.sqlite"
_CLOSING_S: Final = 1.0
"""The longest wait, in seconds, until no program has the file open for writing. A mount closes a file some
time after the app's close(2)."""
_BUSY: Final = "a program has this file open for writing. End the program, then set the owner again"
_TAKEN: Final = (
    "a program has just opened this file for writing, so nobody owns the file now. End the program, then set"
    " the owner again"
)


def add_owner(parser: argparse.ArgumentParser, _words: Sequence[str] = ()) -> None:
    """Add the actions of `policyfs owner`."""
    common = argparse.ArgumentParser(add_help=False)
    help_ = "trail root (default: $POLICYFS_TRAIL_DIR or /var/log/policyfs)"
    common.add_argument("--trail", metavar="DIR", help=help_)
    common.add_argument("store", metavar="STORE")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    every = "also everything below a directory"

    show = actions.add_parser("show", parents=[common], help="print the owners of files")
    show.add_argument("-r", "--recursive", action="store_true", help=every)
    help_ = "a path from the top of the store, such as /DCIM/a.jpg"
    show.add_argument("paths", nargs="+", metavar="PATH", help=help_)
    show.set_defaults(run=_command(_show), lists=True)

    set_ = actions.add_parser("set", parents=[common], help="make an app the owner of files")
    set_.add_argument("-r", "--recursive", action="store_true", help=every)
    set_.add_argument("-n", "--dry-run", action="store_true", help="print the changes, and make none")
    set_.add_argument("app", metavar="APP", help="the name of an app, or none")
    set_.add_argument("paths", nargs="+", metavar="PATH")
    set_.set_defaults(run=set_owner)

    export = actions.add_parser("export", parents=[common], help="write a list of all owners")
    export.add_argument("file", nargs="?", metavar="FILE", help="the list (default: standard output)")
    export.set_defaults(run=_command(_export), lists=True)

    import_ = actions.add_parser("import", parents=[common], help="set owners from a list")
    import_.add_argument("-n", "--dry-run", action="store_true", help="print the changes, and make none")
    help_ = "a list of `policyfs owner export`; - for standard input"
    import_.add_argument("file", metavar="FILE", help=help_)
    import_.set_defaults(run=_command(_import))


@dataclass(frozen=True, slots=True)
class _Store:
    """An open store and its owners. faulty: the paths of objects about which an error was reported."""

    path: str
    trail: Path
    tree: Tree
    owners: Owners
    leases: bool
    faulty: set[tuple[bytes, ...]] = field(default_factory=set)

    @property
    def code(self) -> int:
        return EXIT_REFUSED if self.faulty else EXIT_OK

    @contextlib.contextmanager
    def opened(self, names: Sequence[bytes]) -> Iterator[tuple[int, FileType]]:
        """Open the object at a path of the store, never through a symlink. Yield its descriptor and type.
        names: the names of the path, from the top of the store down."""
        with contextlib.ExitStack() as stack:
            at = self.tree.root_fd
            if len(names) > 1:
                at = self.tree.open_below(at, names[:-1])
                stack.callback(os.close, at)
            if names:
                at = self.tree.open_path(at, names[-1])
                stack.callback(os.close, at)
            yield at, self.tree.fstat(at).ftype

    def owner(self, fd: int) -> str:
        """Return the owner (the name of an app, or ``none``) of an open object."""
        return self.owners.get(fd, self.tree.fstat(fd))

    def give(self, fd: int, ftype: FileType, owner: str) -> None:
        """Make *owner* the owner of an open object. Raise OSError (EBUSY) if a program has the file open for
        writing: the bytes that this program writes would then count as bytes of *owner*. On a store without
        leases, make no check.

        INVARIANT: after the owner is set, look for writers again. If a program has opened the file for
        writing meanwhile, set the owner to ``none``. If another app opens the file for writing later, the
        mount of this app sets the owner to ``none``: a mount reads the owner only after it has opened the
        file for writing (fs/opening/write_access.py).
        """
        stat = self.tree.fstat(fd)
        if ftype is not FileType.REGULAR or owner == OWNER_NONE or not self.leases:
            self.owners.set(fd, stat, owner)
            return
        until = time.monotonic() + _CLOSING_S
        while not self._give_unwritten(fd, stat, owner):
            if time.monotonic() >= until:
                raise OSError(errno.EBUSY, _BUSY)
            time.sleep(0.02)

    def _give_unwritten(self, fd: int, stat: Stat, owner: str) -> bool:
        """Make *owner* the owner of a file. Return False if a program has the file open for writing. Raise
        OSError (EBUSY) if a program has opened the file meanwhile: then nobody owns the file any more."""
        try:
            file = self.tree.reopen(fd, os.O_RDONLY | os.O_NONBLOCK)
        except BlockingIOError:  # another program has a write lease, and must give it up first
            return False
        try:
            with writers_seen(file) as written:
                if written():
                    return False
                self.owners.set(fd, stat, owner)
                if not written():
                    return True
                self.owners.set(fd, stat, OWNER_NONE)
        finally:
            os.close(file)
        raise OSError(errno.EBUSY, _TAKEN)

    def below(self, names: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
        """Yield a path of the store and every path below it. The names of each directory are sorted."""
        todo = [names]
        while todo:
            names = todo.pop()
            yield names
            try:
                with self.opened(names) as (fd, ftype):
                    if ftype is FileType.DIRECTORY:
                        found = os.listdir(f"/proc/self/fd/{fd}".encode())
                        todo += [(*names, name) for name in sorted(found, reverse=True)]
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as error:
                self.complain(names, error)

    def complain(self, names: tuple[bytes, ...], error: OSError) -> None:
        """Report the error of the object at a path of the store, once for each object."""
        if names in self.faulty:
            return
        self.faulty.add(names)
        why = (
            "a part of the path is a symlink, or not a directory"
            if error.errno in {errno.ELOOP, errno.ENOTDIR}
            else error.strerror or error
        )
        print(f"policyfs: {shown_path(_path(names))}: {why}", file=sys.stderr)


def _command(action: Callable[[argparse.Namespace, _Store], int]) -> Callable[[argparse.Namespace], int]:
    """Return a function that opens the store, and calls *action* with the arguments and the store."""

    def run(args: argparse.Namespace) -> int:
        if os.geteuid() != 0:
            raise PolicyfsError("reading or setting owners needs root; run this command with sudo")
        try:
            tree = Tree.open(os.path.realpath(args.store))
        except OSError as error:
            raise PolicyfsError(f"cannot open the store {args.store}: {error.strerror}") from error
        trail = Path(trail_root(args.trail)).absolute()
        with tree:
            facts = probe(tree.root_fd)
            database = trail / _DATABASE if facts.owners_in_database else None
            if database is not None and not trail.is_dir():
                raise PolicyfsError(
                    f"the trail root {trail} does not exist. It should hold the database of owners of this"
                    " store. Name the trail root of the store's mounts with --trail"
                )
            owners = Owners(facts.trusted_xattr, None if database is None else str(database))
            try:
                if owners.how == "nowhere":
                    raise PolicyfsError(f"the file system of {args.store} ({facts.name}) cannot keep owners")
                return action(args, _Store(os.path.realpath(args.store), trail, tree, owners, facts.leases))
            finally:
                owners.close()

    return run


def _paths(args: argparse.Namespace, store: _Store) -> Iterator[tuple[bytes, ...]]:
    """Return the paths of the command, all checked before the first is used; those below, too."""
    asked = []
    for path in args.paths:
        try:
            asked.append(names_of(os.fsencode(path)))
        except ValueError as error:
            raise UsageError(f"{path!r}: {error}") from error
    return itertools.chain.from_iterable(map(store.below, asked)) if args.recursive else iter(asked)


def _show(args: argparse.Namespace, store: _Store) -> int:
    for names in _paths(args, store):
        try:
            with store.opened(names) as (fd, _):
                owner = store.owner(fd)
        except OSError as error:
            store.complain(names, error)
        else:
            print(f"{shown(owner)}\t{shown_path(_path(names))}")
    return store.code


def _set(args: argparse.Namespace, store: _Store) -> int:
    try:
        owner = checked_owner(args.app)
    except ValueError as error:
        raise UsageError(f"{args.app!r}: {error}") from error
    return _change(args, store, ((names, None, owner) for names in _paths(args, store)), "set")


set_owner: Final = _command(_set)
"""Run `policyfs owner set`. Return the exit code. Raises PolicyfsError."""


def _export(args: argparse.Namespace, store: _Store) -> int:
    lines = written(_owned(store))
    if args.file is None:
        sys.stdout.writelines(lines)
        return store.code
    try:
        with private_file(args.file) as file:
            file.writelines(lines)
            if store.faulty:
                raise PolicyfsError(f"{args.file} was not written: the list would not be complete")
    except OSError as error:
        raise PolicyfsError(f"cannot write {args.file}: {error.strerror or error}") from error
    return EXIT_OK


def _owned(store: _Store) -> Iterator[Owned]:
    for names in store.below(()):
        try:
            with store.opened(names) as (fd, ftype):
                owner = OWNER_NONE if ftype is FileType.SPECIAL else store.owner(fd)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            store.complain(names, error)
            continue
        if owner != OWNER_NONE:
            yield Owned(names, ftype, owner)


def _import(args: argparse.Namespace, store: _Store) -> int:
    try:
        lines = (
            sys.stdin.buffer.readlines() if args.file == "-" else Path(args.file).read_bytes().splitlines()
        )
    except OSError as error:
        raise PolicyfsError(f"cannot read {args.file}: {error.strerror}") from error
    found = read(lines, args.file)
    return _change(args, store, ((one.names, one.ftype, one.owner) for one in found), "import")


def _change(
    args: argparse.Namespace,
    store: _Store,
    wanted: Iterator[tuple[tuple[bytes, ...], FileType | None, str]],
    done: str,
) -> int:
    """Set the owner of each given file, and print each change. With --dry-run, only print."""
    changed = 0
    if not args.dry_run:
        _on_record(store, done)
    for names, expected, owner in wanted:
        try:
            with store.opened(names) as (fd, ftype):
                if ftype is FileType.SPECIAL:
                    raise OSError(errno.EINVAL, "fifos, sockets and devices cannot have an owner")
                if expected is not None and expected is not ftype:
                    told = f"its type in the list is {expected.value}, but in the store it is {ftype.value}"
                    raise OSError(errno.EINVAL, told)
                before = store.owner(fd)
                if before == owner:
                    continue
                if not args.dry_run:
                    store.give(fd, ftype, owner)
        except OSError as error:
            store.complain(names, error)
            continue
        changed += 1
        print(f"{shown_path(_path(names))}: {shown(before)} -> {shown(owner)}")
    noun = "owner" if changed == 1 else "owners"
    print(f"{changed} {noun} {'would change' if args.dry_run else 'changed'}", file=sys.stderr)
    return store.code


def _on_record(store: _Store, done: str) -> None:
    """Write on the trail, if there is a trail root, that owners will be changed."""
    if store.trail.is_dir():
        by = starter(f"policyfs owner {done}")
        fields = {"done": done, "store": store.path, **by}
        chain = control.mount_id(store.path)
        record(store.trail, chain, "owners", fields, end=by)


def _path(names: Sequence[bytes]) -> bytes:
    return b"/" + b"/".join(names)
