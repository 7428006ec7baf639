"""`policyfs policy`: the commands about policies.

They show a policy's errors and answers before anything is mounted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from policyfs.cli.common.instants import add_at, at_ns
from policyfs.cli.common.policy_files import Batch, read_sources
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.exceptions import ended
from policyfs.policy.lint.dates import dates
from policyfs.policy.lint.findings import not_silenced
from policyfs.policy.lint.hints import hints, line
from policyfs.policy.model import Effect, Policy
from policyfs.policy.text.parse import SourceText

_ACTIONS: Final = (
    "apply", "explain", "diff", "lint", "test", "replay", "learn", "fmt", "schema", "view", "matrix", "who",
    "init",
)  # fmt: skip
"""Actions of `policyfs policy` that have a module of their own, in the order of the help."""
_MODULES: Final = {"test": "cases", "view": "view.command", "init": "init.command"}
"""The modules whose name is not the action."""

# ---------------------------------------------------------------- check


@paused()  # garbage need not be collected: the process ends soon
def run_check(args: argparse.Namespace) -> int:
    """Check each policy, without regard to the other policies. Print all errors of all policies."""
    batch = Batch(sys.stdout)

    def load(path: str) -> tuple[Engine, list[SourceText]]:
        sources = read_sources(path)
        return load_policy(sources, at_ns=at_ns(args)), sources

    for path, (engine, sources) in batch.loaded(args.policy, load):
        policy = engine.policy
        print(f"{path}: fine; {_sum_up(policy)}")
        found = (*hints(engine), *dates(policy, at_ns(args)))
        for finding in not_silenced(found, policy, sources):
            print(line(finding), file=sys.stderr)
        args.kept.append(engine)
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


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], action: str = "") -> None:
    """Add the command `policy` and its actions to the command line.

    action: the word after `policy` in the user's command. Only the module of this action is imported: to
    import all modules takes longer than to check a policy of 500 rules. Empty: all modules are imported.
    """
    parser = subparsers.add_parser("policy", help="check, test, explain and compare policies")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    if action == "check" or action not in _ACTIONS:
        check = actions.add_parser("check", help="check that a policy compiles; print all its errors")
        check.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
        add_at(check)
        check.set_defaults(run=run_check)
    if action != "check":
        for one in _ACTIONS if action not in _ACTIONS else (action,):
            importlib.import_module(f"policyfs.cli.policy.{_MODULES.get(one, one)}").add_parser(actions)
