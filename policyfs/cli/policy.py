"""`policyfs policy check|explain`: what a policy says, before anything is mounted."""

from __future__ import annotations

import argparse
from pathlib import Path

from policyfs.errors import EXIT_OK, EXIT_POLICY, PolicyfsError
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import Effect, Policy
from policyfs.policy.parse import SourceText, parse_policy


class UnreadableError(PolicyfsError):
    """A policy's file or directory cannot be read."""

    exit_code = EXIT_POLICY


def read_sources(path: str) -> list[SourceText]:
    """The texts of a policy: one file, or every `*.yaml` of a directory.

    Raises UnreadableError.
    """
    where = Path(path)
    try:
        files = sorted(where.glob("*.yaml")) if where.is_dir() else [where]
        return [SourceText(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise UnreadableError(f"cannot read the policy {error.filename}: {error.strerror}") from error


# ---------------------------------------------------------------- check


def run_check(args: argparse.Namespace) -> int:
    """Check each policy by itself; say all that is wrong with all of them."""
    code = EXIT_OK
    for path in args.policy:
        try:
            policy = parse_policy(read_sources(path))
        except PolicyErrors as errors:
            print(errors)
            code = errors.exit_code
        else:
            print(f"{path}: fine; {_sum_up(policy)}")
    return code


def _sum_up(policy: Policy) -> str:
    counts = {effect: sum(rule.effect is effect for rule in policy.rules) for effect in Effect}
    requires = counts[Effect.REDACT] + counts[Effect.CONTENT]
    return (
        f"{_plural(len(policy.apps), 'app')}, {_plural(len(policy.rules), 'rule')}"
        f" ({counts[Effect.ALLOW]} allow, {counts[Effect.DENY]} deny, {requires} require),"
        f" digest {policy.digest[:16]}"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `policy` and what it can do to the command line."""
    parser = subparsers.add_parser("policy", help="check a policy, and ask it questions")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="does it compile; every error at once, with its place")
    check.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    check.set_defaults(run=run_check)
