"""``policyfs audit``: read, search, sum up and verify the trail.

All actions work without a running mount. Most only read files, and also work on a copy of a trail. Each mount
has a chain: a directory of files (segments) below the trail root. All chains are read together, as one trail.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from typing import Final

from policyfs.cli.common.commands import Run, add_commands
from policyfs.cli.common.on_record import trail_root
from policyfs.errors import EXIT_OK, EXIT_USAGE

_YOUNG: Final = 200_000
"""The number of new objects after which Python's garbage collector runs. The number is high: most actions of
`audit` make many objects that stay in use until the action ends, and few cycles of references."""

_ACTIONS: Final = {
    "search": ("audit.search", "print matching events; without a query, all records"),
    "show": ("audit.show", "print one record and the records around it, or the policies in force"),
    "summary": ("audit.summary", "count the matching events"),
    "timeline": ("audit.timeline", "print the life of a file, across renames"),
    "who-could": ("audit.could", "print what each app may do at a path, by the policy in force"),
    "report": ("audit.report", "write the trail as one HTML page"),
    "verify": ("audit.verify", "check that no line is missing or changed"),
    "export": ("audit.export", "write events for other programs"),
    "follow": ("audit.follow", "write each line of all trails, and go on with new ones"),
    "key": ("audit.keys", "show or renew the key of the trail, or sign its end with the key"),
}

_GONE: Final = {
    "forward": "pipe `policyfs audit follow` to a program that sends lines (docs/shipping.md)",
    "hold": "copy the trail's directory (docs/audit.md); holds of before protect the whole trail",
    "sql": "use `policyfs audit summary`, or `export --format jsonl` and SQL of duckdb",
}


def add_trail_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trail`` (the directory of all trails) to a command that reads trails."""
    help_ = "the trail root, or one mount's directory in it (default: %(default)s)"
    parser.add_argument("--trail", metavar="DIR", default=trail_root(), help=help_)


def add_audit(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the actions of ``policyfs audit``. words: the user's words after ``audit``."""
    if words and words[0] in _GONE:  # for one version after its end
        parser.exit(EXIT_USAGE, f"policyfs: `audit {words[0]}` has gone: {_GONE[words[0]]}\n")
    common = argparse.ArgumentParser(add_help=False)
    add_trail_option(common)
    common.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    common.add_argument("--utc", action="store_true", help="show times in UTC, not in the local time zone")
    add_commands(parser, _ACTIONS, words, parents=[common], guard=_guarded)


def _guarded(action: Run) -> Run:
    def run(args: argparse.Namespace) -> int | None:
        if args.action != "follow" and not getattr(args, "follow", False):  # these may run for days
            gc.set_threshold(_YOUNG)
        try:
            return action(args)
        except KeyboardInterrupt:
            return EXIT_OK
        except OSError as exc:
            from policyfs.cli.audit.query import unreadable

            raise unreadable(args, exc) from exc

    return run
