"""`policyfs policy fmt`: rewrites policies, tests and accepted changes in canonical form."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from pathlib import Path

from policyfs.cli.common.output import replace_file
from policyfs.cli.common.policy_files import TEST_SUFFIX, Batch, read_sources, read_tests
from policyfs.errors import PolicyfsError, UsageError
from policyfs.policy.layout.canonical import canonical
from policyfs.policy.layout.meaning import meaning
from policyfs.policy.text.parse import SourceText
from policyfs.trail.lines.table import shown


def run_fmt(args: argparse.Namespace) -> int:
    """Write files in canonical form (the standard layout). With --stdout, print the canonical form instead.
    With --check, print the changes instead, and return 1 if there are any."""
    batch = Batch(sys.stderr if args.stdout else sys.stdout)
    for path, found in batch.loaded(args.policy, _formatted):
        if args.stdout and len(found) > 1:
            raise UsageError(f"{path} has several files: name one of them for --stdout")
        for before, after in found:
            if args.stdout:
                print(after, end="")
            elif before.text != after.encode() and args.check:
                batch.refuse()
            if not args.stdout:
                _finish(before, after, check=args.check)
    return batch.code


def _formatted(path: str) -> list[tuple[SourceText, str]]:
    """Return each file of a policy with its text in canonical form. Raises PolicyfsError."""
    sources = read_sources(path)
    if Path(path).is_dir():
        sources += read_tests(sorted(Path(path).glob(f"*{TEST_SUFFIX}")))
    before = meaning(sources, prove=True)
    found = [(source, canonical(source.text.decode())) for source in sources]
    after = meaning([SourceText(source.name, text.encode()) for source, text in found], prove=False)
    if before != after:
        raise PolicyfsError(
            f"{path}: the canonical form would change the policy's meaning, so policyfs did not write this"
            " policy. This is a bug: please report it"
        )
    return found


def _finish(before: SourceText, after: str, *, check: bool) -> None:
    """Write the text in canonical form to its file. With *check*, print the difference instead."""
    if before.text == after.encode():
        return
    if check:
        lines = before.text.decode().splitlines(keepends=True), after.splitlines(keepends=True)
        print("".join(difflib.unified_diff(*lines, before.name, f"{before.name} (canonical)")), end="")
        return
    path = Path(os.path.realpath(before.name))
    try:
        replace_file(path, after.encode(), known=before.text)
    except OSError as error:
        raise PolicyfsError(f"cannot write {path}: {error.strerror}") from error
    print(f"{shown(before.name)}: written in canonical form")


def add_fmt(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Puts keys into their order, and makes quotes, indentation and blank lines the same everywhere."
        " Each comment stays at its rule or key. The command checks that the meaning stays the same."
    )
    parser.add_argument("policy", nargs="+", metavar="POLICY", help="a file, or a directory of *.yaml")
    which = parser.add_mutually_exclusive_group()
    help_ = "print the changes, and make none; exit code 1 if there are changes"
    which.add_argument("--check", action="store_true", help=help_)
    which.add_argument("--stdout", action="store_true", help="print the canonical form, and change no file")
