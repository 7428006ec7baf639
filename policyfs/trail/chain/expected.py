"""Digests of lines of a hash chain that were kept in another place (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from policyfs.trail.chain.seal import Checkpoint


class Expected:
    """The digests that lines of one hash chain must have: given ones (by number), and those of checkpoints
    (signed statements). end: the checkpoint of the latest line, or None."""

    def __init__(self, digests: Mapping[int, str], checkpoints: Iterable[Checkpoint]) -> None:
        self._digests = dict(digests)
        self._checkpoints: dict[int, dict[str, Checkpoint]] = {}
        self.end: Checkpoint | None = None
        for one in checkpoints:
            self._checkpoints.setdefault(one.seq, {}).setdefault(one.head, one)
            if self.end is None or one.seq > self.end.seq:
                self.end = one

    @property
    def wanted(self) -> Collection[int]:
        """Return the numbers of the lines whose digests compare() needs."""
        return self._digests.keys() | self._checkpoints.keys()

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the lines with a given digest that compare() has not got, in order."""
        return sorted(self._digests)

    def contradicting(self, seq: int, digest: str) -> list[Checkpoint]:
        """Return the checkpoints that state another digest than *digest* for the line *seq*."""
        return [one for head, one in self._checkpoints.get(seq, {}).items() if head != digest]

    def compare(self, seq: int, digest: str) -> bool:
        """Return True if the line *seq*, which has *digest*, has its given digest, or if there is none."""
        return self._digests.pop(seq, digest) == digest
