"""MD5 digests, in the forms in which one block of metadata stores the digest of another block."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NO_DIGESTS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


def md5(data: bytes) -> bytes:
    """Return the MD5 digest: 16 bytes."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def md5_text(data: bytes) -> bytes:
    """Return the MD5 digest as 32 hexadecimal digits, with capital letters."""
    return md5(data).hex().upper().encode("ascii")
