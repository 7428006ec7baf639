"""The keys of frozen copies, and the results of a request for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from policyfs.content.cache import KindKey
from policyfs.domain import Decision, Lane, Ranges
from policyfs.fs.access.views import version_of
from policyfs.fs.inodes.open_state import FilmReader
from policyfs.fs.saved.saved_copies import SavedCopy, inode_of
from policyfs.linux.statx import Stat
from policyfs.store.copies import Copy
from policyfs.store.frozen import Version

_NO_VERSION = Version(0, 0, 0)


class CopyKey(NamedTuple):
    """The key of a copy: the file, its version, and the hidden words (what). lane: the only lane that may see
    the copy, because the plan comes from that lane's worker; None in the property file."""

    ino_key: int
    btime_ns: int
    version: Version
    what: frozenset[str]
    lane: Lane

    @classmethod
    def of(cls, ino_key: int, stat: Stat, what: frozenset[str], lane: Lane) -> CopyKey:
        """Return the key of a copy of the file's version in *stat*."""
        return cls(ino_key, stat.btime_ns, version_of(stat), what, lane)

    @property
    def file(self) -> CopyKey:
        """The key without version and lane. Such a key stands for the file and the hidden words."""
        return self._replace(version=_NO_VERSION, lane=None)


def version_of_key(key: KindKey) -> Version:
    """Return the version of a file's bytes that is part of a key."""
    return Version(key.size, key.mtime_ns, key.ctime_ns)


class NoRoom(Exception):  # noqa: N818 - a state of the cache, not a mistake
    """The error if the cache has no room for another copy. The file is then served like one too large."""


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
