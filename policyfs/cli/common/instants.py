"""The option --at: a time. Exceptions (allow rules of a policy with an end date) that end after this time are
in force."""

from __future__ import annotations

import argparse
import time

from pydantic_core import PydanticCustomError

from policyfs.policy.text.values import EXAMPLE_INSTANT, instant


def add_at(parser: argparse.ArgumentParser) -> None:
    """Add the option --at (a time) to a command."""
    help_ = f"use the exceptions that have not ended at this time, such as {EXAMPLE_INSTANT} (default: now)"
    parser.add_argument("--at", type=_instant, metavar="TIME", help=help_)


def at_ns(args: argparse.Namespace) -> int:
    """Return the time that --at gives, or the present time, in ns since 1970."""
    given = getattr(args, "at", None)
    return given if isinstance(given, int) else time.time_ns()


def _instant(word: str) -> int:
    try:
        return instant(word)
    except PydanticCustomError as fault:
        context = fault.context or {}
        raise argparse.ArgumentTypeError(f"{context['message']}: {context['help']}") from fault
