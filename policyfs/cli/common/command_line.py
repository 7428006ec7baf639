"""The parser of the command line: what it says of a wrong one fits on two lines."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

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
