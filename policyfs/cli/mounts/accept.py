"""`policyfs accept`: make what is at a path the store, although it is not what was mounted last."""

from __future__ import annotations

import argparse
import os

from policyfs.errors import EXIT_OK
from policyfs.store.store_record import accept_store
from policyfs.trail.lines.table import shown


def add_accept(parser: argparse.ArgumentParser) -> None:
    parser.description = "Accept what is at STORE now, although it is not what was mounted from there last."
    parser.add_argument("store", metavar="STORE")


def run_accept(args: argparse.Namespace) -> int:
    """Record what is at the store's path, and print what is different."""
    differences = accept_store(os.path.realpath(args.store))
    for line in differences or ["no difference"]:
        print(f"{shown(args.store)}: {line}: accepted")
    return EXIT_OK
