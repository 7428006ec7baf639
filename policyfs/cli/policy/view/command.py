"""`policyfs policy view`: a store as one app would see it."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from policyfs.cli.common.colour import columns
from policyfs.cli.common.near_names import near_names
from policyfs.cli.common.on_record import trail_root
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.progress import count
from policyfs.cli.common.quantities import number
from policyfs.cli.policy.caller import add_caller, caller_of, check_caller
from policyfs.cli.policy.view.picture import Picture
from policyfs.cli.policy.view.text import as_json, text_of
from policyfs.domain import Principal
from policyfs.errors import EXIT_OK, PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine

_ALIKE = 10
_MOST = 50_000
_SAMPLES = 5


def run_view(args: argparse.Namespace) -> int:
    """Print the tree of files that one caller would see."""
    check_caller(args)
    engine = load_policy(read_sources(args.policy), monitor=args.monitor, at_ns=time.time_ns())
    who = caller_of(engine, args)
    if os.geteuid() != 0:
        raise PolicyfsError(
            "a view needs root, to read all files and their owners, and to start workers without rights;"
            " run this command with sudo"
        )
    picture = Picture(who.label, args.store, args.policy, engine.digest)
    count(args, "names", picture.entries)
    _fill(picture, args, engine, who)
    picture.near += (f"{one.rule.id}: {one.message}" for one in near_names(engine.policy, args.store))
    if args.json:
        print(json.dumps(as_json(picture), indent=2))
    else:
        print(text_of(picture, columns()))
    return EXIT_OK


def _fill(picture: Picture, args: argparse.Namespace, engine: Engine, who: Principal) -> None:
    import trio

    from policyfs.cli.common.looking import start_sniffer
    from policyfs.cli.policy.view.walk import Limits, Walk
    from policyfs.store.facts import probe
    from policyfs.store.owner import Owners
    from policyfs.store.tree import Tree

    try:
        tree = Tree.open(os.path.realpath(args.store))
    except OSError as error:
        raise PolicyfsError(f"cannot open the store {args.store}: {error.strerror}") from error
    with tree:
        facts = probe(tree.root_fd)
        facts.check(args.store)
        database = Path(trail_root(args.trail)) / "owners.sqlite"
        known = facts.stable_inodes and database.exists()
        owners = Owners(facts.trusted_xattr, str(database) if known else None)
        sniffer = start_sniffer()
        limits = Limits(most=args.most, alike=args.alike, samples=args.samples)
        try:
            trio.run(Walk(tree, engine, who, owners, sniffer, limits).run, picture)
        finally:
            owners.close()
            sniffer.close()


def add_view(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Decides on the names in STORE as a mount would. Opens some files of each extension, to find the"
        " data that a redaction removes from these files. Nothing is mounted."
    )
    add = parser.add_argument
    add("store", metavar="STORE", help="the directory with your files")
    add("--policy", required=True, metavar="P", help="a policy file, or a directory of *.yaml")
    add_caller(parser)
    help_ = "permit what the policy denies to its apps, as under mount --monitor"
    add("--monitor", action="store_true", help=help_)
    help_ = "the trail root of the store's mounts: it may hold the owners of files"
    add("--trail", metavar="DIR", help=help_)
    text = f"for each extension, open N files to test redaction (default: {_SAMPLES}; 0: all)"
    add("--samples", type=number, default=_SAMPLES, metavar="N", help=text)
    text = f"in each directory, show N of the files that the policy treats alike (default: {_ALIKE}; 0: all)"
    add("--alike", type=number, default=_ALIKE, metavar="N", help=text)
    text = f"look at N names at most (default: {_MOST}; 0: all)"
    add("--most", type=number, default=_MOST, metavar="N", help=text)
    add("--json", action="store_true", help="one JSON object")
