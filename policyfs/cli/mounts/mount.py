"""The command `policyfs mount`: it checks the request, and starts the daemon of the mount."""

from __future__ import annotations

import argparse
import errno
import os
import pwd
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policyfs.cli.common.mountpoint_way import check_way
from policyfs.cli.common.on_record import trail_root
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.quantities import age, count, identity, number, segment_size, size
from policyfs.cli.machine.findings import State
from policyfs.cli.machine.store_checks import check_closed
from policyfs.cli.mounts.serve import fork_daemon, serve_here
from policyfs.cli.mounts.start import Start
from policyfs.content.workers.policy_parser import parse_apart
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.fs.path_bounds import default_nodes
from policyfs.journal.files.directories import key_directory
from policyfs.linux.memory import usable_bytes
from policyfs.linux.service_manager import ServiceManager, is_journal
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import in_force
from policyfs.policy.lint.modes import apps_with_modes
from policyfs.policy.model import App, Modes, Policy
from policyfs.policy.rules.callers import named_uids
from policyfs.policy.text.sources import SourceText
from policyfs.store.facts import is_lasting
from policyfs.store.store_record import StoreAbsentError, check_store
from policyfs.trail.lines.table import shown

if TYPE_CHECKING:
    from policyfs.content.workers.execution import ForkedLauncher
    from policyfs.daemon.options import MountOptions
    from policyfs.daemon.policies.policies import Loader
    from policyfs.journal.files.retention import Retention

MOUNTS: Final = "POLICYFS_MOUNTS"
"""The variable with the number of the mounts of a site, which share the memory for nodes."""
_STORE_PAUSE_S: Final = 1.0


def add_mount(parser: argparse.ArgumentParser) -> None:
    parser.description = "Mount STORE on MOUNTPOINT."
    add = parser.add_argument
    add("--app", metavar="NAME", help="make an app mount: every caller is this app")
    add("--any-uid", action="store_true", help="with --app: admit every uid (for a container of the app)")
    idmap_help = "allow idmapped binds of the mount, as for unprivileged LXC; the trail then has no uids"
    add("--idmap", action="store_true", help=idmap_help)
    add_options(parser)
    keeper_help = "another daemon takes over if this one is killed (default on a local store)"
    add("--keeper", action=argparse.BooleanOptionalAction, help=keeper_help)
    follow_help = "take over from the daemon at MOUNTPOINT: an upgrade without an unmount"
    add("--follow", action="store_true", help=follow_help)
    add("--foreground", action="store_true", help="stay in the foreground, log to standard error")
    add("--log", metavar="FILE", help="the log of a daemon in the background")
    add("store", metavar="STORE")
    add("mountpoint", metavar="MOUNTPOINT")


