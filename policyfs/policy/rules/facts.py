"""Conditions on facts (kind and owner), with the results yes, no and unknown; and sample facts.

An impossible fact is not unknown: a directory is never ``image/jpeg``, a regular file never
``inode/directory``, and a stranger never owns anything. So a rule about directories causes no sniffing of
files.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policyfs.domain import (
    FIXED_KINDS,
    KIND_EMPTY,
    OWNER_NONE,
    Facts,
    FileType,
    banned,
)


class Truth(enum.IntEnum):
    """The three truth values of Kleene's logic; ``min`` is *and*, ``max`` is *or*."""

    NO = 0
    UNKNOWN = 1
    YES = 2


NOT: Final = (Truth.YES, Truth.UNKNOWN, Truth.NO)
"""The negations of truth values: ``NOT[truth]``."""

FILE_TYPES: Final = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
"""File types that rules can be about. Special files need all rights (Engine.unrestricted)."""

_OTHER_APP: Final = "\0app"
_OTHER_KIND: Final = "\0kind"


def fixed_facts(ftype: FileType, facts: Facts) -> Facts:
    """Return the facts, with the fixed kind if the file is a directory or a symlink."""
    kind = FIXED_KINDS.get(ftype)
    return facts if kind is None else Facts(kind, facts.owner)


class Kinds:
    """A set of content kinds and of patterns such as ``image/*``."""

    __slots__ = ("_everything", "_exact", "_majors", "for_files", "names")

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._exact = frozenset(name for name in names if not name.endswith("/*"))
        self._majors = frozenset(name[:-1] for name in names if name.endswith("/*"))
        self._everything = bool(names & {"*", "*/*"})
        self.for_files = bool(self._majors or self._everything or self._exact - _FIXED_FILES)

    def hold(self, kind: str | None) -> Truth:
        """Return YES if a kind is in the set, else NO; UNKNOWN for the unknown kind of a regular file (None).
        """
        if self._everything:
            return Truth.YES
        if kind is None:
            return Truth.UNKNOWN if self.for_files else Truth.NO
        if kind in self._exact or kind[: kind.find("/") + 1] in self._majors:
            return Truth.YES
        return Truth.NO

    def union(self, exact: Mapping[str, int], majors: Mapping[str, int]) -> int:
        """Return the union of the fact sets of all kinds in this set, which must not be ``*``. exact, majors:
        the fact sets by kind, and by major type such as ``image/``."""
        found = 0
        for kind in self._exact:
            found |= exact.get(kind, 0)
        for major in self._majors:
            found |= majors.get(major, 0)
        return found

    @property
    def everything(self) -> bool:
        """True if every kind is in the set, also an unknown kind."""
        return self._everything

    def samples(self) -> Iterator[str]:
        """Yield kinds of regular files: one of every class of kinds that this set distinguishes."""
        yield from self._exact - _FIXED_FILES
        for major in self._majors:
            yield major + _OTHER_KIND


_FIXED_FILES: Final = frozenset(FIXED_KINDS.values())


def sample_facts(
    kinds: Iterable[Kinds], owners: Iterable[str], ftype: FileType, *, unknown: bool
) -> list[Facts]:
    """Return one of every class of facts that these conditions distinguish. unknown: with unknown facts."""
    some_owners = sample_owners(owners, unknown=unknown)
    return [
        Facts(kind, owner) for kind in sample_kinds(kinds, ftype, unknown=unknown) for owner in some_owners
    ]


def sample_kinds(kinds: Iterable[Kinds], ftype: FileType, *, unknown: bool) -> list[str | None]:
    """Return one of every class of kinds that these sets distinguish. unknown: with None."""
    if ftype is not FileType.REGULAR:
        return [FIXED_KINDS[ftype]]
    return [*_regular_kinds(kinds), *([None] if unknown else [])]


def sample_owners(owners: Iterable[str], *, unknown: bool) -> list[str | None]:
    """Return these owners, "none", and one other app. unknown: with None."""
    found: list[str | None] = [*dict.fromkeys((*sorted(owners), OWNER_NONE, _OTHER_APP))]
    return [*found, None] if unknown else found


def _regular_kinds(kinds: Iterable[Kinds]) -> list[str]:
    found = {sample for one in kinds for sample in one.samples()}
    return [*sorted(found), *({KIND_EMPTY, _OTHER_KIND + "/"} - found)]


def content_met(content: Iterable[frozenset[str]], facts: Facts) -> bool:
    """Return True if a file with these facts meets every content requirement, as an empty file does. An
    unknown kind meets no requirement on kinds, and data that were not searched for count as present."""
    if facts.kind == KIND_EMPTY:
        return True
    return all(_meets(patterns, facts) for patterns in content)


def _meets(patterns: frozenset[str], facts: Facts) -> bool:
    words = banned((patterns,))
    if words and words <= facts.free_of:
        return True
    return Kinds(patterns).hold(facts.kind) is Truth.YES
