"""The choice of the hash chain in which a new daemon records. Two running daemons never share a chain.

A new daemon continues the chain of the mount's previous daemon if that has ended; else (the old mount was
detached while in use, or a container has it) it records in another directory. Each daemon records the last
digests of all other chains (``others``) at its start, after each seal, and at its end: so another chain
reveals if somebody removes a chain, or replaces its end (trail/chain/witness.py).
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policyfs.journal.files.retention import Keep
from policyfs.journal.sealing.heads import heads
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.trail.chain.witness import records_of

if TYPE_CHECKING:
    from policyfs.journal.sealing.keys import KeyStore
    from policyfs.journal.writing.segment import Appender

_AT_ONCE: Final = 1000
"""The limit of running daemons that record for one mountpoint."""


def recorder_id(mount_id: str, turn: int) -> str:
    """Return the name of the hash chain, and of its directory, of the daemon number *turn* (from 1) of those
    that run for a mountpoint (16 hex digits)."""
    return mount_id if turn == 1 else hashlib.sha256(f"{mount_id} {turn}".encode()).hexdigest()[:16]


def open_journal(
    root: Path,
    mount_id: str,
    *,
    keep: Keep,
    segment_bytes: int,
    keys: Path | None = None,
    appender: Appender | None = None,
    upgrades: bool = False,
) -> tuple[Journal, Path]:
    """Open the first hash chain of a mountpoint in which no daemon records. Return its journal and directory.
    Raises JournalError.

    mount_id: 16 hex digits. segment_bytes, keep, appender, upgrades: as for Journal. keys: the directory of
    the keys, or None.
    """
    store = _key_store(keys)
    for turn in range(1, _AT_ONCE + 1):
        name = recorder_id(mount_id, turn)
        try:
            journal = Journal(
                str(root / name), name, keep=keep, segment_bytes=segment_bytes, keys=store, appender=appender,
                upgrades=upgrades,
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
    raise JournalError(
        f"{_AT_ONCE} daemons of one mountpoint already use the trail directory {root}; end the old daemons"
    )


def _key_store(keys: Path | None) -> KeyStore | None:
    if keys is None:
        return None
    from policyfs.journal.sealing.keys import KeyStore  # noqa: PLC0415 - its library is loaded only to sign

    return KeyStore(keys)
