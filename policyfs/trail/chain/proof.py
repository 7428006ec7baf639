"""Proofs that one line was in a sealed (signed) segment, without its other lines (pure)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import ENTRY_BYTES, path_of, root_by_path
from policyfs.trail.chain.seal import Check, KeyChain, Seal, entries_of, read_keys, read_seal


class Checked(NamedTuple):
    """The result of the check of a proof. seal: the statement about the line's segment, or None. wrong: why
    it is not valid."""

    line: str
    seal: Seal | None
    keys: KeyChain
    wrong: str


def make_proof(lines: Sequence[bytes], index: int, previous: str, seal: bytes, keys: bytes) -> str:
    """Return a proof (JSON) for the line at *index*. lines: all that the segment's seal covers. previous: the
    digest of the line before it. seal, keys: the contents of the seal's file and of ``keys.public``."""
    proof = {
        "type": "proof",
        "format": 1,
        "line": lines[index].decode(errors="replace").removesuffix("\n"),
        "previous": previous,
        "index": index,
        "path": [step.hex() for step in path_of(entries_of(lines), index)],
        "seal": seal.decode(errors="replace").removesuffix("\n"),
        "keys": keys.decode(errors="replace").splitlines(),
    }
    return json.dumps(proof)


def check_proof(text: str, check: Check) -> Checked:
    """Check a proof. Raises ValueError if *text* is not in its form. check: checks a signature."""
    try:
        proof = json.loads(text)
        line, previous, index = str(proof["line"]), str(proof["previous"]), int(proof["index"])
        path = [bytes.fromhex(step) for step in proof["path"]]
        seal_line, key_lines = str(proof["seal"]), [f"{one}\n".encode() for one in proof["keys"]]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ValueError("this text does not have the form of a proof") from exc
    keys = read_keys(key_lines, check)
    found = read_seal(f"{seal_line}\n".encode(), keys, check)
    wrong = keys.wrong or ("the proof has no seal" if found is None else found.distrust)
    seal = found.seal if found else None
    if not wrong and seal is not None:
        wrong = _wrong(line.encode(), previous, index, path, seal)
    return Checked(line, seal, keys, wrong)


def _wrong(line: bytes, previous: str, index: int, path: Sequence[bytes], seal: Seal) -> str:
    sealed = chain.split(line)
    if sealed is None or chain.digest(previous, sealed.body) != sealed.chain:
        return "the line was changed"
    entry = bytes.fromhex(sealed.chain)
    root = root_by_path(entry, index, seal.lines, path) if len(entry) == ENTRY_BYTES else None
    if root is None or root.hex() != seal.root:
        return "the line is not in the sealed segment"
    if chain.seq_of(sealed.body) != seal.first_seq + index:
        return "the line is not at its place in the segment"
    return ""
