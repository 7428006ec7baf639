"""`policyfs policy`: a policy's errors and answers, before anything is mounted."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from collections.abc import Iterator

from policyfs.cli import (
    policy_diff,
    policy_init,
    policy_lint,
    policy_matrix,
    policy_replay,
    policy_schema,
    policy_test,
    policy_view,
    policy_who,
)
from policyfs.cli.looking import kind_in_worker, opened
from policyfs.cli.policy_caller import add_caller, caller_of, check_caller
from policyfs.cli.policy_files import UnreadableError, read_sources
from policyfs.domain import OWNER_NONE, Facts, FileType, Principal
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError, errno_name
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.explain import REQUESTS, Explanation, explain, open_refusal
from policyfs.policy.lint.hints import hints, line
from policyfs.policy.model import SELF, Effect, Policy
from policyfs.policy.parse import parse_policy

# ---------------------------------------------------------------- check


@paused()  # it ends soon, with all that it has made
def run_check(args: argparse.Namespace) -> int:
    """Check each policy by itself, and print all errors of all of them."""
    code = EXIT_OK
    for path in args.policy:
        try:
            engine = load_policy(read_sources(path))
        except UnreadableError as error:
            print(f"policyfs: {error}", file=sys.stderr)
            code = error.exit_code
        except PolicyErrors as errors:
            print(errors)
            code = errors.exit_code
        else:
            policy = engine.policy
            print(f"{path}: fine; {_sum_up(policy)}")
            for finding in hints(engine):
                print(line(finding), file=sys.stderr)
    return code


def _sum_up(policy: Policy) -> str:
    counts = {effect: sum(rule.effect is effect for rule in policy.rules) for effect in Effect}
    requires = counts[Effect.REDACT] + counts[Effect.CONTENT]
    proved = f", {_plural(len(policy.invariants), 'invariant')} proved" if policy.invariants else ""
    return (
        f"{_plural(len(policy.apps), 'app')}, {_plural(len(policy.rules), 'rule')}"
        f" ({counts[Effect.ALLOW]} allow, {counts[Effect.DENY]} deny, {requires} require)"
        f"{proved}, digest {policy.digest[:16]}"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# ---------------------------------------------------------------- explain


def run_explain(args: argparse.Namespace) -> int:
    """Print the answer to one request and its reasons. A denial is an answer too: exit code 0."""
    check_caller(args)
    engine = compile_policy(parse_policy(read_sources(args.policy)), monitor=args.monitor)
    who = caller_of(engine, args)
    path = os.fsencode(args.path)
    if not path.startswith(b"/"):
        raise UsageError(f"write the path from the root of the mount, such as /DCIM/a.jpg, not {args.path!r}")
    facts = _facts(engine.policy, who, args)
    explanation = explain(engine, who, args.op, path, _file_type(args), facts)
    refusal = open_refusal(explanation.decision, facts.kind)
    if args.json:
        print(json.dumps(_as_json(explanation) | {"open_denied": refusal}, indent=2))
    else:
        print(explanation.text())
        if refusal:
            print(f"  but the open is denied (EACCES): {refusal}")
        for hint in _hints(engine, explanation, facts, args):
            print(f"  {hint}")
    return EXIT_OK


def _hints(engine: Engine, explained: Explanation, facts: Facts, args: argparse.Namespace) -> Iterator[str]:
    """Yield hints where the answer is open because the question did not describe the file."""
    decision = explained.decision
    if decision.redact and facts.kind is None:
        yield "the app can open it only if policyfs can clean its kind; add --kind TYPE or --content FILE"
    if decision.errno == errno.ENOENT and not (args.directory or args.symlink) and facts.kind is None:
        who, path = caller_of(engine, args), explained.path
        if explain(engine, who, "see", path, FileType.DIRECTORY, facts).decision.allowed:
            yield "the app would see a directory of this name: ask again with --directory"


def _file_type(args: argparse.Namespace) -> FileType:
    if args.directory:
        return FileType.DIRECTORY
    return FileType.SYMLINK if args.symlink else FileType.REGULAR


def _facts(policy: Policy, who: Principal, args: argparse.Namespace) -> Facts:
    """Return the facts given on the command line; all others are unknown."""
    if args.kind is not None and not re.fullmatch(r"[a-z0-9_.+-]+/[a-z0-9_.+-]+", args.kind):
        raise UsageError(f"--kind is a MIME type in lower case, such as image/jpeg, not {args.kind!r}")
    kind = args.kind if args.content is None else _sniffed(args.content)
    owner = args.owner
    if args.former_owner is not None:
        return Facts(kind, args.former_owner)
    if owner == SELF:
        owner = who.app if who.app is not None else OWNER_NONE
    elif owner is not None and owner != OWNER_NONE and all(app.name != owner for app in policy.apps):
        raise UsageError(f"--owner is self, none or an app of the policy, not {owner!r}")
    return Facts(kind, owner)


def _sniffed(path: str) -> str | None:
    """Return the content kind of a file, found by the same confined workers as in a mount."""
    if os.geteuid() != 0:
        raise PolicyfsError("--content needs root, to start a worker without rights; or use --kind TYPE")
    with opened(path) as fd:
        return kind_in_worker(fd)


def _as_json(explanation: Explanation) -> dict[str, object]:
    decision = explanation.decision
    return {
        "request": explanation.request,
        "who": explanation.who,
        "path": explanation.path.decode("utf-8", "backslashreplace"),
        "allowed": decision.allowed,
        "errno": errno_name(decision.errno) if decision.errno else None,
        "redact": sorted(decision.redact),
        "content": [sorted(kinds) for kinds in decision.content],
        "quarantine": decision.quarantine,
        "bare": decision.bare,
        "audit": decision.audit.name.lower(),
        "rules": [
            {
                "id": line.rule,
                "effect": line.effect,
                "verdict": line.verdict,
                "reason": line.reason,
                "file": line.where.file,
                "line": line.where.line,
            }
            for line in explanation.lines
        ],
        "hidden_by": [
            {"directory": directory.decode("utf-8", "backslashreplace"), "rule": rule}
            for directory, rule in explanation.hidden_by
        ],
        "view": None if explanation.view is None else explanation.view.label,
        "io": explanation.io,
        "kernel": explanation.kernel,
    }


# ---------------------------------------------------------------- command line


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `policy` and its actions to the command line."""
    parser = subparsers.add_parser("policy", help="check, test, explain and compare policies")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="check that a policy compiles; print all its errors")
    check.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    check.set_defaults(run=run_check)

    asked = actions.add_parser(
        "explain",
        help="show the decision on one request, with its reasons",
        description="Prints the rules with their reasons, the way of the bytes, and what the kernel keeps.",
    )
    add = asked.add_argument
    add("policy", metavar="POLICY", help="a file, or a directory of *.yaml")
    add("path", metavar="PATH", help="the path within the mount, such as /DCIM/a.jpg")
    add("--op", default="read", metavar="REQUEST", help=f"one of {', '.join(REQUESTS)} (default: read)")
    add_caller(asked)
    what = asked.add_argument_group("file (unknown if not given)")
    form = what.add_mutually_exclusive_group()
    form.add_argument("--directory", action="store_true", help="a directory")
    form.add_argument("--symlink", action="store_true", help="a symbolic link")
    content = what.add_mutually_exclusive_group()
    content.add_argument("--kind", metavar="TYPE", help="a file of this kind, such as image/jpeg")
    content.add_argument("--content", metavar="FILE", help="a file with the same content as FILE")
    owner = what.add_mutually_exclusive_group()
    owner.add_argument("--owner", metavar="APP", help="the owner: an app, self or none")
    owner.add_argument("--former-owner", metavar="NAME", help="an owner that is no app any more")
    add("--monitor", action="store_true", help="decide like a mount with --monitor")
    add("--json", action="store_true", help="one JSON object")
    asked.set_defaults(run=run_explain)
    policy_diff.add_parser(actions)
    policy_lint.add_parser(actions)
    policy_test.add_parser(actions)
    policy_replay.add_parser(actions)
    policy_schema.add_parser(actions)
    policy_view.add_parser(actions)
    policy_matrix.add_parser(actions)
    policy_who.add_parser(actions)
    policy_init.add_parser(actions)
