"""Tables and lists of text for a terminal, with harmful characters of names escaped (pure).

Apps choose the names of files. So every character that a terminal would not show as itself is an escape such
as ``\\x1b`` or ``\\u202e``: controls, bidirectional overrides, zero-width and default-ignorable characters,
bytes that are not UTF-8. A backslash is doubled, so that no name can imitate an escape.
"""

from __future__ import annotations

import itertools
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from policyfs.trail.lines.line import is_plain

_GAP: Final = "  "
_ELLIPSIS: Final = "…"
_LEAST: Final = 12


def shown(text: str) -> str:
    """Return the text with an escape (``\\x1b``) for each harmful or invisible character."""
    if is_plain(text) and "\\" not in text:
        return text
    return "".join(map(_shown_char, text))


def _shown_char(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if is_plain(char):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape decodes it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def word(text: str) -> str:
    """Return the text as one word of a command to be copied into a shell. A text with harmful characters
    becomes ``$'\\033'``, which bash, zsh and ksh know."""
    if is_plain(text):
        return shlex.quote(text)
    data = text.encode("utf-8", "surrogateescape")
    octal = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\{byte:03o}" for byte in data)
    return f"$'{''.join(octal)}'"


def words(*texts: str) -> str:
    """Return the texts as words of a command."""
    return " ".join(map(word, texts))


def shown_path(path: bytes) -> str:
    """Return a path as text, escaped as by shown(); bytes that are not UTF-8 become ``\\xff``."""
    return shown(path.decode("utf-8", "surrogateescape"))


def width(text: str) -> int:
    """Return the number of terminal columns of a text that shown() has escaped."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def fit(text: str, columns: int) -> str:
    """Return *text* in at most *columns* columns. ``…`` replaces the middle: both ends are more useful."""
    if width(text) <= columns:
        return text
    if columns <= 1:
        return _ELLIPSIS[:columns]
    right = (columns - 1) * 2 // 3
    return _take(text, columns - 1 - right) + _ELLIPSIS + _take(text[::-1], right)[::-1]


def _take(text: str, columns: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > columns:
            return text[:index]
    return text


def wrap(text: str, columns: int) -> list[str]:
    """Return a text as lines of at most *columns* columns (at least 2: a wide character), between words if
    possible."""
    columns = max(columns, 2)
    lines = [""]
    for word in text.split(" "):
        rest = word
        if lines[-1] and width(lines[-1]) + 1 + width(rest) <= columns:
            lines[-1] += " " + rest
            continue
        if lines[-1]:
            lines.append("")
        while width(rest) > columns:
            lines[-1] = _take(rest, columns)
            rest = rest[len(lines[-1]) :]
            lines.append("")
        lines[-1] = rest
    return lines


def pad(text: str, columns: int) -> str:
    """Return the text with spaces at its end, so that it has at least *columns* columns."""
    return text + " " * (columns - width(text))


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    columns: int | None = None,
    flexible: int | None = None,
    right: frozenset[int] = frozenset(),
) -> list[str]:
    """Return the lines of a table of cells that shown() has escaped. columns: the terminal's width, or None.
    flexible: the column that shrinks if it is too wide. right: the columns that are aligned to the right."""
    return list(table_lines(head, lambda: rows, columns=columns, flexible=flexible, right=right))


def table_lines(
    head: Sequence[str],
    rows: Callable[[], Iterable[Sequence[str]]],
    *,
    columns: int | None = None,
    flexible: int | None = None,
    right: frozenset[int] = frozenset(),
) -> Iterator[str]:
    """Yield the lines of a table, as table() returns them. rows: returns all rows; it is called twice."""
    widths = list(map(width, head))
    for row in rows():
        widths = [max(room, width(cell)) for room, cell in zip(widths, row, strict=True)]
    if columns is not None and flexible is not None:
        others = sum(widths) - widths[flexible] + len(_GAP) * (len(widths) - 1)
        widths[flexible] = max(min(widths[flexible], columns - others), _LEAST)
    for row in itertools.chain((head,), rows()):
        cells = [
            _pad_left(fit(cell, room), room) if index in right else pad(fit(cell, room), room)
            for index, (cell, room) in enumerate(zip(row, widths, strict=True))
        ]
        yield _GAP.join(cells).rstrip()


def _pad_left(text: str, columns: int) -> str:
    return " " * (columns - width(text)) + text


def sheet(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line ``name value`` for each pair (values that shown() has escaped), in columns."""
    room = max((width(name) for name, _ in pairs), default=0)
    return [f"{pad(name, room)}{_GAP}{value}".rstrip() for name, value in pairs]


def human(number: int) -> str:
    """Return a number of bytes as text with a fitting unit, such as ``1.5 MiB``."""
    size, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"
