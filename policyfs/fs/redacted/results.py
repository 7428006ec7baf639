"""The results of a request for a redacted copy."""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.domain import Decision, Ranges
from policyfs.fs.redacted.windows import FilmFrames
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
    film: FilmFrames | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be shown: the denying decision, or the reason why hidden data cannot be removed."""

    decision: Decision
    kind: str | None
    reason: str