def add_options(parser: argparse.ArgumentParser, *, needs_policy: bool = True) -> None:
    """Add the options of every command that mounts."""
    add = parser.add_argument
    add("--policy", required=needs_policy, metavar="P", help="a policy file, or a directory of *.yaml")
    uid_help = "with --app: only this uid may use the mount (default: the app's)"
    gid_help = "with --app: only processes with this primary group may use the mount (may be repeated)"
    add("--uid", type=identity, metavar="UID", help=uid_help)
    add("--gid", type=identity, action="append", metavar="GID", help=gid_help)
    add("--trail", metavar="DIR", help="trail root (default: $POLICYFS_TRAIL_DIR or /var/log/policyfs)")
    help_ = "permit what the policy denies to its apps, and only record the denials"
    add("--monitor", action="store_true", help=help_)
    add("--watch", action="store_true", help="reload the policy when its files change")
    add("--posix", action="store_true", help="the kernel checks mode bits in addition to the policy")
    inotify_help = "with --app: inotify reports changes that other programs make in the store"
    add("--inotify", action="store_true", help=inotify_help)
    modes_help = "policy: show owners and modes that match the caller's rights (for Samba and similar)"
    add("--modes", choices=["store", "policy"], default="store", help=modes_help)
    add("--no-xattrs", action="store_true", help="no extended attributes: faster `ls -l` and new files")
    add("--read-only", action="store_true", help="refuse every change with EROFS")
    avc_help = "answer repeated requests without Python: look-ups, stats and opens (default)"
    add("--avc", action=argparse.BooleanOptionalAction, default=True, help=avc_help)
    add("--no-passthrough", action="store_true", help="serve every read and write through the daemon")
    add("--copy-max", type=size, default="32M", metavar="SIZE", help="largest file to copy into memory (32M)")
    copies_help = "memory for all copies of files (512M)"
    add("--copies-max", type=size, default="512M", metavar="SIZE", help=copies_help)
    nodes_help = "number of files that the kernel may remember (by the memory: 40000 to 500000)"
    add("--nodes-max", type=count, metavar="N", help=nodes_help)
    segment_help = "size of a trail segment (64M)"
    add("--trail-segment", type=segment_size, default="64M", metavar="SIZE", help=segment_help)
    add("--trail-keep", type=number, default=0, metavar="N", help="trail segments to keep (default: all)")
    age_help = "age of the oldest trail segment to keep, such as 90d"
    add("--trail-keep-age", type=age, default=0, metavar="AGE", help=age_help)
    kept_help = "size of all trail segments to keep, such as 20G"
    add("--trail-keep-size", type=size, default="0", metavar="SIZE", help=kept_help)
    size_help = "size of all refused files to keep for each app (1G)"
    add("--quarantine-max", type=size, default="1G", metavar="SIZE", help=size_help)
    count_help = "number of refused files to keep for each app (1000)"
    file_help = "largest file to copy before an app under `keep` overwrites it (256M)"
    add("--keep-max-file", type=size, default="256M", metavar="SIZE", help=file_help)
    undo_help = "size of all that `keep` keeps in the store (default: a tenth of its file system)"
    add("--keep-size", type=size, default="0", metavar="SIZE", help=undo_help)
    add("--quarantine-files", type=number, default=1000, metavar="N", help=count_help)


def _retention(args: argparse.Namespace) -> Retention:
    from policyfs.journal.files.retention import Retention

    return Retention(args.trail_keep, args.trail_keep_age, args.trail_keep_size)


def run_mount(args: argparse.Namespace, launcher: ForkedLauncher | None = None) -> int:
    """Check the options, the paths and the policy of a mount. Then serve the mount in this process
    (--foreground), or fork a daemon that serves it. launcher: the daemon's; None: it executes one."""
    if os.geteuid() != 0:
        raise PolicyfsError(
            "mounting needs root; run this command with sudo, or as a systemd unit (policyfs unit)"
        )
    start = Start.of(args)
    try:
        check_options(args)
        return _mount(args, start, launcher)
    except PolicyfsError as error:
        start.failed(str(error))
        raise


def check_options(args: argparse.Namespace) -> None:
    """Raise PolicyfsError if options cannot be used together."""
    if args.posix and args.no_xattrs:
        raise UsageError("--posix and --no-xattrs cannot be used together: the kernel reads ACLs by xattrs")
    if args.idmap and not (args.posix and args.any_uid):
        raise UsageError("--idmap needs --posix and --any-uid: only the kernel knows who calls")
    if args.inotify and args.app is None:
        raise UsageError("--inotify needs --app: in a shared mount it would tell the names that others see")
    if args.inotify and (args.posix or args.read_only):
        raise UsageError(
            "--inotify cannot be used with --posix or --read-only: the kernel reports only calls that it lets"
            " through"
        )


def _mount(args: argparse.Namespace, start: Start, launcher: ForkedLauncher | None) -> int:
    manager = ServiceManager()
    _check_store(args.store, waits=args.foreground and manager.waits)
    start.claim()
    options, loader = prepared(args, start)
    if args.foreground:
        return serve_here(options, loader, start, manager, as_json=not (sys.stderr.isatty() or is_journal(2)))
    fork_daemon(options, loader, Path(args.log) if args.log else None, start, launcher=launcher)
    return EXIT_OK


def _check_store(store: str, *, waits: bool) -> None:
    """Compare the store with its record. Raises PolicyfsError.

    waits: a service manager waits for this mount. Then wait for an absent store: if the start failed, all
    services that need the mount would fail, and nobody would start them when the store comes.
    """
    told = ""
    while True:
        try:
            return check_store(os.path.realpath(store))
        except StoreAbsentError as error:
            if not waits:
                raise
            if str(error) != told:
                told = str(error)
                from policyfs.daemon.log import (
                    Notice,
                    configure,  # only now: a start takes long enough
                )

                log = configure(sys.stderr, as_json=False, of_journal=is_journal(2))
                Notice.STORE_ABSENT.tell(log, reason=told)
            time.sleep(_STORE_PAUSE_S)


