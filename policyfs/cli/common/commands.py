"""The parser of the command line, and tables of commands: the name of each, its module, and its help text."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from policyfs.errors import EXIT_USAGE


class CommandLine(argparse.ArgumentParser):
    """An argparse parser whose errors name the command, a similar word, and only what the command needs."""

    def error(self, message: str) -> NoReturn:
        """Print the error, and the arguments that cannot be left out. Ends with SystemExit(2)."""
        needed = [action for action in self._actions if action.required or not action.option_strings]
        usage = argparse.HelpFormatter(self.prog, width=10_000)
        usage.add_usage(None, needed, ())
        more = "" if needed == self._actions else f" ({self.prog} --help: all options)"
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n{usage.format_help().strip()}{more}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments. What is left over is an error of this command, not of the one above."""
        options, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return options, left

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            import difflib  # only here: a daemon is not to keep it

            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            if near:
                error.message += f"; did you mean {near[0]!r}?"
            raise


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
