"""Keys of frozen copies. A key has the file, its version, the hidden words, and the lane of the copy."""

from __future__ import annotations

from typing import NamedTuple

from policyfs.content.cache import KindKey
from policyfs.domain import Lane
from policyfs.fs.access.views import version_of
from policyfs.linux.statx import Stat
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
