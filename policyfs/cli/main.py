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
from policyfs.policy.collector import left_to_the_kernel

_MODULES: Final = {
    "mount": {"mount": "mount a store"},
    "run": {"run": "run a command with an app's mount in place of the store"},
    "site": {"up": "make all mounts of a site", "down": "unmount all mounts of a site"},
    "site_units": {
        "unit": "write systemd units for a site",
        "compose": "print the volumes of a site for a compose file",
    },
    "umount": {"umount": "unmount a mount, also if its daemon has ended"},
    "manage": {
        "status": "show the state of mounts",
        "reload": "load the policy again; a policy with errors changes nothing",
    },
    "policy": {"policy": "check, test, explain and compare policies"},
    "inspect": {"inspect": "show the data in a file that policyfs can hide"},
    "audit": {"audit": "read, search and verify the trail"},
    "quarantine": {"quarantine": "list, show, release or drop refused files"},
    "owner": {"owner": "show, set, export and import the owners of files"},
    "doctor": {"doctor": "list what is slow or impossible on this machine, with remedies"},
}
"""A dictionary from each module to its commands, each with its help text. The help lists the commands in this
order."""

_WITH_ACTIONS: Final = frozenset({"audit", "policy"})
"""The commands whose second word is an action, such as `audit tail`. Only the module of this action is
imported."""

_OUTLINE: Final = frozenset({"-h", "--help", "--version"})


def build_parser(first: str = "", second: str = "") -> argparse.ArgumentParser:
    """Build the parser of the command line. first, second: the first two words of the user's command.

    If *first* is a command, only the module of this command is imported. To import all modules takes most of
    a second. And `mount` becomes a daemon, which must not keep other commands in memory. If *first* is
    --help, no module is imported. If *first* is empty, all modules are imported.
    """
    parser = argparse.ArgumentParser(
        prog="policyfs",
        description="Mount a directory of media so that each app sees what a policy lets it see.",
    )
    parser.add_argument("--version", action="version", version=f"policyfs {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = [module for module, commands in _MODULES.items() if first in commands]
    if first in _OUTLINE:
        for commands in _MODULES.values():
            for name, help_ in commands.items():
                subparsers.add_parser(name, help=help_)
    else:
        for module in wanted or _MODULES:
            made = importlib.import_module(f"policyfs.cli.{module}")
            made.add_parser(subparsers, *([second] if module in _WITH_ACTIONS else []))
    return parser


def process() -> int:
    """Run the command of this process. Return the exit code (see main).

    The process must end after this call, because large objects of the command stay in memory.
    """
    _open_standard_streams()
    kept: list[object] = []
    code = main(kept=kept)
    if kept:
        left_to_the_kernel(*kept)
    return code


def _open_standard_streams() -> None:
    """Open /dev/null in place of standard input, output or error, if the caller has closed it.

    INVARIANT: this comes before any other file is opened. Otherwise that file, such as the trail, would get
    the number of the stream, and printed text would be written into the file.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
            setattr(sys, name, stream)


def main(arguments: Sequence[str] | None = None, kept: list[object] | None = None) -> int:
    """Run one command.

    Return its exit code: 0 success, 1 refused or something found, 2 wrong usage, 3 the policy does not
    compile, 4 policy tests failed. argparse itself ends with SystemExit(2). kept: a list to which the command
    adds its large objects. So Python does not free them when this function returns, which would take long.
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(*words[:2]) if words else build_parser("--help")
    if not words:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    options = parser.parse_args(words)
    options.kept = [] if kept is None else kept
    try:
        code = options.run(options)
    except PolicyfsError as error:
        print(f"policyfs: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of the output (head, less) has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return EXIT_OK if code is None else int(code)


if __name__ == "__main__":
    sys.exit(process())
