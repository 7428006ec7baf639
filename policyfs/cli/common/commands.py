"""Tables of commands: the name of each command, its module, and its help text."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

Run = Callable[[argparse.Namespace], int | None]
_OUTLINE: Final = frozenset({"-h", "--help", "--version"})


def add_commands(
    parser: argparse.ArgumentParser, table: Mapping[str, tuple[str, str]], words: Sequence[str], *,
    dest: str = "action", parents: Sequence[argparse.ArgumentParser] = (),
    guard: Callable[[Run], Run] = lambda run: run,
) -> None:  # fmt: skip
    """Add the commands of a table to a command line, in this order.

    The module of a command NAME (with _ for -) has two functions: add_NAME(parser) adds its arguments, and
    run_NAME(args), which passes through *guard*, runs it and returns the exit code. A group of commands has
    only add_NAME(parser, words). words: the user's. If the first is in the table, only its module is
    imported, for --help none: all take most of a second, and a daemon must not keep them in memory.
    """
    first, *more = words or [""]
    subparsers = parser.add_subparsers(dest=dest, required=True, metavar=dest.upper())
    for name in [first] if first in table else table:
        module, help_ = table[name]
        command = subparsers.add_parser(name, help=help_, parents=parents)
        if first in _OUTLINE:
            continue
        functions, word = vars(importlib.import_module(f"policyfs.cli.{module}")), name.replace("-", "_")
        if run := functions.get(f"run_{word}"):
            command.set_defaults(run=guard(run))
        functions[f"add_{word}"](command, *([] if run else [more]))
