"""`policyfs audit show --policy`: the policies that the events of a trail name, and their texts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from policyfs.cli.audit.policies import copies_of
from policyfs.cli.audit.query import chains_of, zone_of
from policyfs.cli.common.colour import columns
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.journal.files.policy_texts import POLICIES, read_policy
from policyfs.journal.files.reader import Chain, records
from policyfs.trail.chain.verification import Break
from policyfs.trail.lines.record import Place, Record
from policyfs.trail.lines.table import shown
from policyfs.trail.query.query import merge
from policyfs.trail.text.render import RowPrinter

_KINDS: Final = ("mount", "policy")
_STARTS: Final = tuple(f'{{"type":"{kind}",'.encode() for kind in _KINDS)


def show_policy(args: argparse.Namespace) -> int:
    """Print the policies that were in force, each with its time, or the text of one policy."""
    chains, rows = chains_of(args), RowPrinter(columns(), zone_of(args))
    return _text(chains, args.policy) if args.policy else _list(chains, rows, as_json=args.json)


def _list(chains: list[Chain], rows: RowPrinter, *, as_json: bool) -> int:
    found = EXIT_REFUSED
    for item in merge([records(chain, lambda raw: raw.startswith(_STARTS)) for chain in chains]):
        if isinstance(item, Record):
            found = EXIT_OK
            print(json.dumps({"id": item.id, **item.fields}) if as_json else rows.row(item))
    if found != EXIT_OK:
        print("policyfs: the trail records no start of a mount", file=sys.stderr)
    return found


def _text(chains: list[Chain], digest: str) -> int:
    found = {kept: copies for kept, copies in copies_of(chains).items() if kept.startswith(digest)}
    if len(found) != 1:
        which = "no" if not found else "more than one"
        print(f"policyfs: the trail keeps {which} policy {shown(digest)}", file=sys.stderr)
        return EXIT_REFUSED
    from policyfs.policy.text.parse import digest_of

    [(kept, directories)] = found.items()
    copies = [read_policy(directory, kept) for directory in directories]
    files = next((copy for copy in copies if digest_of(text for _, text in copy) == kept), None)
    if files is None:
        print(
            f"policyfs: the text of policy {kept} was changed after policyfs kept the text", file=sys.stderr
        )
        return EXIT_REFUSED
    sys.stdout.flush()
    for path, text in files:
        if len(files) > 1:
            sys.stdout.write(f"# {shown(Path(path).name)}\n")
        sys.stdout.write(text.decode("utf-8", "backslashreplace"))
    return EXIT_OK


def wrong_texts(directory: Path, named: Mapping[str, Place]) -> tuple[list[Break], list[Break]]:
    """Check the texts of policies that the trail keeps.

    Return two lists of faults: changed texts, and missing texts. named: a dictionary from the digest of each
    policy to the place of a record that names the policy.
    """
    from policyfs.policy.text.parse import digest_of

    changed, missing = [], []
    for digest, place in named.items():
        name = f"the text of policy {shown(digest[:16])} ({POLICIES}/)"
        try:
            texts: Iterable[bytes] = [text for _, text in read_policy(directory, digest)]
        except OSError:
            missing.append(Break(place, f"{name} is missing: copy it together with the segments"))
            continue
        if digest_of(texts) != digest:
            changed.append(Break(place, f"{name} was changed"))
    return changed, missing
