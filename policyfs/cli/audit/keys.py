"""`policyfs audit key`: the keys that sign a trail, and the signed end of each mount's trail."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from policyfs.cli.audit.query import chains_of
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.directories import key_directory
from policyfs.journal.files.segments import Chain
from policyfs.linux.private_files import append_lines
from policyfs.trail.lines.table import shown


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=("show", "rotate", "checkpoint"),
        metavar="show|rotate|checkpoint",
        help="show the keys, make a new one, or print the signed end of each chain (a checkpoint)",
    )
    help_ = "append the checkpoint to this file, best on another disk or machine"
    parser.add_argument("--append", metavar="FILE", help=help_)


def run_key(args: argparse.Namespace) -> int:
    """Show the keys that sign the trails, make a new key, or print a checkpoint. Raises PolicyfsError."""
    if args.what == "checkpoint":
        return checkpoint(chains_of(args), args.append)
    if args.append is not None:
        raise UsageError("--append needs checkpoint")
    return key(args.what, as_json=args.json)


def key(what: str, *, as_json: bool) -> int:
    """Show the trails' keys, or make a new one, signed with the old. Raises PolicyfsError."""
    from policyfs.journal.sealing.keys import KeyStore, is_signed
    from policyfs.trail.chain.seal import read_keys

    store = KeyStore(key_directory())
    try:
        lines = store.rotate().lines if what == "rotate" else store.public()
    except OSError as exc:
        raise _refused(store.directory, exc) from exc
    if not lines:
        where = shown(str(store.directory))
        print(f"policyfs: no key in {where} yet: the first mount makes the key", file=sys.stderr)
        return EXIT_REFUSED
    chain = read_keys(lines.splitlines(keepends=True), is_signed)
    for one in chain.keys:
        newest = one == chain.keys[-1]
        if as_json:
            print(json.dumps({**one._asdict(), "public": one.public.hex(), "newest": newest}))
        else:
            print(f"{one.number:>3}  {one.key}  {one.made[:19]}Z  {'signs' if newest else 'replaced'}")
    if chain.wrong:
        where = shown(str(store.directory))
        print(f"policyfs: the keys in {where} are not valid: {chain.wrong}", file=sys.stderr)
    return EXIT_REFUSED if chain.wrong else EXIT_OK


def _refused(directory: Path, exc: OSError) -> PolicyfsError:
    reason = exc.strerror or str(exc)
    return PolicyfsError(
        f"cannot use the keys in {directory}: {reason}; only root can use the keys, see docs/audit.md"
    )


def checkpoint(chains: list[Chain], append: str | None) -> int:
    """Print the signed end of each chain (the trail of one mount). append: the path of a file; append the
    signed ends to it, and do not print them. None: print. Raises PolicyfsError."""
    from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
    from policyfs.journal.sealing.keys import KeyStore

    store = KeyStore(key_directory())
    try:
        signer = store.signer()
    except OSError as exc:
        raise _refused(store.directory, exc) from exc
    lines, broken = [], []
    for chain in chains:
        line = checkpoint_of_chain(chain, signer)
        if line is None:
            broken.append(chain.mount_id)
        else:
            lines.append(line)
    if append is None:
        sys.stdout.write(b"".join(lines).decode("ascii"))
    else:
        try:
            append_lines(append, b"".join(lines))
        except OSError as exc:
            raise PolicyfsError(f"cannot write {append}: {exc.strerror}") from exc
        print(f"added the ends of {len(lines)} chains to {shown(str(append))}")
    for name in broken:
        why = "its trail is empty or damaged; run `policyfs audit verify`"
        print(f"policyfs: no checkpoint of {shown(name)}: {why}", file=sys.stderr)
    return EXIT_REFUSED if broken or not lines else EXIT_OK
