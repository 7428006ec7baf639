"""``policyfs audit``: read, search, sum up and verify the trail.

All actions work without a running mount. Most actions only read files, and also work on a copy of a trail.
Each mount has a chain: a directory of its own below the trail root (the directory of all trails). The files
in a chain are called segments. The command reads all chains together, as one trail. docs/audit.md is the
manual of this command.
"""

from __future__ import annotations

import argparse
import gc
import importlib
from typing import Final

from policyfs.cli.common.on_record import trail_root
from policyfs.errors import EXIT_OK

_YOUNG: Final = 200_000
"""The number of new objects after which Python's garbage collector runs. The number is high: most actions of
`audit` make many objects that stay in use until the action ends, and few cycles of references."""

_MODULES: Final = {
    "search": {"search": "run"},
    "show": {"show": "run"},
    "summary": {"summary": "run"},
    "timeline": {"timeline": "run"},
    "could": {"who-could": "run"},
    "report": {"report": "run"},
    "verify": {"verify": "run"},
    "export": {"export": "run"},
    "sql": {"sql": "run"},
    "forward": {"forward": "run"},
    "hold": {"hold": "run"},
    "keys": {"key": "run"},
}
"""A dictionary from each module of `audit` to its actions, each with the name of the action's function. The
help lists the actions in this order."""


def add_trail_option(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--trail`` (the trail root: the directory of all trails) to a command that reads
    trails.
    """
    parser.add_argument(
        "--trail",
        metavar="DIR",
        default=trail_root(),
        help="the trail root, or one mount's directory in it (default: %(default)s)",
    )


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], action: str = "") -> None:
    """Add the command ``audit`` and its actions to the command line.

    action: the action in the user's command, such as ``search``. Then only the module of this action is
    imported. If *action* is empty, the action is not known yet, and all modules are imported.
    """
    parser = subparsers.add_parser("audit", help="read, search and verify the trail")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    add_trail_option(common)
    common.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    common.add_argument("--utc", action="store_true", help="show times in UTC, not in the local time zone")
    wanted = [module for module, functions in _MODULES.items() if action in functions]
    for module in wanted or _MODULES:
        importlib.import_module(f"policyfs.cli.audit.{module}").add_parsers(actions, common)


def run(args: argparse.Namespace) -> int:
    """Carry out the action of `audit` that the user has chosen. Return the exit code.

    Raises PolicyfsError with a message for the user.
    """
    module, name = next(
        (module, functions[args.action]) for module, functions in _MODULES.items() if args.action in functions
    )
    if args.action != "forward" and not getattr(args, "follow", False):  # these may run for days
        gc.set_threshold(_YOUNG)
    try:
        code: int = getattr(importlib.import_module(f"policyfs.cli.audit.{module}"), name)(args)
    except KeyboardInterrupt:
        return EXIT_OK
    except OSError as exc:
        from policyfs.cli.audit.query import unreadable

        raise unreadable(args, exc) from exc
    return code
