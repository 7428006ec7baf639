"""Checks of one store: its file system, its mode, the place of the trail, and passthrough for its files."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import existing
from policyfs.cli.machine.findings import Finding, State
from policyfs.linux.mountinfo import fuse_mounts_below
from policyfs.store.facts import StoreFacts
from policyfs.store.names.aside_names import KEPT, is_aside
from policyfs.store.pool import Pool
from policyfs.store.store_record import MARKER
from policyfs.store.trial import ROWS, probe

_NAMED: Final = 20
"""The maximum number of files with a name policyfs-aside-... that findings name."""
_SHOWN: Final = 200
"""The maximum number of characters of a directory's path in a finding. (The finding is about a directory that
cannot be searched.)"""
_UNSEARCHED_TODO: Final = "search these directories for names that begin with policyfs-aside-"
_ASIDE_TODO: Final = (
    "mount the store again: policyfs then removes what a killed daemon was making. If this line stays, remove"
    " an empty directory, a symlink or a special file. If it is a file with content, an earlier version of"
    " policyfs was killed while it removed or renamed the file: give the file its name back, or remove it"
)


def check_trail_place(root: str, store: str) -> Finding:
    """Check that the trail is on another file system than the store. Otherwise apps could fill this file
    system, and then no more events could be recorded. root: the trail root (the directory of all trails)."""
    try:
        same = existing(root).stat().st_dev == Path(store).stat().st_dev
    except OSError as error:
        return Finding("trail place", State.OFF, f"cannot be checked: {error.strerror}", "see `store`")
    if same:
        what = f"{root} is on the store's file system: if apps fill this file system, the trail has no room"
        todo = "with --trail DIR, choose a directory on another file system, or mount a file system there"
        return Finding("trail place", State.OFF, what, todo)
    return Finding("trail place", State.OK, "the trail has a file system of its own")


def check_passthrough(store: str | None) -> Iterator[Finding]:
    """Make a mount. Test passthrough with a file of the store (without a store: in memory), and find whether
    the kernel allows idmapped mounts."""
    from policyfs.kernel.protocol import InitFlag
    from policyfs.kernel.session import MountError
    from policyfs.kernel.trial import try_passthrough

    subject = f"files of {store}" if store else "copies in memory"
    slow = "reads and writes go through the daemon"
    try:
        trial = try_passthrough(store)
    except MountError as error:
        yield Finding("passthrough", State.BAD, f"the trial mount failed: {error}", "see above")
        return
    except OSError as error:
        what = f"could not be tried in {store}: {error.strerror}"
        yield Finding("passthrough", State.SLOW, what, "see `policyfs status` when the store is mounted")
        return
    if trial.backing is not None:
        todo = "use a store that is not an overlay, and Linux 6.9 or newer as root"
        yield Finding("passthrough", State.SLOW, f"not for {subject}: {trial.backing.reason}; {slow}", todo)
    else:
        yield Finding("passthrough", State.OK, f"for {subject}; FUSE protocol 7.{trial.minor}")
    if InitFlag.ALLOW_IDMAP in trial.offered:
        what = "for mounts with --idmap; an idmapped bind of any other mount fails (EINVAL)"
        yield Finding("idmapped mounts", State.OK, what)
    else:
        what = "not with this kernel: an idmapped bind of a mount (unprivileged LXC) fails (EINVAL)"
        yield Finding("idmapped mounts", State.OFF, what, "use Linux 6.12 or newer")


def check_store(facts: StoreFacts, store: str) -> Iterator[Finding]:
    """Find each feature of the store's file system. facts: the features that a test has found."""
    if facts.read_only:
        todo = "if apps must write, mount the file system writable"
        yield Finding("store", State.OFF, f"{store} ({facts.name}) is read-only: writes end in EROFS", todo)
    else:
        yield Finding("store", State.OK, f"{store} is {facts.name}")
        yield _new_files(facts)
    rows = (
        ("reflink", facts.reflink, "redacted copies cost nothing at any size", State.SLOW,
         "redacted copies are made in memory, up to a size; larger files need a lease",
         "use xfs or btrfs"),
        ("leases", facts.leases or facts.delegates, "large files are redacted under a lease"
         + (", if the server grants a delegation" if facts.delegates else ""), State.OFF,
         "apps cannot open large files under redaction", "use a local ext4, xfs or btrfs store"),
        ("trusted xattrs", facts.trusted_xattr, "owners are kept on the files",
         State.SLOW if facts.owners_in_database else State.OFF,
         "owners are kept in a database in the trail root" if facts.owners_in_database else
         "no file has an owner: rules with `owner: self` allow nothing", "use ext4, xfs or btrfs"),
        ("user xattrs", facts.user_xattr, "apps may keep user.* attributes", State.OFF,
         "apps get EOPNOTSUPP for user.* attributes", "use ext4, xfs or btrfs"),
        ("fanotify", facts.fanotify, "the mount shows changes from elsewhere at once", State.SLOW,
         "the mount shows changes from elsewhere after a second, and the kernel caches less",
         "use a kernel with CONFIG_FANOTIFY, and a local file system"),
        ("case", not facts.casefold, "the case of names matters", State.BAD,
         "the case of names is ignored, so an app could bypass rules: `policyfs mount` refuses this store",
         "use a directory without casefold (chattr -F)"),
    )  # fmt: skip
    for name, fine, good, state, missing, todo in rows:
        yield Finding(name, State.OK, good) if fine else Finding(name, state, missing, todo)
    yield from _tried_features(facts, {row[0] for row in rows})


