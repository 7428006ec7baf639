"""The link between a chain's writer and its sealer: closed segments one way, findings and seals the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policyfs.journal.offload import WriterLock
from policyfs.journal.writer import ChainWriter

if TYPE_CHECKING:
    from policyfs.journal.keys import KeyStore
    from policyfs.journal.sealer import Sealer


def begin_sealing(directory: str, writer: ChainWriter, lock: WriterLock, keys: KeyStore) -> Sealer:
    """Start a sealer for the segments that *writer* closes. lock: guards the writer."""
    # The libraries for signatures are loaded only if something is signed.
    from policyfs.journal.sealer import Reports, Sealer  # noqa: PLC0415

    def changed(segment: str, found: str) -> None:
        """Record that another process has changed lines of a segment. Close this segment."""
        with lock:
            if not writer.finished:
                writer.distrust(segment, found)

    def sealed(fields: dict[str, object]) -> None:
        """Record a new seal before the next event."""
        with lock:
            if not writer.finished:
                writer.note("sealed", fields)

    sealer = Sealer(directory, writer.mount_id, keys, Reports(changed=changed, sealed=sealed), exclusive=lock)
    writer.closed = sealer.close_segment
    sealer.start(writer.resumed, lambda: writer.extent)
    return sealer
