"""`policyfs policy matrix`: a table with the operations that each app may use at each path."""

from __future__ import annotations

import argparse
import json
import sys
import time

from policyfs.cli.common.colour import columns, wanted
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.quantities import count
from policyfs.cli.common.time_bound import bounded
from policyfs.cli.policy.matrix_text import as_json, text_of
from policyfs.errors import EXIT_OK, PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.matrix import MAX_GLOBS, matrix
from policyfs.policy.explain.exemption import who_text
from policyfs.policy.globs.classes import TooHardError
from policyfs.trail.lines.table import shown


def run_matrix(args: argparse.Namespace) -> int:
    """Print the matrix of a policy (rows of paths, columns of callers)."""
    policy = load_policy(read_sources(args.policy), at_ns=time.time_ns()).policy
    try:
        with bounded():
            found = matrix(policy)
    except TooHardError as error:
        raise PolicyfsError(
            f"the policy has too many different paths for a matrix. Use fewer globs (at most {MAX_GLOBS:,})"
            " and fewer wildcards in a row. If a glob has {uid}, use fewer numbers as names in other globs"
        ) from error
    if args.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print(text_of(found, args.width or columns(), colours=wanted(sys.stdout)))
        for rule in policy.rules:
            if rule.limit is not None:
                who = "everyone" if rule.who is None else who_text(rule.who)
                print(f"{rule.id}: at most {rule.limit} are removed, overwritten or renamed by {shown(who)}")
    return EXIT_OK


def add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows which operations on regular files the policy allows to each caller. Paths that are decided"
        " alike for all callers are one row. The answers are exact."
    )
    add = parser.add_argument
    add("policy", metavar="POLICY", help="a file, or a directory of *.yaml")
    add("--width", type=count, metavar="N", help="the width in columns (default: the terminal's)")
    add("--json", action="store_true", help="one JSON object")
