"""The results of a request for a redacted copy."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.domain import Decision, Ranges
from policyfs.fs.inodes.leased_bytes import FilmReader
from policyfs.fs.redacted.copy_keys import CopyKey
from policyfs.fs.saved.saved_copies import SavedCopy, inode_of
from policyfs.linux.statx import Stat
from policyfs.store.copies import Copy


class NoRoom(Exception):  # noqa: N818 - a state of the cache, not a mistake
    """The error if the cache has no room for another copy. The file is then served like a file too large to
    copy."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A finished copy: its kind (None: sniffing failed), the hidden words, and the hidden byte ranges.
    settled: True if a lease proves that the file was not written while the copy was made. made_s: the time of
    the copy (time.monotonic()). film: the reader of a film whose frames are not patched in the copy; None for
    any other file. final: True if the copy can serve as long as the file's size and times stay."""

    copy: Copy
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    settled: bool
    made_s: float
    film: FilmReader | None = None
    final: bool = False

    def record(self, key: CopyKey, stat: Stat) -> SavedCopy:
        """Return what the next daemon needs of the copy. key: its key in the cache. stat: of its source."""
        frozen = self.copy.frozen
        return SavedCopy(
            frozen.fd, self.copy.backing_id, inode_of(frozen.fd), key.ino_key, stat, key.version,
            key.what, key.lane, self.kind, self.hidden, self.ranges, self.settled, self.made_s, self.final,
            self.film is not None, frozen.how, frozen.memory,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be shown: the denying decision, or the reason why hidden data cannot be removed."""

    decision: Decision
    kind: str | None
    reason: str
