"""Corpora of inputs that fuzzers made: a file for each kind, a line for each input (zlib, base64)."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CORPORA: Final = Path(__file__).with_name("corpora")
MOST_BYTES: Final = 4096
"""Of an input that is kept."""


def in_order(inputs: Iterable[bytes]) -> list[bytes]:
    """Sort inputs by length, so that the order of lines hardly changes when some are added."""
    return sorted(inputs, key=lambda data: (len(data), data))


def read_corpus(kind: str, corpora: Path = CORPORA) -> list[bytes]:
    """Read a kind's inputs: none if none were kept."""
    file = _file(kind, corpora)
    lines = file.read_text().splitlines() if file.exists() else []
    return [zlib.decompress(b64decode(line)) for line in lines]


def write_corpus(kind: str, inputs: Iterable[bytes], corpora: Path = CORPORA) -> None:
    """Replace a kind's inputs."""
    lines = [b64encode(zlib.compress(data, 9)).decode() + "\n" for data in in_order(inputs)]
    _file(kind, corpora).write_text("".join(lines))


def write_files(inputs: Iterable[bytes], directory: Path) -> None:
    """Write each input to a file, under the name that libFuzzer would give it."""
    for data in inputs:
        (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def _file(kind: str, corpora: Path) -> Path:
    return corpora / f"{kind.replace('/', '_')}.txt"
