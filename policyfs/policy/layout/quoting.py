"""Quotes around single values (scalars) in files in canonical form (the standard layout)."""

from __future__ import annotations

import re
from typing import Final

from policyfs.policy.layout.tree import Scalar

WIDTH: Final = 110
"""Maximum number of columns of a line, if its text can be broken."""
_WRAP: Final = 100
"""Maximum number of columns of a line of ordinary text, such as a description."""

_PLAIN: Final = re.compile(r"[A-Za-z(/][^\n]*")
_WORDS: Final = frozenset(("true", "false", "null", "yes", "no", "on", "off"))


def scalar(value: Scalar, *, glob: bool, flow: bool) -> str:
    """Return a single value as YAML on one line. flow: True if it is inside ``[...]`` or ``{...}``."""
    text = value.text
    if value.plain and not glob and not _is_word(text):
        return text  # a number, a word such as true, or no value
    if not glob and _PLAIN.fullmatch(text) and not _breaks(text, flow=flow):
        return text
    return quoted(text)


def name_text(text: str) -> str:
    """Return a name as YAML: in quotes if YAML might read it as a number, as true, or as no value."""
    return text if _is_word(text) else quoted(text)


def _is_word(text: str) -> bool:
    """Return True if YAML certainly reads this text as text, even without quotes."""
    return bool(re.match(r"[A-Za-z(/]", text)) and text.lower() not in _WORDS


def _breaks(text: str, *, flow: bool) -> bool:
    """Return True if YAML would read this text, without quotes, as something else. flow: see scalar()."""
    if text.lower() in _WORDS or not text.isprintable() or text != text.strip():
        return True
    if ": " in text or " #" in text or text.endswith(":"):
        return True
    return flow and any(char in ",[]{}" for char in text)


def quoted(text: str) -> str:
    """Return text in double quotes, or in single quotes if only double quotes would need escapes."""
    if not text.isprintable():
        return '"' + "".join(map(_escaped, text)) + '"'
    if ("\\" in text or '"' in text) and "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(char: str) -> str:
    if char in '\\"':
        return "\\" + char
    if char == "\n":
        return "\\n"
    if char == "\t":
        return "\\t"
    if char.isprintable():
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\U{ord(char):08x}"


def block(value: Scalar, indent: str, width: int) -> list[str] | None:
    """Return a value as lines of a YAML block, or None if it is better on one line of *width* characters."""
    text = value.text
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > 1:
        if text.endswith("\n\n") or not all(map(_keeps, lines)) or lines[0][:1] in {"", " "}:
            return None
        return ["|" if text.endswith("\n") else "|-", *(indent + line if line else "" for line in lines)]
    [line] = lines
    if len(text) <= width or not line or not _keeps(line) or "  " in line or line != line.strip():
        return None
    sign = ">" if text.endswith("\n") else ">-"
    return [sign, *(indent + part for part in _wrapped(line, _WRAP - len(indent)))]


def _keeps(line: str) -> bool:
    return (line.isprintable() and line == line.rstrip()) or not line


def _wrapped(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