def prepared(args: argparse.Namespace, start: Start) -> tuple[MountOptions, Loader]:
    """Check the options, the paths and the policy of a mount. Raises PolicyfsError. Return the options for
    the daemon, and a loader with the policy."""
    before = None
    if args.follow:
        from policyfs.cli.mounts.follow import followed

        before = followed(args)
    store, mountpoint = _check_places(args.store, args.mountpoint, is_followed=args.follow)
    policy_path = os.path.abspath(args.policy)  # the daemon changes its working directory

    checked: list[tuple[Sequence[SourceText], Policy, Engine]] = []  # the daemon need not do this again

    def parse(sources: Sequence[SourceText]) -> Policy:
        if checked and checked[0][0] == sources:
            return checked[0][1]
        checked.clear()
        return parse_apart(sources, lambda: import_module("policyfs.daemon.policies.policies"))

    def compiled(policy: Policy) -> Engine:
        if checked and checked[0][1] is policy:
            return checked.pop()[2]
        return _compiled(args, policy)

    sources: Sequence[SourceText] = read_sources(policy_path, regular=True)
    policy = parse(sources)
    engine = compiled(policy)
    from policyfs.daemon.policies.policies import Loader, saved_text  # imported beside the parser

    loader = Loader(lambda: read_sources(policy_path, regular=True), parse, compiled)
    checked.append((sources, policy, engine))
    options = replace(_options(args, engine.policy, store, mountpoint, start), before=before)
    if before is not None and before.policy != engine.digest:
        # The policy in force stays. It is compiled now, so that apps do not wait for it.
        before.is_changed = True
        sources = saved_text(options.trail, before.policy)
        policy = parse_apart(sources)
        checked[:] = [(sources, policy, loader.compile(policy))]
    if options.idmap:
        _check_idmap()
    _check_policy_place(store, options.policy, sources)
    _check_outside(store, mountpoint, options.trail, args.log)
    del sources, policy, engine
    closed = check_closed(store)
    if closed.state is not State.OK:
        print(f"policyfs: warning: {closed.what}; {closed.todo}", file=sys.stderr)
    return options, loader


def _check_idmap() -> None:
    from policyfs.kernel.protocol import InitFlag
    from policyfs.kernel.trial import try_passthrough

    if InitFlag.ALLOW_IDMAP not in try_passthrough().offered:
        raise PolicyfsError(
            f"--idmap needs Linux 6.12 or newer; this is Linux {os.uname().release}: mount without --idmap"
        )


def check_policy(args: argparse.Namespace) -> None:
    """Check a mount's options, and its policy against them, while the mount is still up. So a mount with
    changed options is not unmounted if it could not be mounted again. Raises PolicyfsError."""
    from policyfs.linux.mountinfo import resolve

    check_options(args)
    sources = read_sources(args.policy)
    _admitted(args, _compiled(args, parse_apart(sources)).policy)
    store = os.path.realpath(args.store)
    if not os.path.isdir(store):
        raise PolicyfsError(f"the store {args.store} is not a directory")
    _check_policy_place(store, args.policy, sources)
    _check_outside(store, resolve(args.mountpoint), Path(trail_root(args.trail)), args.log)


def _check_outside(store: str, mountpoint: str, trail: Path, log: str | None) -> None:
    """Raise PolicyfsError if apps could reach the trail, its keys, or the log (the option --log)."""
    for place, name in ((store, "store"), (mountpoint, "mountpoint")):
        if _lies_in(os.path.realpath(trail), place):
            raise PolicyfsError(
                f"the trail directory {trail} is inside the {name} {place}: apps could reach the"
                " trail, or the mount would wait for itself; choose another directory with --trail"
            )
        if _lies_in(os.path.realpath(key_directory()), place):
            raise PolicyfsError(
                f"the keys of the trail, {key_directory()}, are inside the {name} {place}: apps could reach"
                " the keys; set POLICYFS_KEY_DIR to another directory"
            )
        if log and _lies_in(os.path.realpath(log), place):
            raise PolicyfsError(
                f"the log {log} is inside the {name} {place}: apps could change the log; choose another"
                " file with --log"
            )


