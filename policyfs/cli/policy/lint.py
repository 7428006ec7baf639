"""`policyfs policy lint`: find probable mistakes in a policy."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from policyfs.cli.common.instants import add_at, at_ns
from policyfs.cli.common.near_names import literal_names, near_names
from policyfs.cli.common.policy_files import Batch, read_sources
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.globs.paths import parse_glob
from policyfs.policy.lint.costs import Costs, costs
from policyfs.policy.lint.findings import Finding, excerpt, on_rule
from policyfs.policy.lint.lint import Report, lint
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown


@paused()  # garbage need not be collected: the process ends soon
def run_lint(args: argparse.Namespace) -> int:
    """Print the probable mistakes in each policy. Return 1 if no comment in it silences one."""
    batch = Batch(sys.stderr if args.json else sys.stdout)
    told = []

    def load(path: str) -> tuple[list[SourceText], Engine]:
        sources = read_sources(path)
        return sources, load_policy(sources, at_ns=at_ns(args))

    for path, (sources, engine) in batch.loaded(args.policy, load):
        more = [] if args.store is None else list(_absent(engine, args.store))
        report = lint(engine, sources, more, at_ns=at_ns(args))
        if report.findings:
            batch.refuse()
        if args.json:
            told.append(_as_json(path, report, costs(engine)))
        else:
            _show(path, report, sources, costs(engine))
        args.kept += (engine, report)
    if args.json:
        print(json.dumps(told, indent=2))
    return batch.code


def _show(path: str, report: Report, sources: list[SourceText], cost: Costs) -> None:
    for finding in report.findings:
        print(f"{excerpt(finding, sources)}\n")
    if line := cost.line():
        print(line)
    count = len(report.findings)
    silenced = f", {len(report.silenced)} silenced" if report.silenced else ""
    print(f"{shown(path)}: {count or 'no'} finding{'' if count == 1 else 's'}{silenced}")


def _as_json(path: str, report: Report, cost: Costs) -> dict[str, object]:
    return {
        "policy": path,
        "findings": [_finding(finding) for finding in report.findings],
        "silenced": [_finding(one.finding) | {"because": one.reason} for one in report.silenced],
        "not_kept": cost._asdict(),
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.id,
        "file": finding.where.file,
        "line": finding.where.line,
        "column": finding.where.column,
        "subject": finding.subject,
        "message": finding.message,
        "help": finding.todo,
    }


def _absent(engine: Engine, store: str) -> Iterator[Finding]:
    """Yield a finding for each rule with a path that does not exist in the store. Raises PolicyfsError."""
    if not Path(store).is_dir():
        raise PolicyfsError(f"{store} is not a directory; name the store, the directory with your files")
    near = {(one.rule.id, one.glob): one for one in near_names(engine.policy, store)}
    for rule in engine.policy.rules:
        for text in rule.paths or ():
            missing = None if rule.ignore_case else _missing(text, store)
            close = near.get((rule.id, text))
            if missing is not None:
                told = f"{text}: {store} has no {missing}"
                todo = "correct the path; if apps will make the directory later, change nothing"
                if close is not None:
                    told = f"{told}, but has {json.dumps(close.path)}"
                    todo = "write the name as the store has it"
                yield on_rule("not-in-store", rule, told, todo)
                break
            if close is not None:
                todo = "if this name is meant, too, add a glob with it"
                yield on_rule("spelling", rule, close.message, todo)
                break


def _missing(text: str, store: str) -> str | None:
    """Return the beginning of a glob that does not exist in the store, up to the first missing name."""
    at, way = Path(store), ""
    for name in literal_names(parse_glob(text)):
        at, way = at / name, f"{way}/{name}"
        if not os.path.lexists(at):
            return way
    return None


def add_lint(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints findings on policies that compile. To silence a finding, write a comment into the rule or"
        " app, or on the line above: # lint: ignore ID because REASON. The exit code is 1 if findings"
        " remain."
    )
    parser.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    parser.add_argument("--store", metavar="DIR", help="also report paths that this store does not have")
    add_at(parser)
    parser.add_argument("--json", action="store_true", help="one JSON array with an object for each policy")
