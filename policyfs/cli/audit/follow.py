"""`policyfs audit follow` writes each line of all trails to standard output, and goes on with new ones."""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import socket
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.follow.cursor import Cursor
from policyfs.follow.opener import Opener, OpenerAccess, contain
from policyfs.follow.output import Output, end_last_line
from policyfs.follow.source import Access, DirectAccess
from policyfs.follow.stream import Stream
from policyfs.linux.confinement.identity import become
from policyfs.linux.confinement.keyring import leave_session_keyring
from policyfs.linux.confinement.prctl import request_parent_death_signal
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock

_USER: Final = "policyfs-follow"
_STDOUT: Final = 1


def add_follow(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("query", nargs="*", metavar="QUERY", help="only events that match, such as decision:deny")
    add("--cursor", metavar="FILE", help="go on at the line after the last one written out, which FILE names")
    user_help = "if root runs this: the user that writes the lines (default: %(default)s)"
    add("--user", metavar="NAME", default=_USER, help=user_help)


def run_follow(args: argparse.Namespace) -> int:
    """Write lines until a signal (such as SIGTERM) arrives. Raises PolicyfsError."""
    text = " ".join(args.query)
    wanted = Selection(parse_query(text), Clock(datetime.now(UTC), UTC), text)
    root = Path(args.trail).absolute()
    if os.geteuid() == 0:
        return _as_two(args, wanted, root)
    if os.access(root, os.W_OK):
        _log(f"warning: the user of this command may write in {root}: use a user that may only read there")
    end_last_line(_STDOUT)
    return _follow(args.cursor, wanted, DirectAccess(root))


def _log(text: str) -> None:
    print(f"policyfs: {shown(text)}", file=sys.stderr, flush=True)


def _follow(cursor: str | None, wanted: Selection, access: Access) -> int:
    stopped = list[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    output = Output(_STDOUT, lambda: bool(stopped))
    kept = Cursor(cursor) if cursor is not None else None
    Stream(access, output, kept, wanted.matches, _log).run(lambda: bool(stopped))
    return EXIT_OK


def _as_two(args: argparse.Namespace, wanted: Selection, root: Path) -> int:
    """Fork a process that writes the lines as another user; open files of the trail for it."""
    user = _user(args.user)
    if args.cursor is not None:
        args.cursor = os.path.abspath(args.cursor)
        _make_directory(os.path.dirname(args.cursor), user)
    end_last_line(_STDOUT)
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
            os._exit(_follow(args.cursor, wanted, OpenerAccess(theirs)))
        except PolicyfsError as error:
            _log(str(error))
        except OSError as error:
            _log(f"cannot read the trail: {error.strerror or error}")
        except BaseException:  # noqa: BLE001 - printed; the child must not run the opener's code
            traceback.print_exc()
        os._exit(EXIT_REFUSED)
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    contain([str(root)])
    try:
        Opener(ours, root).serve()
    finally:  # it has the cursor, and may wait for its reader; or it has ended
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else EXIT_REFUSED


def _user(name: str) -> pwd.struct_passwd:
    """Return the user that writes the lines. Raises UsageError if it is unknown or root."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        make = f"useradd --system {name}, or name another with --user"
        raise UsageError(f"the lines are not written as root, and there is no user {name}: {make}") from None
    if user.pw_uid == 0:
        raise UsageError("the lines are not written as root: name a user that does nothing else with --user")
    return user


def _make_directory(path: str, user: pwd.struct_passwd) -> None:
    other = "name a file in another directory with --cursor"
    try:
        make_private(path)
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            owner = os.fstat(place).st_uid
            if owner not in {0, user.pw_uid}:
                raise PolicyfsError(f"{path} belongs to another user than {user.pw_name}: {other}")
            if owner == 0 and os.listdir(place):
                raise PolicyfsError(f"{path} belongs to root and is not empty: {other}")
            os.fchown(place, user.pw_uid, user.pw_gid)
        finally:
            os.close(place)
    except OSError as exc:
        raise PolicyfsError(f"cannot use {path} for the cursor: {exc.strerror}") from exc


def _become(user: pwd.struct_passwd, parent: int) -> None:
    """Become this user for good. When the parent (the opener) ends, the kernel ends this process, too."""
    become(user.pw_uid, user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid))
    leave_session_keyring()
    request_parent_death_signal(signal.SIGTERM)  # after setresuid, which clears this signal
    if os.getppid() != parent:
        raise PolicyfsError("the process that opens the trail (the opener) has ended")
    os.chdir("/")
    os.environ["HOME"] = user.pw_dir
