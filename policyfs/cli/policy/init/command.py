"""`policyfs policy init` writes a small, commented policy and its tests.

It first asks the user a few questions.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from policyfs.cli.common.output import write_new
from policyfs.cli.common.policy_files import TEST_SUFFIX
from policyfs.cli.policy.init.draft import Draft, policy_text
from policyfs.cli.policy.init.draft_tests import cases_text
from policyfs.cli.policy.init.questions import Questions
from policyfs.cli.policy.init.survey import survey
from policyfs.cli.policy.init.wishes import MEANINGS, Level, Wish, check, named, notes, share, wish_of
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.trail.lines.table import shown, word


def run_init(args: argparse.Namespace) -> int:
    """Write a policy file and a file of its tests. If the tests cannot be written, remove the policy file."""
    policy = Path(args.policy)
    if policy.suffix != ".yaml":
        raise UsageError(f"name a file that ends with .yaml, such as home.yaml, not {args.policy}")
    tests = policy.with_suffix(TEST_SUFFIX)
    for file in (policy, tests):
        if os.path.lexists(file):
            raise PolicyfsError(f"{file} is there already, and is not overwritten; choose another name")
    there = survey(args.store)
    if not there:
        raise PolicyfsError(f"{args.store} has no directories to share; make directories, such as Photos")
    if args.app:
        wishes = _by_options(args, [directory.name for directory in there])
    elif args.read or args.add or args.edit or args.everything or args.places:
        raise UsageError("name each app with --app, too, such as --app gallery")
    else:
        wishes = Questions().wishes(there)
    check(wishes)
    draft = Draft(shown(policy.stem), word(str(policy)), word(args.store), wishes, there)
    write_new({str(policy): policy_text(draft), str(tests): cases_text(draft)})
    print(f"wrote {shown(str(policy))} and its tests, {shown(str(tests))}")
    for note in notes(wishes):
        print(f"note: {note}")
    print(f"next: policyfs policy test {word(str(policy))}")
    return EXIT_OK


def _by_options(args: argparse.Namespace, there: list[str]) -> list[Wish]:
    wishes = [wish_of(text) for text in args.app]
    for level, texts in ((Level.READ, args.read), (Level.ADD, args.add), (Level.EDIT, args.edit)):
        for text in texts:
            share(wishes, text, level, there)
    for name in args.everything:
        named(wishes, name).whole = True
    for name in args.places:
        named(wishes, name).places = True
    return wishes


def add_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Looks at the store, asks what is to be shared and with whom (or takes options), and writes"
        " POLICY and its tests. Overwrites nothing."
    )
    add = parser.add_argument
    add("policy", metavar="POLICY", help="the file to write, such as home.yaml")
    add("--store", required=True, metavar="DIR", help="the directory with your files")
    add(
        "--app", action="append", default=[], metavar="NAME[=USER]",
        help="an app, and its user or uid (default: the user NAME)",
    )  # fmt: skip
    for level, meaning in MEANINGS.items():
        add(
            f"--{level.value}", action="append", default=[], metavar="NAME:DIR[,DIR]",
            help=f"let an app {meaning} below these directories",
        )  # fmt: skip
    add(
        "--everything", action="append", default=[], metavar="NAME",
        help="let an app read all files of the store unchanged, as a backup must",
    )  # fmt: skip
    add(
        "--places", action="append", default=[], metavar="NAME",
        help="let an app know where pictures were taken",
    )  # fmt: skip