def _tried_features(facts: StoreFacts, told: set[str]) -> Iterator[Finding]:
    """Find what the trial has shown of the features that are not *told* yet."""
    if not facts.tried:
        what = "not tried, and so not used: the store is full, read-only or closed to new names"
        yield Finding("trial", State.SLOW, what, "make room in the store, then mount it again")
        return
    for row in ROWS:
        if row.name not in told and getattr(facts, row.field):
            yield Finding(row.name, State.OK, f"for {row.used}")
        elif row.name not in told:
            state = State.SLOW if facts.keeps else State.BAD
            yield Finding(row.name, state, f"not kept by the store: {row.without}", "use another store")


def _new_files(facts: StoreFacts) -> Finding:
    if facts.squashes_root:
        what = f"the server gives root the rights of uid {facts.root_as} (root_squash)"
        todo = "export the store with no_root_squash; or with all_squash, if all files may belong to one user"
        lost = "apps cannot open files that this user may not open, such as their own"
        return Finding("new files", State.BAD, f"{what}: {lost}", todo)
    if facts.one_owner:
        what = f"they belong to uid {facts.root_as}, whichever app makes them"
        todo = "if users need files of their own, let the server treat root as root (NFS: no_root_squash)"
        return Finding("new files", State.OFF, what, todo)
    made = "made by root, then given to the app" if facts.checks_callers else "made as the app"
    return Finding("new files", State.OK, f"they are {made}")


def check_closed(store: str) -> Finding:
    """Check that apps cannot reach the store by its path. The mode of the store, or of a directory above it,
    must keep apps out."""
    top = Path(store).resolve()
    for where in (top, *top.parents):
        found = where.stat()
        if found.st_uid in {0, os.geteuid()} and not found.st_mode & (0o077 if where == top else 0o011):
            return Finding("store mode", State.OK, f"{where} is closed to apps")
    mode, owner = top.stat().st_mode & 0o7777, top.stat().st_uid
    return Finding(
        "store mode",
        State.OFF,
        f"users other than root can reach {store} (mode {mode:04o}, uid {owner}): apps can bypass the mount",
        f"chown root: {store}; chmod 700 {store}",
    )


def check_left_aside(store: str) -> Iterator[Finding]:
    """Search the whole store for files with a name that no app can see (policyfs-aside-...). Yield findings.

    A daemon gives a new object such a name until the object has an owner. FUSE file systems mounted inside
    the store are not searched: their daemons may hang.
    """
    top = os.fsencode(os.path.realpath(store))
    others = fuse_mounts_below(top)
    found: list[bytes] = []
    errors: list[OSError] = []
    left_to_do = [top]
    while left_to_do:  # os.walk of Python 3.11 calls itself, and fails in a tree of 1,000 levels
        at = left_to_do.pop()
        try:
            with os.scandir(at) as entries:
                for entry in entries:
                    if is_aside(entry.name) and not entry.name.startswith(os.fsencode(MARKER)):
                        found.append(entry.path)
                    if entry.name == KEPT:  # what apps have lost, by any name
                        continue
                    if entry.is_dir(follow_symlinks=False) and entry.path not in others:
                        left_to_do.append(entry.path)
        except OSError as error:
            errors.append(OSError(error.errno, error.strerror, at))
    # A running daemon uses such a name only for a moment, so its names are gone by now.
    left = [os.fsdecode(path) for path in found if os.path.lexists(path)]
    for path in left[:_NAMED]:
        what = f"no app sees {path!r}: a killed daemon left an object with this temporary name"
        yield Finding("names aside", State.OFF, what, _ASIDE_TODO)
    if len(left) > _NAMED:
        yield Finding("names aside", State.OFF, f"and {len(left) - _NAMED} more such files", _ASIDE_TODO)
    unsearched = [error for error in errors if error.errno != errno.ENOENT]  # ENOENT: just removed
    if unsearched:
        where, why = os.fsdecode(unsearched[0].filename), unsearched[0].strerror
        where = where if len(where) <= _SHOWN else where[:_SHOWN] + "..."
        what = f"{len(unsearched)} directories cannot be searched; the first is {where!r} ({why})"
        yield Finding("names aside", State.OFF, what, _UNSEARCHED_TODO)
    elif not left:
        yield Finding("names aside", State.OK, "no file has a name that no app sees")


def probe_store(store: str) -> Iterator[Finding]:
    """Yield the findings on the store's mode and file system. If the store cannot be opened, yield one
    finding."""
    try:
        fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        todo = "name the directory with the media"
        if error.errno == errno.EACCES and os.geteuid() == 0:
            todo = "let root read it on the server that has the store (NFS: no_root_squash)"
        yield Finding("store", State.BAD, f"{store}: {error.strerror}", todo)
        return
    try:
        yield check_closed(store)
        facts, pool = probe(fd), Pool.of(fd)
        if pool is not None:
            with contextlib.closing(pool):
                facts = replace(facts, leases=pool.leases_mean())
        yield from check_store(facts, store)
    finally:
        os.close(fd)
