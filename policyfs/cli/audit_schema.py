"""`policyfs audit schema`: the JSON Schema of the lines of a trail."""

from __future__ import annotations

import argparse
import json

from policyfs.errors import EXIT_OK
from policyfs.trail.schema import line_schema


def add_parsers(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the action `schema` to `policyfs audit`."""
    actions.add_parser("schema", parents=[common], help="print the JSON Schema of the lines of a trail")


def run(_args: argparse.Namespace) -> int:
    """Print the JSON Schema of the lines of a trail."""
    print(json.dumps(line_schema(), indent=2))
    return EXIT_OK
