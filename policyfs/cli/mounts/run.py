"""`policyfs run`: run a command with an app's own mount in place of the store.

The mount is made for the command, and ends with the command (run_command.py). The command and the daemon run
in mount namespaces of their own. So no other process sees the mount, and the daemon still sees the store at
its path.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from policyfs.cli.common.output import write_private
from policyfs.cli.mounts import mount, run_command
from policyfs.cli.mounts.run_command import Identity
from policyfs.cli.mounts.run_policy import APP, policy_text
from policyfs.cli.mounts.run_user import User, become_root_of_user
from policyfs.cli.mounts.serve import fork_daemon
from policyfs.cli.mounts.start import Start
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError, UsageError
from policyfs.linux.confinement.namespaces import enter_own_mounts
from policyfs.linux.private_files import make_private
from policyfs.store.store_record import check_store
from policyfs.trail.lines.table import shown

_END_S: Final = 30.0
_POLL_S: Final = 0.02
_PLACES: Final = 1000
"""The maximum number of mounts of one app that `policyfs run` can make at the same time."""

def add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run COMMAND as the app. COMMAND finds a mount of its own at the path of STORE."
    add = parser.add_argument
    add("--app", metavar="NAME", help="the app that runs the command (default without --policy: command)")
    mount.add_options(parser, needs_policy=False)
    for option, may in (("--allow-read", "read"), ("--allow-write", "read and change")):
        help_ = f"without --policy: let the command {may} this path, and see nothing else (may be repeated)"
        add(option, action="append", default=[], metavar="PATH", help=help_)
    add("--at", metavar="DIR", help="show the mount at this directory (default: STORE)")
    add("store", metavar="STORE")
    add("words", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(run=run_run, any_uid=False, idmap=False, follow=False, log=None, keeper=False)


def run_run(args: argparse.Namespace) -> int:
    """Mount the store for the app, run the command, and unmount. Return the command's exit code. If a signal
    has ended the command, return 128 plus the signal's number."""
    command = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not command:
        raise UsageError("write the command behind `--`, such as: policyfs run ... STORE -- ls -l STORE")
    at = os.path.realpath(args.at or args.store)
    if not os.path.isdir(at):
        raise PolicyfsError(f"{args.at or args.store} is not a directory; create it, or choose another --at")
    text = _policy_text(args)
    user = become_root_of_user(args.store) if os.geteuid() != 0 else None
    args.any_uid = user is not None  # the user namespace has only the user of the command
    args.mountpoint, lock = _claimed_place(args.app)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        if text:
            args.policy = f"{args.mountpoint}.yaml"
            stack.callback(os.unlink, args.policy)
            write_private(args.policy, text)
        start = Start.of(args)
        try:
            return _mounted(args, start, command, at, user)
        except PolicyfsError as error:
            start.failed(str(error))
            raise


def _policy_text(args: argparse.Namespace) -> str:
    """Return the policy that the options describe, and print it; empty with --policy. Raises UsageError."""
    if args.policy is not None:
        if args.allow_read or args.allow_write:
            raise UsageError("--policy has the rules already: leave out --allow-read and --allow-write")
        if args.app is None:
            raise UsageError("name an app of the policy with --app")
        return ""
    args.app = args.app or APP
    text = policy_text(args.app, os.path.realpath(args.store), args.allow_read, args.allow_write)
    print(f"policyfs: for --policy FILE --app {args.app}:\n{text}", end="", file=sys.stderr)
    return text


def _mounted(
    args: argparse.Namespace, start: Start, command: Sequence[str], at: str, user: User | None
) -> int:
    try:
        enter_own_mounts()
    except OSError as error:
        raise PolicyfsError(
            f"cannot make a mount namespace: {error.strerror}; run this command outside of a container"
        ) from error
    check_store(os.path.realpath(args.store))
    options, loader = mount.prepared(args, start)
    if user is not None:
        options = replace(options, user_namespace=user.namespaces.root)
    elif options.user_id is None:
        raise UsageError(f"the app {args.app} has no uid: add --uid UID")
    lifeline = os.pipe()
    daemon = fork_daemon(options, loader, None, start, lifeline=lifeline)
    try:
        identity = user or Identity(options.user_id or 0, options.group_ids[0])
        return run_command.run(command, identity, options.mountpoint, at)
    except OSError as error:
        raise PolicyfsError(f"cannot run {command[0]}: {error.strerror}") from error
    finally:
        _end(daemon, options.trail / "daemon.log")
        for fd in lifeline:
            os.close(fd)


def _claimed_place(app: str) -> tuple[str, int]:
    """Return the first free directory of a series, whose trail goes on, and a descriptor that locks it."""
    row = control.runtime_dir() / "run"
    try:
        for directory in (row.parent, row):
            make_private(directory)
        for number in range(_PLACES):
            place = row / f"{app}-{number}"
            place.mkdir(mode=0o755, exist_ok=True)
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return str(place), fd
    except OSError as error:
        raise PolicyfsError(
            f"cannot make a mountpoint in {row}: {error.strerror};"
            " set POLICYFS_RUNTIME_DIR to a writable directory"
        ) from error
    raise PolicyfsError(f"{_PLACES} commands run as {app} already; wait until a command has ended")


def _end(daemon: int, log_file: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGTERM)
    until = time.monotonic() + _END_S
    while True:
        found, status = os.waitpid(daemon, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until:
            raise PolicyfsError(f"the daemon (pid {daemon}) did not end within {_END_S:g} s; see {log_file}")
        time.sleep(_POLL_S)
    if os.waitstatus_to_exitcode(status):
        where = shown(str(log_file))
        print(f"policyfs: the daemon of the mount ended with an error; see {where}", file=sys.stderr)

