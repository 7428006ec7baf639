"""`policyfs policy`: a policy's errors and answers, before anything is mounted."""

from __future__ import annotations

import argparse
import sys

from policyfs.cli import (
    policy_apply,
    policy_diff,
    policy_explain,
    policy_fmt,
    policy_init,
    policy_learn,
    policy_lint,
    policy_matrix,
    policy_replay,
    policy_schema,
    policy_test,
    policy_view,
    policy_who,
)
from policyfs.cli.instants import add_at, at_ns
from policyfs.cli.policy_files import Batch, read_sources
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.collector import paused
from policyfs.policy.exceptions import ended
from policyfs.policy.lint.dates import dates
from policyfs.policy.lint.hints import hints, line
from policyfs.policy.model import Effect, Policy

# ---------------------------------------------------------------- check


@paused()  # it ends soon, with all that it has made
def run_check(args: argparse.Namespace) -> int:
    """Check each policy by itself, and print all errors of all of them."""
    batch = Batch(sys.stdout)
    for path, engine in batch.loaded(
        args.policy, lambda path: load_policy(read_sources(path), at_ns=at_ns(args))
    ):
        policy = engine.policy
        print(f"{path}: fine; {_sum_up(policy)}")
        for finding in (*hints(engine), *dates(policy, at_ns(args))):
            print(line(finding), file=sys.stderr)
    return batch.code


def _sum_up(policy: Policy) -> str:
    counts = {effect: sum(rule.effect is effect for rule in policy.rules) for effect in Effect}
    requires = counts[Effect.REDACT] + counts[Effect.CONTENT]
    proved = f", {_plural(len(policy.invariants), 'invariant')} proved" if policy.invariants else ""
    gone = len(ended(policy))
    live = len(policy.exceptions) - gone
    dated = f", {_plural(live + gone, 'exception')}" if policy.exceptions else ""
    return (
        f"{_plural(len(policy.apps), 'app')}, {_plural(len(policy.rules) - live, 'rule')}"
        f" ({counts[Effect.ALLOW] - live} allow, {counts[Effect.DENY]} deny, {requires} require)"
        f"{dated}{f' ({gone} ended)' if gone else ''}{proved}, digest {policy.digest[:16]}"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- command line


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `policy` and its actions to the command line."""
    parser = subparsers.add_parser("policy", help="check, test, explain and compare policies")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="check that a policy compiles; print all its errors")
    check.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    add_at(check)
    check.set_defaults(run=run_check)

    policy_apply.add_parser(actions)
    policy_explain.add_parser(actions)
    policy_diff.add_parser(actions)
    policy_lint.add_parser(actions)
    policy_test.add_parser(actions)
    policy_replay.add_parser(actions)
    policy_learn.add_parser(actions)
    policy_fmt.add_parser(actions)
    policy_schema.add_parser(actions)
    policy_view.add_parser(actions)
    policy_matrix.add_parser(actions)
    policy_who.add_parser(actions)
    policy_init.add_parser(actions)
