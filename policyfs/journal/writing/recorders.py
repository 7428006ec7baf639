"""The choice of the hash chain in which a new daemon records. Two running daemons never share a chain.

If the previous daemon of a mount has ended, a new daemon continues the mount's chain. If the previous daemon
still runs, the new daemon records in another chain, in another directory. (A previous daemon still runs if
its mount was detached while in use, or if a container still has the mount.) Each daemon records the last
digests of all other chains (``others``) at its start, after each seal, and at its end. So if somebody removes
a chain, or replaces its end, another chain reveals this (trail/chain/witness.py).
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
    """Return the name of the hash chain, and of its directory, in which a daemon records.

    mount_id: 16 hex digits from the mountpoint. turn: 1 for the first daemon of the mountpoint, 2 for a
    second daemon that starts while the first one still runs, and so on.
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
    """Open the first hash chain of a mountpoint in which no daemon records. Return its journal and directory.

    mount_id: 16 hex digits from the mountpoint. segment_bytes: the size of a trail file (segment) at which
    the next one is begun. keep: the number of segments of this chain that stay (0: all), or further limits.
    keys: the directory of the keys that sign closed segments, or None. appender: a thread that writes for the
    event loop. Raises JournalError.
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
    raise JournalError(
        f"{_AT_ONCE} daemons of one mountpoint already use the trail directory {root}; end the old daemons"
    )


def _key_store(keys: Path | None) -> KeyStore | None:
    if keys is None:
        return None
    from policyfs.journal.sealing.keys import KeyStore  # noqa: PLC0415 - its library is loaded only to sign

    return KeyStore(keys)
