"""Records on the trail by commands that work without a daemon.

Examples: a mount that failed, or a file that left the quarantine.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.journal.files.directories import trail_directory

_SEGMENT_BYTES: Final = 64 << 20


def trail_root(given: str | None = None) -> str:
    """Return the trail root (directory of all trails): *given*, else $POLICYFS_TRAIL_DIR or the default."""
    return given or str(trail_directory())


def existing(root: str) -> Path:
    """Return the directory *root* if it exists, else the nearest directory above it that exists."""
    where = Path(root)
    return next(one for one in (where, *where.parents, Path(".")) if one.exists())


def starter(command: str) -> dict[str, object]:
    """Return the fields of a record that describe who called a command. The fields name the process that has
    run the command, and its login user if the kernel knows this user."""
    from policyfs.journal.writing.programs import executable
    from policyfs.linux.peer import caller_of, login_of

    caller, login = caller_of(os.getpid()), login_of(os.getpid())
    fields: dict[str, object] = {
        "cause": "command", "how": command, "pid": caller, "uid": os.getuid(), "exe": executable(caller),
    }  # fmt: skip
    return fields if login is None else fields | {"login": login}


def record(
    root: Path, mount_id: str, kind: str, fields: dict[str, object], *, end: dict[str, object]
) -> None:
    """Write one record to the trail of a mount, as a command that is not the mount's daemon.

    Raises PolicyfsError. If a daemon is writing to the mount's chain, a new chain beside it gets the record.
    kind, fields: the type and the fields of the record. end: the fields of a further record, which closes the
    recording.
    """
    from policyfs.journal.writing.recorders import open_journal

    journal, _ = open_journal(root, mount_id, keep=0, segment_bytes=_SEGMENT_BYTES)
    try:
        journal.tell(kind, fields)
    finally:
        journal.close(end)
    stats = journal.stats()
    if stats.failing:
        raise PolicyfsError(f"the trail below {root} could not be written: {stats.last_error}")
