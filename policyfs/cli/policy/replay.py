"""`policyfs policy replay`: the answers that another policy would have given to the requests of a trail."""

from __future__ import annotations

import argparse
import functools
import json

from policyfs.cli.audit.names import check_names
from policyfs.cli.audit.query import add_query, finish, hole_fields, holes_of, opened
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.policy.recorded_requests import RecordedRequests, Sighting
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import ALWAYS, ends
from policyfs.policy.replay.replay import Replayer
from policyfs.policy.replay.report import Example, Report


def run_replay(args: argparse.Namespace) -> int:
    """Print the requests that the other policy answers otherwise. Return 1 if it allows more or less."""
    engine = load_policy(read_sources(args.policy))
    if args.monitor:
        engine = compile_policy(engine.policy, monitor=True)
    trail, wanted = opened(args)
    check_names(trail, wanted)
    requests = RecordedRequests(trail, wanted, ends([engine.policy], ALWAYS))
    report = Report()
    replayer = Replayer(engine, requests.engine)
    for one in requests:
        verdict = replayer.decide(replayer.asked(one.recorded), one.path, one.new_path, empty=one.empty)
        report.add(one.recorded, verdict, one.weight, functools.partial(_example, one))
    report.left_out.update(requests.left_out)
    if args.json:
        holes = hole_fields(holes_of(trail, wanted))
        print(json.dumps({"policy": engine.digest, **report.as_json(), "holes": holes}, indent=2))
    else:
        print(report.text())
    return finish(trail, EXIT_REFUSED if report.moves else EXIT_OK, wanted)


def _example(one: Sighting) -> Example:
    return Example(one.path, one.new_path, one.id())


def add_replay(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Decides the recorded requests again, and counts and groups the answers that would change. If an"
        " answer depends on facts that the trail does not have, the request counts as undecidable. The"
        " exit code is 1 if the policy would allow more, or less."
    )
    add = parser.add_argument
    add("trail", metavar="TRAIL", help="a trail root, or the trail of one mount")
    add("--policy", required=True, metavar="NEW", help="a file, or a directory of *.yaml")
    add_query(parser, named=True)
    help_ = "permit what the policy denies to its apps, as under mount --monitor"
    add("--monitor", action="store_true", help=help_)
    add("--json", action="store_true", help="one JSON object")
