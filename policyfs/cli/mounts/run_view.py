"""The mount of one command, in mount namespaces of the command and of the daemon, and its end."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policyfs.cli.common.output import write_private
from policyfs.cli.mounts import mount, run_command
from policyfs.cli.mounts.run_command import Identity, Trial
from policyfs.cli.mounts.run_user import User
from policyfs.cli.mounts.serve import fork_daemon
from policyfs.cli.mounts.start import Start
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError, UsageError
from policyfs.linux.confinement.namespaces import enter_own_mounts
from policyfs.linux.confinement.user_namespaces import nested
from policyfs.linux.private_files import make_private
from policyfs.store.store_record import check_store
from policyfs.trail.lines.table import shown

if TYPE_CHECKING:
    from policyfs.daemon.policies.policies import Loader

_END_S: Final = 30.0
_POLL_S: Final = 0.02
_PLACES: Final = 1000
"""The maximum number of mounts of one app that `policyfs run` can make at the same time."""


@dataclass(frozen=True, slots=True)
class View:
    """A mount that answers. identity: of the command, for the daemon. loader: it has loaded the policy."""

    mountpoint: str
    identity: Identity
    loader: Loader

    def run(self, command: Sequence[str], at: str, trial: Trial | None = None) -> int:
        """Run a command with the mount at a directory. Return its exit code. Raises PolicyfsError."""
        try:
            return run_command.run(command, self.identity, self.mountpoint, at, trial)
        except OSError as error:
            raise PolicyfsError(f"cannot run {command[0]}: {error.strerror}") from error

    def namespace(self) -> int:
        """Return a user namespace whose root is the command's user."""
        if isinstance(self.identity, User):
            return self.identity.namespaces.root
        ids = self.identity.uid, self.identity.gid
        return nested(ids, ids).root


def in_view(
    args: argparse.Namespace, user: User | None, work: Callable[[View], int], policy_text: str = ""
) -> int:
    """Make a mount of an app, call *work*, and unmount. Return what *work* returns. Raises PolicyfsError.

    args: of `policyfs run`. policy_text: the policy, if *args* names none.
    """
    args.any_uid = user is not None  # the user namespace has only the user of the command
    args.mountpoint, lock = _claimed_place(args.app)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock)
        if policy_text:
            args.policy = f"{args.mountpoint}.yaml"
            stack.callback(os.unlink, args.policy)
            write_private(args.policy, policy_text)
        start = Start.of(args)
        try:
            return _mounted(args, start, user, work)
        except PolicyfsError as error:
            start.failed(str(error))
            raise


def _mounted(args: argparse.Namespace, start: Start, user: User | None, work: Callable[[View], int]) -> int:
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
        return work(View(options.mountpoint, identity, loader))
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

