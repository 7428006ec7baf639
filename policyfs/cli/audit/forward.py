"""`policyfs audit forward` delivers the trail to files and commands, and raises alerts."""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import socket
import sys
import traceback
from pathlib import Path

from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.forward.config import Config, parse_config
from policyfs.forward.cursors import CursorStore
from policyfs.forward.forwarder import Forwarder
from policyfs.forward.opener import Opener, OpenerAccess, contain
from policyfs.forward.source import Access, DirectAccess, Source
from policyfs.linux.confinement.identity import become
from policyfs.linux.confinement.keyring import leave_session_keyring
from policyfs.linux.confinement.prctl import request_parent_death_signal
from policyfs.linux.private_files import make_private
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown


def add_forward(parser: argparse.ArgumentParser) -> None:
    config_help = "a file with the sinks and alerts"
    parser.add_argument("--config", required=True, metavar="FILE", help=config_help)
    parser.add_argument("--once", action="store_true", help="deliver the present lines, then end")
    parser.add_argument("--check", action="store_true", help="check the configuration only")


def run_forward(args: argparse.Namespace) -> int:
    """Deliver the trail until a signal (such as SIGTERM) arrives. With --once, deliver the present lines and
    end. Raises PolicyfsError."""
    try:
        text = Path(args.config).read_bytes()
    except OSError as exc:
        raise UsageError(f"cannot read {args.config}: {exc.strerror}") from exc
    config = parse_config(SourceText(args.config, text))
    if args.check:
        print(f"{shown(args.config)}: {len(config.sinks)} sinks, {len(config.alerts)} alerts")
        return EXIT_OK
    root = Path(args.trail).absolute()
    if os.geteuid() == 0:
        return _as_two(config, root, once=args.once)
    if os.access(root, os.W_OK):
        warning = f"the user of this command may write in {root}: use a user that may only read there"
        print(f"policyfs: warning: {warning}", file=sys.stderr)
    return _forward(config, DirectAccess(root), once=args.once)


def _log(text: str) -> None:
    print(f"policyfs: {text}", file=sys.stderr, flush=True)


def _log_of_sink(text: str) -> None:
    _log(shown(text))


def _forward(config: Config, access: Access, *, once: bool) -> int:
    cursors = CursorStore(config.state)
    source = Source(access)
    forwarder = Forwarder(config, source, cursors, _log_of_sink)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: forwarder.stop())
    code = forwarder.run(once=once)
    source.close()
    cursors.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # end at once, even if a thread hangs while it delivers


def _as_two(config: Config, root: Path, *, once: bool) -> int:
    """Fork a process that delivers as the user of the configuration; open files of the trail for it."""
    user = _user_of(config)
    _make_state(config.state, user)
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    child = os.fork()
    if not child:
        ours.close()
        try:
            _become(user, parent)
            if os.access(root, os.W_OK):
                raise PolicyfsError(
                    f"the user {user.pw_name} may write in {root}: name a user that may only read there"
                )
            _forward(config, OpenerAccess(theirs), once=once)
        except PolicyfsError as error:
            _log(str(error))
            os._exit(error.exit_code)
        except BaseException:  # noqa: BLE001 - printed; the child must not run the opener's code
            traceback.print_exc()
        os._exit(EXIT_REFUSED)
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    contain([str(root)])
    Opener(ours, root).serve()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else EXIT_REFUSED


def _user_of(config: Config) -> pwd.struct_passwd:
    """Return the user in the configuration. Raises UsageError if the user is missing, unknown or root."""
    if not config.user:
        raise UsageError(
            "events must not be delivered as root: add `user: NAME` to the configuration, with a user"
            " that does nothing else"
            " (useradd --system policyfs-forward)"
        )
    try:
        user = pwd.getpwnam(config.user)
    except KeyError:
        raise UsageError(f"there is no user {config.user}: useradd --system {config.user}") from None
    if user.pw_uid == 0:
        raise UsageError("`user:` is root; name a user that does nothing else")
    return user


def _make_state(path: str, user: pwd.struct_passwd) -> None:
    """Make the directory of the cursors, owned by the user. Raises PolicyfsError."""
    try:
        make_private(path)
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            owner = os.fstat(place).st_uid
            if owner not in {0, user.pw_uid}:
                raise PolicyfsError(
                    f"{path} belongs to another user than {user.pw_name}: write another directory after"
                    " `state:` in the configuration"
                )
            if owner == 0 and os.listdir(place):
                raise PolicyfsError(
                    f"{path} belongs to root and is not empty: write another directory after `state:` in the"
                    " configuration"
                )
            os.fchown(place, user.pw_uid, user.pw_gid)
        finally:
            os.close(place)
    except OSError as exc:
        raise PolicyfsError(f"cannot use {path}, the `state:` directory: {exc.strerror}") from exc


def _become(user: pwd.struct_passwd, parent: int) -> None:
    """Become this user for good. When the parent (the opener) ends, the kernel ends this process, too."""
    become(user.pw_uid, user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid))
    leave_session_keyring()
    request_parent_death_signal(signal.SIGTERM)  # after setresuid, which clears this signal
    if os.getppid() != parent:
        raise PolicyfsError("the process that opens the trail (the opener) has ended")
    os.chdir("/")
    os.environ["HOME"] = user.pw_dir
