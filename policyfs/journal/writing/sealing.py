"""The link between the writer of a trail and the sealer, which signs closed segments. The writer passes these
on, and gets the sealer's reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from policyfs.journal.sealing.heads import heads_if_any
from policyfs.journal.writing.offload import WriterLock
from policyfs.journal.writing.writer import ChainWriter

if TYPE_CHECKING:
    from policyfs.journal.sealing.keys import KeyStore
    from policyfs.journal.sealing.sealer import Sealer


def begin_sealing(directory: str, writer: ChainWriter, lock: WriterLock, keys: KeyStore) -> Sealer:
    """Start a thread that signs each segment of the trail directory once *writer* has closed it. lock: guards
    it."""
    # The libraries for signatures are loaded only if something is signed.
    from policyfs.journal.sealing.sealer import Sealer  # noqa: PLC0415

    def changed(segment: str, found: str) -> None:
        """Record a text about the damage of a segment. If it is being written, close it."""
        with lock:
            if not writer.finished:
                writer.distrust(segment, found)

    def sealed(fields: dict[str, object]) -> None:
        """Queue a record about a new seal, and about the ends of other chains, before the next event."""
        others = heads_if_any(Path(directory))
        with lock:
            if not writer.finished:
                writer.note("sealed", fields)
                for record in others:
                    writer.note("others", record)

    sealer = Sealer(directory, writer.mount_id, keys, changed=changed, sealed=sealed, exclusive=lock)
    writer.closed, writer.wrote = sealer.close_segment, sealer.written
    sealer.start(writer.resumed, lambda: writer.extent)
    return sealer
