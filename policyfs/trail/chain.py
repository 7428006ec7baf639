"""The hash chain that ties every line of a trail to all lines before it (pure).

A line is ``BODY,"chain":"DIGEST"}`` and a newline. DIGEST is the lower-case hex sha256 over the 64 hex
characters of the previous line's digest (64 zeros before the first line ever) and then the bytes of BODY. The
first line of a segment is a header. Its field ``previous`` has the digest of the last line of the segment
before, so the chain runs through all segments. docs/audit.md shows a program of 20 lines that checks a chain
without policyfs.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

GENESIS: Final = "0" * 64
"""The digest before the first line of a chain."""

_MARK: Final = b',"chain":"'
_END: Final = b'"}'
TAIL_BYTES: Final = len(_MARK) + 64 + len(_END)
"""The length of the end of a line, which the line's digest does not cover."""
_HEX: Final = frozenset(b"0123456789abcdef")


class Sealed(NamedTuple):
    """A parsed line. body: the bytes that the digest covers. chain: the digest in the line."""

    body: bytes
    chain: str


def digest(previous: str, body: bytes) -> str:
    """Return the chain digest (64 hex characters) of a body. previous: the digest of the line before."""
    return hashlib.sha256(previous.encode("ascii") + body).hexdigest()


def seal(previous: str, body: bytes) -> tuple[bytes, str]:
    """Return the whole line with this body, newline included, and its digest."""
    chain = hashlib.sha256(previous.encode("ascii") + body).hexdigest()
    return b'%b,"chain":"%b"}\n' % (body, chain.encode("ascii")), chain


def split(line: bytes) -> Sealed | None:
    """Split a line (without its newline) into body and digest. Return None if it has another form."""
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
    """Return the line's number from its body, or None. The rest of the body is not parsed."""
    match = _SEQ.match(body)
    return int(match[1]) if match else None
