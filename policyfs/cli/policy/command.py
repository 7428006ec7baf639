"""`policyfs policy`: the commands about policies.

They show a policy's errors and answers before anything is mounted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from policyfs.cli.common.commands import add_commands
from policyfs.cli.common.instants import add_at, at_ns
from policyfs.cli.common.policy_files import Batch, read_sources
from policyfs.errors import EXIT_USAGE
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.exceptions import ended
from policyfs.policy.lint.dates import dates
from policyfs.policy.lint.findings import not_silenced
from policyfs.policy.lint.hints import hints, line
from policyfs.policy.model import Effect, Policy
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown

_ACTIONS: Final = {
    "check": ("policy.command", "check that a policy compiles; print all its errors"),
    "apply": (
        "policy.apply", "load a policy into a mount, if the policy allows no more than the policy in force",
    ),
    "explain": ("policy.explain", "show the decision on one request, with its reasons"),
    "diff": (
        "policy.diff", "show the rights that a new policy adds or removes, compared with an old policy",
    ),
    "lint": ("policy.lint", "find probable mistakes in a policy"),
    "test": ("policy.cases", "compare a policy's answers with the tests beside it"),
    "replay": ("policy.replay", "show what a policy would have answered to the requests of a trail"),
    "learn": ("policy.learn", "propose a policy that allows what the apps of a trail did"),
    "schema": ("policy.schema", "print the JSON Schema of policies, for editors"),
    "matrix": ("policy.matrix", "show which app may do what at which paths, as a table"),
}  # fmt: skip

_GONE: Final = {
    "init": "docs/tutorial/home.yaml is a first policy to copy; `policyfs init` writes one for your services",
    "fmt": "use a formatter for YAML; `policyfs policy diff OLD NEW` shows that the meaning stays the same",
    "who": "`policyfs doctor` names services; the keys `uid` of the policy say which app each is",
    "view": "`policyfs run --app NAME --policy P STORE -- ls -lR STORE` lists a store as the app sees it",
}
"""Texts that name the replacement of a command, for one version after its end."""


def add_policy(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the actions of `policyfs policy`. words: the user's words after `policy`."""
    if words and words[0] in _GONE:
        parser.exit(EXIT_USAGE, f"policyfs: `policy {words[0]}` has gone: {_GONE[words[0]]}\n")
    add_commands(parser, _ACTIONS, words)


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    add_at(parser)


@paused()  # garbage need not be collected: the process ends soon
def run_check(args: argparse.Namespace) -> int:
    """Check each policy, without regard to the other policies. Print all errors of all policies."""
    batch = Batch(sys.stdout)

    def load(path: str) -> tuple[Engine, list[SourceText]]:
        sources = read_sources(path)
        return load_policy(sources, at_ns=at_ns(args)), sources

    for path, (engine, sources) in batch.loaded(args.policy, load):
        policy = engine.policy
        print(f"{shown(path)}: fine; {_sum_up(policy)}")
        found = (*hints(engine), *dates(policy, at_ns(args)))
        for finding in not_silenced(found, policy, sources):
            print(line(finding), file=sys.stderr)
        args.kept.append(engine)
    return batch.code


def _sum_up(policy: Policy) -> str:
    counts = {effect: sum(rule.effect is effect for rule in policy.rules) for effect in Effect}
    requires = counts[Effect.REDACT] + counts[Effect.CONTENT] + counts[Effect.KEEP]
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
