"""Errors in a policy: one fault with its place and advice, and the exception that holds all faults."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policyfs.domain import Op
from policyfs.errors import EXIT_POLICY, PolicyfsError

if TYPE_CHECKING:
    from policyfs.policy.model import Where

_SHOWN: Final = 100
"""Maximum number of characters of a source line that an error shows."""

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that could control a terminal, or hide parts of a line."""


@dataclass(frozen=True, slots=True)
class PolicyError:
    """One fault in a policy's text. line: the source line. width: the wrong characters from the column on."""

    where: Where
    message: str
    help: str
    line: str
    width: int

    def __str__(self) -> str:
        at = f"{harmless(self.where.file)}:{self.where.line}:{self.where.column}"
        text, marker = _excerpt(self.line, self.where.column - 1, self.width)
        number = f"{self.where.line:>5}"
        return "\n".join(
            [
                f"{at}: {self.message}",
                f"{number} | {text}".rstrip(),
                f"{' ' * len(number)} | {marker}",
                f"help: {self.help}",
            ]
        )


class PolicyErrors(PolicyfsError):  # noqa: N818 - it holds many errors
    """The error of a policy that does not compile: all faults of all files. what: the first line."""

    exit_code = EXIT_POLICY

    def __init__(self, errors: Iterable[PolicyError], what: str = "the policy does not compile") -> None:
        unique = {(e.where.file, e.where.line, e.where.column, e.message): e for e in errors}
        self.errors: tuple[PolicyError, ...] = tuple(unique[key] for key in sorted(unique))
        count = len(self.errors)
        files = len({e.where.file for e in self.errors})
        headline = f"{what}: {count} error{'s' if count != 1 else ''}"
        if files > 1:
            headline += f" in {files} files"
        super().__init__("\n\n".join([headline, *map(str, self.errors)]))


def harmless(text: str) -> str:
    """Return the text with a visible U+FFFD in place of every control or invisible character."""
    return "".join("\ufffd" if unicodedata.category(c) in _INVISIBLE else c for c in text)


def quote(text: str) -> str:
    """Return the text in double quotes, safe for a terminal and at most 60 characters long."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return f'"{harmless(shown)}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "x"? `` with the most similar known word, or an empty text."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {quote(near[0])}? " if near else ""


def words_of(ops: Op) -> str:
    """Return the names of operations."""
    return ", ".join((op.name or "").lower() for op in ops)


def listed(words: Iterable[str], *, none: str = "none") -> str:
    """Return the words as a list for a sentence, sorted, at most 12 of them. none: the text for no words."""
    ordered = sorted(words)
    if len(ordered) > 12:
        ordered = [*ordered[:12], "..."]
    return ", ".join(harmless(word) for word in ordered) or none


def _excerpt(line: str, start: int, width: int) -> tuple[str, str]:
    first = 0 if len(line) <= _SHOWN else max(0, min(start - _SHOWN // 3, len(line) - _SHOWN))
    shown = line[first : first + _SHOWN]
    before, after = "..." if first else "", "..." if first + _SHOWN < len(line) else ""
    offset = min(max(start - first, 0), len(shown))
    width = max(1, min(width, len(shown) - offset))
    pad = "".join("\t" if c == "\t" else " " * _columns(c) for c in shown[:offset])
    carets = "^" * sum(_columns(c) for c in shown[offset : offset + width])
    text = "".join(c if c == "\t" else harmless(c) for c in shown)
    return before + text + after, " " * len(before) + pad + (carets or "^")


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
