"""`policyfs run`: run a command with an app's own mount in place of the store.

The mount is made for the command, and ends with the command (run_command.py). The command and the daemon run
in mount namespaces of their own. So no other process sees the mount, and the daemon still sees the store at
its path.
"""

from __future__ import annotations

import argparse
import os
import sys

from policyfs.cli.mounts import mount
from policyfs.cli.mounts.run_layer import run_on_layer
from policyfs.cli.mounts.run_policy import APP, policy_text
from policyfs.cli.mounts.run_user import become_root_of_user
from policyfs.cli.mounts.run_view import in_view
from policyfs.errors import PolicyfsError, UsageError


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run COMMAND as the app. COMMAND finds a mount of its own at the path of STORE."
    add = parser.add_argument
    add("--app", metavar="NAME", help="the app that runs the command (default without --policy: command)")
    mount.add_options(parser, needs_policy=False)
    for option, may in (("--allow-read", "read"), ("--allow-write", "read and change")):
        help_ = f"without --policy: let the command {may} this path, and see nothing else (may be repeated)"
        add(option, action="append", default=[], metavar="PATH", help=help_)
    add("--try", dest="trial", action="store_true", help="keep the command's changes for `policyfs try`")
    add("--keep", metavar="NAME", help="with --try: keep them in this layer, which may have some")
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
    args.at = os.path.realpath(args.at or args.store)
    if not os.path.isdir(args.at):
        raise PolicyfsError(f"{args.at} is not a directory; create it, or choose another --at")
    text = _policy_text(args)
    if args.policy is not None:
        args.policy = os.path.abspath(args.policy)
    args.store = os.path.abspath(args.store)
    user = become_root_of_user(args.store) if os.geteuid() != 0 else None
    if args.keep is not None or args.trial:
        return run_on_layer(args, command, user, text)
    return in_view(args, user, lambda view: view.run(command, args.at), text)


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
