"""The link between the writer of a trail and the sealer, which signs closed files of the trail (segments).

The writer passes closed segments to the sealer. The sealer reports its seals to the writer, and changes of
lines that the sealer has noticed.
"""

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
    """Start a sealer, a thread that signs each file of the trail (segment) once *writer* has closed it.

    directory: the trail directory. lock: guards the writer. keys: the keys that sign.
    """
    # The libraries for signatures are loaded only if something is signed.
    from policyfs.journal.sealing.sealer import Reports, Sealer  # noqa: PLC0415

    def changed(segment: str, found: str) -> None:
        """Record that a segment is damaged. If it is being written, close it.

        segment: its name. found: a text about the damage.
        """
        with lock:
            if not writer.finished:
                writer.distrust(segment, found)

    def sealed(fields: dict[str, object]) -> None:
        """Queue a record about a new seal, and about the ends of other chains. The writer appends the records
        before the next event.
        """
        others = heads_if_any(Path(directory))
        with lock:
            if not writer.finished:
                writer.note("sealed", fields)
                for record in others:
                    writer.note("others", record)

    sealer = Sealer(directory, writer.mount_id, keys, Reports(changed=changed, sealed=sealed), exclusive=lock)
    writer.closed, writer.wrote = sealer.close_segment, sealer.written
    sealer.start(writer.resumed, lambda: writer.extent)
    return sealer
