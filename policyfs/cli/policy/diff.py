"""`policyfs policy diff`: requests that a new policy allows and an old one does not, and the reverse."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from policyfs.cli.common.instants import add_at, at_ns
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.time_bound import bounded
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UnreadableError
from policyfs.policy.analysis.accepted import parse_accepted
from policyfs.policy.analysis.diff import Diff, diff
from policyfs.policy.analysis.diff_text import Report, Side
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.trail.lines.table import shown


def run_diff(args: argparse.Namespace) -> int:
    """Print every difference of two policies. Return 1 if the new one allows more than --ack accepts."""
    old, new = (Side(path, parse_policy(read_sources(path))) for path in (args.old, args.new))
    accepted = {} if args.ack is None else accepted_in(args.ack)
    found = compared(old, new, at_ns(args))
    report = Report(found, old, new, accepted)
    print(json.dumps(report.as_json(), indent=2) if args.json else report.text())
    for change in report.stale():
        print(
            f"policyfs: {shown(args.ack)}: the policies do not differ by the accepted change {change};"
            " remove this change from the file",
            file=sys.stderr,
        )
    return EXIT_REFUSED if report.open_count() else EXIT_OK


def compared(old: Side, new: Side, since_ns: int) -> Diff:
    """Return the differences of two policies, from a time (ns since 1970) on. Raises PolicyfsError if the
    policies are too large to be compared."""
    try:
        with bounded():
            return diff(old.policy, new.policy, since_ns)
    except TooHardError as error:
        raise PolicyfsError(
            "the policies cannot be compared: the policies have too many different paths. Use fewer globs and"
            " fewer wildcards in a row. If a glob has {uid}, use fewer numbers as names in other globs"
        ) from error


def accepted_in(path: str) -> dict[str, str]:
    """Return the accepted changes of a file (--ack): the reason of each, by its id. Raises PolicyfsError."""
    return parse_accepted(_read(path))


def _read(path: str) -> SourceText:
    try:
        return SourceText(path, Path(path).read_bytes())
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}") from error


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares the answers of two policies to all requests. (The rules divide paths, callers and"
        " files into classes, and the command tries one member of each class.) The exit code is 1 if the"
        " new policy allows more."
    )
    parser.add_argument("old", metavar="OLD", help="the old policy: a file, or a directory of *.yaml")
    parser.add_argument("new", metavar="NEW", help="the new policy")
    parser.add_argument("--ack", metavar="FILE", help="changes that you accept (kind: AcceptedChanges)")
    add_at(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
