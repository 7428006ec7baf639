"""The choice of a daemon's chain below a trail root: two running daemons never record in one chain.

A new daemon continues its mount's chain if the previous daemon has ended. If that daemon still runs (its
mount was detached while in use, or a container still has the mount), the new daemon records in another chain.
Each daemon begins with a record of the last digests of all other chains (``others``). So if a chain
disappears, or is sealed anew, another chain reveals this (trail/witness.py).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policyfs.journal.journal import Journal, JournalError
from policyfs.journal.reader import Chain, find_chains
from policyfs.journal.retention import Keep
from policyfs.journal.segments import open_segment, settled_tail
from policyfs.trail import chain
from policyfs.trail.witness import records_of

if TYPE_CHECKING:
    from policyfs.journal.keys import KeyStore
    from policyfs.journal.segment import Appender

_AT_ONCE: Final = 1000
"""The limit of daemons of one mountpoint that run at the same time."""


def recorder_id(mount_id: str, turn: int) -> str:
    """Return the name of a chain and of its directory.

    turn: the daemon's number, from 1, among the daemons of its mountpoint that run at the same time.
    """
    return mount_id if turn == 1 else hashlib.sha256(f"{mount_id} {turn}".encode()).hexdigest()[:16]


def open_journal(
    root: Path,
    mount_id: str,
    *,
    keep: Keep,
    segment_bytes: int,
    keys: Path | None = None,
    appender: Appender | None = None,
) -> tuple[Journal, Path]:
    """Open the first chain of a mountpoint in which no daemon records. Return the journal and its directory.

    keys: the directory of the keys for seals. appender: see Journal. keep: the limits of rotation in this
    chain. No daemon removes segments of another chain. Raises JournalError.
    """
    store = _key_store(keys)
    for turn in range(1, _AT_ONCE + 1):
        name = recorder_id(mount_id, turn)
        try:
            journal = Journal(
                str(root / name), name, keep=keep, segment_bytes=segment_bytes, keys=store, appender=appender
            )  # fmt: skip
        except JournalError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.EWOULDBLOCK:
                continue
            raise
        try:
            journal.tell("others", *records_of(heads(root, but=name)))
        except BaseException:
            journal.close()
            raise
        return journal, root / name
    raise JournalError(f"{_AT_ONCE} daemons record for one mountpoint below {root}; end the old ones")


def _key_store(keys: Path | None) -> KeyStore | None:
    if keys is None:
        return None
    from policyfs.journal.keys import KeyStore  # noqa: PLC0415 - its library is loaded only to sign

    return KeyStore(keys)


def heads(root: Path, *, but: str) -> dict[str, str]:
    """Return number and digest (``SEQ=DIGEST``) of the last settled line of each chain below a root.

    A line is settled once its writer will not take it back. The chain *but* is left out, and chains that
    cannot be read or that are removed meanwhile: they must not prevent a mount.
    """
    found = {}
    for other in find_chains(root):
        if other.mount_id == but:
            continue
        with contextlib.suppress(OSError):
            if head := _head(other):
                found[other.mount_id] = head
    return found


def _head(other: Chain) -> str | None:
    for name in reversed(other.segments()):
        try:
            fd = open_segment(other.directory / name)
        except OSError:
            continue  # rotation has removed the segment
        try:
            line = settled_tail(fd)
        finally:
            os.close(fd)
        sealed = chain.split(line) if line else None
        if sealed is not None:
            return f"{chain.seq_of(sealed.body)}={sealed.chain}"
    return None
