"""Refusals: the operations that were refused to a caller, by path, for deny rules of a proposal.

A policy must be printable text, so `?` stands for other characters: the rule denies a little more, never
less.
"""

from __future__ import annotations

from typing import Final

from policyfs.domain import Op

MOST: Final = 2_000
"""Maximum number of refused paths of a caller. No rules are proposed for a caller with more."""
UNPRINTABLE: Final = "\0"
"""A sign that stands for a character or byte that a policy cannot contain."""


class Refusals:
    """The operations that were refused to a caller, by path. A refused `see` counts below, too."""

    def __init__(self) -> None:
        self.paths: dict[tuple[str, ...], Op] = {}
        self.too_many = False
        """True if there were more refused paths than MOST. Then none of them is kept."""
        self._unprintable: dict[tuple[str, ...], Op] = {}

    def add(self, path: bytes, ops: Op) -> bool:
        """Record that these operations on a path were refused. Return False if that was known."""
        names = names_as_text(path)
        ops = ops if ops == Op.SEE else ops & ~Op.SEE
        if self.too_many or not ops & ~self.paths.get(names, Op(0)):
            return False
        for paths in (self.paths, *([self._unprintable] if any(UNPRINTABLE in one for one in names) else [])):
            paths[names] = paths.get(names, Op(0)) | ops
        self.too_many = len(self.paths) > MOST
        if self.too_many:
            self.paths.clear()
            self._unprintable.clear()
        return True

    def of(self, path: tuple[str, ...]) -> Op:
        """Return the operations that are refused on a path."""
        return Op.ALL if self.hides(path) else self._exactly(path)

    def hides(self, path: tuple[str, ...]) -> bool:
        """Return True if a refused `see` hides a path. The root is never hidden."""
        return any(self._exactly(path[:size]) & Op.SEE for size in range(1, len(path) + 1))

    def _exactly(self, path: tuple[str, ...]) -> Op:
        refused = self.paths.get(path, Op(0))
        for names, ops in self._unprintable.items():
            if len(names) == len(path) and all(map(_is_like, names, path)):
                refused |= ops
        return refused


def names_as_text(path: bytes) -> tuple[str, ...]:
    """Return the names of a path, with UNPRINTABLE for each character that a policy cannot contain."""
    text = path.decode("utf-8", "surrogateescape")
    plain = "".join(char if char.isprintable() else UNPRINTABLE for char in text)
    return tuple(name for name in plain.split("/") if name)


def _is_like(name: str, other: str) -> bool:
    return len(name) == len(other) and all(
        mine in {UNPRINTABLE, theirs} for mine, theirs in zip(name, other, strict=True)
    )
