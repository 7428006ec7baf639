"""The options ``--app`` and ``--uid`` of commands that ask a policy: they name the caller of a request."""

from __future__ import annotations

import argparse

from policyfs.cli.common.quantities import identity
from policyfs.domain import Principal
from policyfs.errors import UsageError
from policyfs.policy.decide import Engine


def add_caller(parser: argparse.ArgumentParser) -> None:
    """Add the options --app and --uid, which name a caller."""
    who = parser.add_argument_group("caller (one of these is needed)")
    who.add_argument("--app", metavar="NAME", help="this app")
    help_ = "this uid on a shared mount; with --app, the app's uid"
    who.add_argument("--uid", type=identity, metavar="N", help=help_)


def check_caller(args: argparse.Namespace) -> None:
    """Raise UsageError if neither --app nor --uid is given."""
    if args.app is None and args.uid is None:
        raise UsageError("name the caller: --app NAME, or --uid N (a uid that no app has is a stranger)")


def caller_of(engine: Engine, args: argparse.Namespace) -> Principal:
    """Return the principal that --app and --uid name. Raises UsageError."""
    if args.app is None:
        return engine.principal(args.uid)
    app = next((app for app in engine.policy.apps if app.name == args.app), None)
    if app is None:
        known = ", ".join(app.name for app in engine.policy.apps) or "none"
        raise UsageError(f"the policy has no app {args.app!r}; its apps are {known}")
    first = app.uids[0][0] if app.uids else 0
    return engine.app_principal(app.name, first if args.uid is None else args.uid)
