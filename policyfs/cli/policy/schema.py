"""`policyfs policy schema`: prints a JSON Schema, with which editors check policies."""

from __future__ import annotations

import argparse
import json

from policyfs.errors import EXIT_OK
from policyfs.policy.schema import KINDS, schema


def run_schema(args: argparse.Namespace) -> int:
    """Print the JSON Schema of policies, or of one of the other kinds of files."""
    print(json.dumps(schema(args.kind), indent=1))
    return EXIT_OK


def add_schema(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a JSON Schema. With the schema, YAML editors complete keys and mark faults."
        " `policy check` checks more."
    )
    kind_help = f"the kind of file: {', '.join(KINDS)} (default: {KINDS[0]})"
    parser.add_argument("kind", nargs="?", choices=KINDS, default=KINDS[0], metavar="KIND", help=kind_help)
