"""The texts of a policy, and their digest, for processes that do not parse them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class SourceText(NamedTuple):
    """One file of a policy: the name that errors show, and its bytes."""

    name: str
    text: bytes


def digest_of(texts: Iterable[bytes]) -> str:
    """Return the SHA-256 of a policy's texts, in hex, whatever their names and order: `sha256sum` for one
    file. For several: ``sha256sum FILE... | cut -c1-64 | sort | sha256sum``."""
    digests = sorted(hashlib.sha256(text).hexdigest() for text in texts)
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