def _check_policy_place(store: str, policy: str, sources: Sequence[SourceText]) -> None:
    """Raise PolicyfsError if a policy, or one of its files, is inside the store. store: the real path."""
    for file in (policy, *(source.name for source in sources)):
        if _lies_in(os.path.realpath(file), store):
            raise PolicyfsError(
                f"the policy {file} is inside the store {store}: apps could change the policy; move it to a"
                " directory outside of the store, such as /etc/policyfs"
            )


def _compiled(args: argparse.Namespace, policy: Policy) -> Engine:
    engine = compile_policy(in_force(policy, time.time_ns()), monitor=args.monitor)
    _check_modes(args, engine)
    if args.idmap:
        _check_uids("--idmap", args.app, engine, "the kernel does not tell the uids on an idmapped mount")
    elif args.inotify and args.any_uid:
        _check_uids("--inotify", args.app, engine, "inotify tells all of them the same")
    return engine


def _check_uids(option: str, app: str, engine: Engine, why: str) -> None:
    if any(one.name == app for one in engine.policy.apps) and engine.uids_matter(app):
        raise UsageError(
            f"{option}: the policy has rules about single uids of the app {app}, and {why}; write these rules"
            " for the whole app"
        )


def _options(
    args: argparse.Namespace, policy: Policy, store: str, mountpoint: str, start: Start
) -> MountOptions:
    from policyfs.daemon.options import MountOptions

    user_id, group_ids = _admitted(args, policy)
    return MountOptions(
        store=store, mountpoint=mountpoint, app=args.app, any_uid=args.any_uid,
        user_id=user_id, group_ids=group_ids, trail=start.root / control.mount_id(mountpoint),
        posix=args.posix, read_only=args.read_only, passthrough=not args.no_passthrough,
        copy_bytes=args.copy_max,
        cache_bytes=args.copies_max, segment_bytes=args.trail_segment, keep=_retention(args),
        policy_modes=args.modes == "policy", told=start.told,
        keep_file_bytes=args.keep_max_file, keep_bytes=args.keep_size,
        quarantine_bytes=args.quarantine_max, quarantine_files=args.quarantine_files,
        nodes=args.nodes_max or default_nodes(usable_bytes(), _mounts_of_site()),
        xattrs=not args.no_xattrs,
        keys=key_directory(),
        vectors=args.avc,
        policy=os.path.abspath(args.policy),
        watch=args.watch,
        idmap=args.idmap,
        inotify=args.inotify,
        keeper=_has_keeper(args, store),
        named_uids=tuple(named_uids(policy)),
    )  # fmt: skip


def _mounts_of_site() -> int:
    given = os.environ.get(MOUNTS, "")
    return int(given) if given.isdecimal() else 1


def _has_keeper(args: argparse.Namespace, store: str) -> bool:
    fd = os.open(store, os.O_PATH | os.O_CLOEXEC)
    try:
        can_have = args.read_only or is_lasting(fd)
    finally:
        os.close(fd)
    if args.keeper and not can_have:
        raise PolicyfsError(
            f"--keeper needs a local store with lasting inode numbers, which {store} is not: leave it out"
        )
    return can_have if args.keeper is None else bool(args.keeper)


def _check_modes(args: argparse.Namespace, engine: Engine) -> None:
    by_mount = args.modes == "policy"
    told = apps_with_modes(engine, by_mount=by_mount)
    told = told if args.app is None else told & {args.app}
    if args.posix and (by_mount or told):
        whose = "--modes policy" if by_mount else f"modes: policy of the app {min(filter(None, told))}"
        raise UsageError(
            f"{whose} and --posix cannot be used together: --posix uses the store's modes; remove one"
            " of the two"
        )
    if not by_mount or args.app is None or told:
        return
    app = next((app for app in engine.policy.apps if app.name == args.app), None)
    if app is not None and app.modes is Modes.STORE:
        raise UsageError(
            f"--modes policy: the policy has `modes: store` for the app {app.name}; remove one of the two"
        )
    if app is not None:
        raise UsageError(
            f"--modes policy: the app {app.name} reads every file unchanged and writes nothing, like a"
            " backup, and a backup must see the modes of the store; mount without --modes policy. If"
            " the app is not a backup, you can write `modes: policy` for the app in the policy"
        )


