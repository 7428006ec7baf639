"""The command `policyfs`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from policyfs import __version__
from policyfs.errors import EXIT_OK, EXIT_USAGE, PolicyfsError

_MODULES: Final = ("mount", "umount", "manage", "policy", "inspect", "audit", "quarantine", "doctor")
"""Modules of the commands, in the order of the help."""


def build_parser(first: str = "") -> argparse.ArgumentParser:
    """Build the whole command line. first: its first word, if it is known already.

    `mount` becomes a daemon, which is to hold nothing of the other commands.
    """
    parser = argparse.ArgumentParser(
        prog="policyfs",
        description="Mount a directory of media so that each app sees what a policy lets it see.",
    )
    parser.add_argument("--version", action="version", version=f"policyfs {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("mount",) if first == "mount" else _MODULES:
        importlib.import_module(f"policyfs.cli.{name}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return its exit code (0 fine, 1 refused or found something, 2 usage,
    3 policy does not compile); argparse leaves by SystemExit(2).
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(words[0] if words else "")
    if not words:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    options = parser.parse_args(words)
    try:
        code = options.run(options)
    except PolicyfsError as error:
        print(f"policyfs: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return EXIT_OK if code is None else int(code)


if __name__ == "__main__":
    sys.exit(main())
