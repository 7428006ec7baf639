"""The hash chain of a trail: the digest in each line depends on all earlier lines (pure).

A line is ``BODY,"chain":"DIGEST"}`` and a newline. DIGEST is the lower-case hex SHA-256 of the 64 hex
characters of the previous line's digest (64 zeros before the first line of all) and of BODY. The first line
of each segment (a file of the trail) is a header, whose field ``previous`` has the digest of the previous
segment's last line. docs/audit.md shows a short program that checks a chain without policyfs.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

GENESIS: Final = "0" * 64
"""The previous digest for the first line of a hash chain, which has no previous line."""

_MARK: Final = b',"chain":"'
_END: Final = b'"}'
TAIL_BYTES: Final = len(_MARK) + 64 + len(_END)
"""The length in bytes of the last part of each line, ``,"chain":"DIGEST"}``, without the newline."""
_HEX: Final = frozenset(b"0123456789abcdef")


class Sealed(NamedTuple):
    """The two parts of a line of the trail. body: the bytes before the digest. chain: the digest."""

    body: bytes
    chain: str


def digest(previous: str, body: bytes) -> str:
    """Return the digest (64 hex characters) of a line: of the previous one and the bytes before its own."""
    return hashlib.sha256(previous.encode("ascii") + body).hexdigest()


def seal(previous: str, body: bytes) -> tuple[bytes, str]:
    """Return a complete line with its newline, and its digest, from the previous digest and its body."""
    chain = hashlib.sha256(previous.encode("ascii") + body).hexdigest()
    return b'%b,"chain":"%b"}\n' % (body, chain.encode("ascii")), chain


def split(line: bytes) -> Sealed | None:
    """Split a line of the trail (without newline) into body and digest. Return None if it has no digest."""
    tail = line[-TAIL_BYTES:]
    stated = tail[len(_MARK) : -len(_END)]
    if (
        not line.startswith(b"{")
        or not tail.startswith(_MARK)
        or not tail.endswith(_END)
        or len(stated) != 64
        or not _HEX.issuperset(stated)
    ):
        return None
    return Sealed(line[:-TAIL_BYTES], stated.decode("ascii"))


_SEQ: Final = re.compile(rb'\{"type":"[a-z_]+","seq":([0-9]{1,18}),')


def seq_of(body: bytes) -> int | None:
    """Return the number (seq) of a line, from the beginning of its body; None if there is none."""
    match = _SEQ.match(body)
    return int(match[1]) if match else None
