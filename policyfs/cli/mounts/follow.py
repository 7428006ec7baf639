"""The check of `policyfs mount --follow`: which mounts another daemon can take over with which options."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

from policyfs.cli.common.on_record import trail_root
from policyfs.cli.mounts.start import options_of
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError

if TYPE_CHECKING:
    from policyfs.daemon.keeper.upgrade import Before

GOES_ON: Final = frozenset({
    "copy_max", "copies_max", "trail_segment", "trail_keep", "trail_keep_age", "trail_keep_size",
    "quarantine_max", "quarantine_files", "keep_max_file", "keep_size", "watch", "keeper", "nodes_max",
})  # fmt: skip
"""The options that an upgrade may change. Others are agreed on with the kernel, or with apps that have files
open, or change what is in force."""
_APART: Final = frozenset({"store", "mountpoint", "policy", "trail", "foreground", "log"})
_STATUS_S: Final = 5.0


class CannotFollowError(PolicyfsError):
    """The error if a mount must be unmounted and made again."""


def followed(args: argparse.Namespace) -> Before:
    """Return the daemon that the command's daemon can follow. Raises PolicyfsError."""
    from policyfs.daemon.keeper.upgrade import ANSWER_S, Before
    from policyfs.linux.mountinfo import FSTYPE, mounts_at, resolve

    try:
        at = resolve(args.mountpoint)
        there = mounts_at(at)
        if not there or there[-1].fstype != FSTYPE or there[-1].source != os.path.realpath(args.store):
            raise CannotFollowError(
                f"no mount of {args.store} is at {args.mountpoint}: mount without --follow"
            )
        path = control.socket_path(at)
        status = control.ask(path, "status", _STATUS_S)
        if reason := why_not(args, status):
            raise CannotFollowError(f"the daemon at {at} cannot be followed: {reason}")
        return Before(status, lambda keeper: control.ask(path, "follow", ANSWER_S, keeper=keeper))
    except OSError as error:
        raise CannotFollowError(f"the mountpoint {args.mountpoint}: {error.strerror}") from error
    except control.ControlError as error:
        raise CannotFollowError(str(error)) from error


def why_not(args: argparse.Namespace, status: control.Json) -> str:
    """Return why a running mount cannot be followed with these arguments; an empty text if it can."""
    takeover, given = status.get("takeover"), status.get("options")
    if not isinstance(takeover, dict) or not isinstance(given, dict):
        return "it has no keeper"
    if not takeover.get("keeper"):
        return "its keeper has ended, or is of an earlier version"
    if given.get("foreground") and not args.foreground:
        return "another program watches it: reload its unit, or use --foreground, too"
    wanted = options_of(args)
    names = (wanted.keys() | given.keys()) - GOES_ON - _APART
    changed = [name for name in names if (given.get(name) or None) != (wanted.get(name) or None)]
    policy = status.get("policy")
    if isinstance(policy, dict) and policy.get("file") != os.path.abspath(args.policy):
        changed.append("policy")
    trail = status.get("trail")
    if isinstance(trail, dict) and os.path.dirname(str(trail.get("directory"))) != os.path.abspath(
        trail_root(args.trail)
    ):
        changed.append("trail")
    return f"options that need a new mount differ: {', '.join(sorted(changed))}" if changed else ""
