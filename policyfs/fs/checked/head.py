"""Heads: the first bytes of a checked file, held until their kind is known.

This module has only bookkeeping and arithmetic; ``head_writes.py`` does the I/O. The states of a head
(docs/architecture/checked-writes.md):

- A file that is empty in the store starts with an empty head. Written bytes are held in the head.
- As soon as sniffing finds an allowed kind in the head, the head is written to the store. From then on every
  write into the first HEAD_BYTES is checked by the resulting bytes.
- If a write makes a head that can no longer become an allowed kind, that write is refused.
- If the head's kind is not allowed at FLUSH or fsync, the answer is EPERM, and the head stays held: FLUSH
  comes whenever a duplicate of the descriptor is closed. At the last RELEASE such a head is dropped, and a
  file that its writer created is removed. A file that never got a byte stays as an empty file.
"""

from __future__ import annotations

from typing import Final

from policyfs.formats import Use, starts_for
from policyfs.fs.inodes.pending_writes import Head

HEAD_BYTES: Final = 64 * 1024
"""The number of first bytes that are held and checked: enough for libmagic to name any kind it knows."""

_TEXT_CHUNK: Final = 512
"""The number of first bytes that libmagic needs to tell the kind of a file without a known signature."""

_SIGNATURES: Final = starts_for(Use.HEAD)
_KNOWN: Final = frozenset(kind for kind, _, _ in _SIGNATURES)


def kind_in(kind: str, patterns: frozenset[str]) -> bool:
    """Return True if a content kind matches one of *patterns*: a kind, or ``type/*``."""
    return kind in patterns or "*" in patterns or f"{kind.partition('/')[0]}/*" in patterns


def meets(kind: str | None, content: tuple[frozenset[str], ...]) -> bool:
    """Return True if a kind meets every content requirement; an unknown kind (None) meets none."""
    if not content:
        return True
    return kind is not None and all(kind_in(kind, patterns) for patterns in content)


def may_become(head: bytes, content: tuple[frozenset[str], ...]) -> bool:
    """Return True if bytes that begin with *head* may still become a kind that every requirement allows.

    Exact for kinds with a known signature. A pattern such as ``text/*`` may below _TEXT_CHUNK bytes; one kind
    that is no text (an office file, JSON) below HEAD_BYTES, since it shows late."""
    return len(head) < HEAD_BYTES and all(_may_match(head, patterns) for patterns in content)


def _may_match(head: bytes, patterns: frozenset[str]) -> bool:
    others = patterns - _KNOWN
    if others and (len(head) < _TEXT_CHUNK or any(_shows_late(pattern) for pattern in others)):
        return True
    return any(
        kind_in(kind, patterns) and _agrees(head, offset, signature)
        for kind, offset, signature in _SIGNATURES
    )


def _shows_late(pattern: str) -> bool:
    return not pattern.endswith("*") and not pattern.startswith("text/")


def _agrees(head: bytes, offset: int, signature: bytes) -> bool:
    seen = head[offset : offset + len(signature)]
    return signature.startswith(seen)


def overlay(head: bytes, offset: int, data: bytes) -> bytes:
    """Return the first HEAD_BYTES of a file after a write of *data* at *offset*. A gap reads as zeros."""
    if offset >= HEAD_BYTES:
        return (head + b"\0" * (HEAD_BYTES - len(head)))[:HEAD_BYTES]
    if offset > len(head):
        head += b"\0" * (offset - len(head))
    return (head[:offset] + data + head[offset + len(data) :])[:HEAD_BYTES]


def merged(head: Head, stored: bytes) -> bytes:
    """Return the first HEAD_BYTES of a file after all held bytes are stored. *stored*: these bytes now."""
    if not head.late:
        return overlay(stored, 0, head.held or b"")
    for offset, data in head.late:
        stored = overlay(stored, len(stored) if offset is None else offset, data)
    return stored