def _admitted(args: argparse.Namespace, policy: Policy) -> tuple[int | None, tuple[int, ...]]:
    """Return the uid and the primary groups that a mount admits, or None and () if it admits every uid."""
    if args.app is None:
        if args.any_uid or args.uid is not None or args.gid:
            raise UsageError("--any-uid, --uid and --gid need --app")
        return None, ()
    app = next((app for app in policy.apps if app.name == args.app), None)
    if app is None:
        known = ", ".join(app.name for app in policy.apps) or "none"
        raise UsageError(f"the policy has no app {args.app!r}; its apps are {known}")
    if args.any_uid:
        if args.uid is not None or args.gid:
            raise UsageError("--any-uid admits every uid and group: leave out --uid and --gid")
        return None, ()
    uid = args.uid if args.uid is not None else _only_uid(app)
    if app.uids and not any(first <= uid <= last for first, last in app.uids):
        raise UsageError(f"uid {uid} does not belong to the app {app.name}: choose one of the app's uids")
    groups = tuple(dict.fromkeys(args.gid or app.gids or (_primary_group(uid),)))
    for gid in groups:
        if app.gids and gid not in app.gids:
            raise UsageError(
                f"group {gid} does not belong to the app {app.name}: choose one of the app's groups"
            )
    return uid, groups


def _only_uid(app: App) -> int:
    if not app.uids:
        raise UsageError(f"the app {app.name} has no uid: add --uid UID, or --any-uid for a container")
    (first, last), *more = app.uids
    if more or first != last:
        raise UsageError(f"the app {app.name} has several uids: choose one with --uid, or use --any-uid")
    return first


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _check_places(store: str, mountpoint: str, *, is_followed: bool = False) -> tuple[str, str]:
    """Check that a mount at these paths is possible, and unmount a dead one. Return absolute paths.
    is_followed: True if the mount is there, and stays."""
    from policyfs.cli.mounts.umount import daemon_died
    from policyfs.kernel.probe import MountState, mount_state
    from policyfs.linux.mountinfo import ABSENT, mounts_at, resolve

    real_store = os.path.realpath(store)
    if not os.path.exists(real_store):
        raise PolicyfsError(f"the store {store} does not exist; create it or correct the path")
    if not os.path.isdir(real_store):
        raise PolicyfsError(f"the store {store} is not a directory")
    try:
        check_way(mountpoint)
        path = resolve(mountpoint)
    except OSError as error:
        todo = "; create the directory" if error.errno == errno.ENOENT else ""
        raise PolicyfsError(f"the mountpoint {mountpoint}: {error.strerror}{todo}") from error
    if is_followed:
        return real_store, path
    state = mount_state(path)
    # held: the daemon was killed, but the kernel still holds one of its threads. Only a forced unmount ends
    # the requests of this mount.
    held = state is MountState.SILENT and daemon_died(path)
    if state is MountState.DEAD or held:
        from policyfs.kernel import session  # it imports FUSE, which is imported beside the parser

        session.unmount(path, lazy=True, force=held)
        print(f"policyfs: a dead mount was at {shown(path)}, and was unmounted", file=sys.stderr)
    elif state is not MountState.NONE:
        raise PolicyfsError(
            f"something is mounted on {path} already; unmount it, or choose another mountpoint"
        )
    there = mounts_at(path)
    is_covered = bool(there) and there[-1].fstype == ABSENT  # stat of a placeholder fails
    if not is_covered and not os.path.isdir(path):
        problem = "is not a directory" if os.path.exists(path) else "does not exist; create it"
        raise PolicyfsError(f"the mountpoint {mountpoint} {problem}")
    if _lies_in(real_store, path):
        raise PolicyfsError(
            f"the store {store} is inside the mountpoint {mountpoint}, so the mount would"
            " cover it; choose another mountpoint"
        )
    if _lies_in(path, real_store):
        raise PolicyfsError(
            f"the mountpoint {mountpoint} is inside the store {store}; choose another mountpoint"
        )
    if not is_covered and os.listdir(path):
        raise PolicyfsError(
            f"the mountpoint {mountpoint} is not empty, and the mount would hide its files;"
            " choose an empty directory"
        )
    return real_store, path


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
