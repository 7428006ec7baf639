"""`policyfs policy test` compares a policy's answers with the expected answers in its files of tests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from policyfs.cli.common.looking import kind_in_worker, opened
from policyfs.cli.common.policy_files import TEST_SUFFIX, read_sources, read_tests
from policyfs.errors import EXIT_OK, EXIT_POLICY_TESTS, UsageError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.cases.document import Case, parse_cases
from policyfs.policy.cases.report import Outcome
from policyfs.policy.cases.run import run
from policyfs.policy.exceptions import ALWAYS, in_force
from policyfs.policy.model import Policy
from policyfs.policy.text.sources import SourceText


def run_test(args: argparse.Namespace) -> int:
    """Run the tests of each policy. Return 4 if a test fails."""
    outcomes = [_outcome(path, args.tests) for path in args.policy]
    if args.json:
        print(json.dumps([outcome.as_json() for outcome in outcomes], indent=2))
    else:
        for outcome in outcomes:
            print(outcome.text())
    return EXIT_POLICY_TESTS if any(outcome.failed for outcome in outcomes) else EXIT_OK


def _outcome(path: str, named: list[str] | None) -> Outcome:
    files = [Path(name) for name in named] if named else beside(Path(path))
    if not files:
        read_sources(path)  # a policy that does not exist is another error
        where = Path(path)
        wanted = where / f"*{TEST_SUFFIX}" if where.is_dir() else where.with_suffix(TEST_SUFFIX)
        raise UsageError(f"{path} has no tests: write {wanted}, or name files of tests with --tests")
    return outcome_of(path, files)


def outcome_of(path: str, files: Sequence[Path]) -> Outcome:
    """Run the tests in *files* on the policy at a path. Return the outcome. Raises PolicyfsError."""
    return outcome_of_texts(path, load_policy(read_sources(path)).policy, read_tests(files))


def outcome_of_texts(path: str, policy: Policy, texts: Sequence[SourceText]) -> Outcome:
    """Run tests on a policy. Return the outcome. path: the name of the policy in it. Raises PolicyfsError."""
    whole = in_force(policy, ALWAYS)
    cases = parse_cases(texts, [app.name for app in policy.apps], frozenset(rule.id for rule in whole.rules))
    return Outcome(path, whole, list(run(policy, cases, path, _sniffer())))


def beside(policy: Path) -> list[Path]:
    """Return the files with a policy's tests: from the policy's directory, and from ``tests`` in it."""
    if policy.is_dir():
        return sorted([*policy.glob(f"*{TEST_SUFFIX}"), *policy.glob(f"tests/*{TEST_SUFFIX}")])
    name = f"{policy.stem}{TEST_SUFFIX}"
    return [file for file in (policy.with_name(name), policy.parent / "tests" / name) if file.is_file()]


def _sniffer() -> Callable[[Case], str | None]:
    def sniff(case: Case) -> str | None:
        content = case.doc.content or ""
        with opened(str(Path(case.where.file).parent / content)) as fd:
            return kind_in_worker(fd)

    return sniff


def add_test(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"The tests of home.yaml are in home{TEST_SUFFIX}, beside home.yaml or in the directory tests"
        f" beside it. The tests of a directory of policies are in all its *{TEST_SUFFIX}. The exit code"
        " is 4 if a test fails."
    )
    parser.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    parser.add_argument("--tests", action="append", metavar="FILE", help="a file of tests (may be repeated)")
    parser.add_argument("--json", action="store_true", help="one JSON array with an object for each policy")
