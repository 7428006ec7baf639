"""The picture of a store: the names that one caller would see, with the rights of the caller."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import FileType, Op, View

LETTERS: Final = ((Op.READ, "r"), (Op.WRITE, "w"), (Op.CREATE, "c"), (Op.DELETE, "d"), (Op.ATTR, "a"))
"""The operations, each with the letter that stands for it, in the order of the display."""

UNCHANGED: Final = "unchanged"
REDACTED: Final = "redacted"
REFUSED: Final = "refused"


class Entry(NamedTuple):
    """One name that the caller sees.

    may: the allowed operations. CREATE means for a directory: the caller may make an ordinary new file or
    directory in it. bare: True for a directory that is seen only as the way to visible paths. view: the view
    of a regular file. content: the kinds that written files must have. rules: the ids of the allow rules that
    make the name visible, and of the allow rules for ``may`` except CREATE. kind, owner: None if the fact is
    unknown, or if no answer depends on it.
    """

    path: bytes
    ftype: FileType
    may: Op
    bare: bool
    view: View | None
    content: tuple[str, ...]
    rules: tuple[str, ...]
    kind: str | None
    owner: str | None

    @property
    def letters(self) -> str:
        """Return the allowed operations as letters."""
        return "".join(letter if self.may & op else "-" for op, letter in LETTERS)


class Rest(NamedTuple):
    """Files of one directory that the walk skipped, because the policy treats their paths like other paths
    there. The caller sees these files, or their kinds or owners hide them."""

    directory: bytes
    suffix: str
    files: int


class Hidden(NamedTuple):
    """A name that the caller does not see, in a directory that the caller sees. why: the reason, with the
    rules."""

    path: bytes
    ftype: FileType
    why: str


class Sample(NamedTuple):
    """The result of opening one file that is redacted for the caller.

    outcome: UNCHANGED, REDACTED or REFUSED. words: the words that the policy hides in the file. If the
    outcome is REDACTED: the words whose data was removed. reason: the reason of the outcome.
    """

    path: bytes
    kind: str | None
    outcome: str
    words: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class Picture:
    """The result of a walk through a store for one caller.

    unread: the directories that were not listed completely, with the reason. near: texts about names that
    differ from a name in a glob only in case or Unicode form.
    """

    who: str
    store: str
    policy: str
    digest: str
    entries: list[Entry] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    unread: list[tuple[bytes, str]] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    may_be_redacted: Counter[str] = field(default_factory=Counter)
    """The number of files that the caller reads redacted, for each extension of their names. Files that the
    walk skipped do not count."""

    def counts(self) -> dict[FileType, int]:
        """Return the number of names that the caller sees, for each file type. Files that the walk skipped do
        not count: their kinds or owners may hide them."""
        return Counter(entry.ftype for entry in self.entries)

    @property
    def skipped(self) -> int:
        """The number of files that the walk skipped. The caller perhaps sees them."""
        return sum(rest.files for rest in self.rests)


def words_of(ops: Op) -> list[str]:
    """Return the names of a set of operations."""
    return [(op.name or "").lower() for op, _ in LETTERS if ops & op]
