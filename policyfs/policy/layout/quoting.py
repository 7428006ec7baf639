"""Values as YAML on one line, with quotes where YAML might read something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS: Final = frozenset(("true", "false", "null", "yes", "no", "on", "off"))


def name_text(text: str) -> str:
    """Return a name as YAML: in quotes if YAML might read it as a number, as true, or as no value."""
    return text if _is_word(text) else quoted(text)


def _is_word(text: str) -> bool:
    """Return True if YAML certainly reads this name as text, even without quotes."""
    return bool(re.match(r"[A-Za-z(/]", text)) and text.lower() not in _WORDS


def flow(value: object) -> str:
    """Return a mapping, list, text, number or boolean as YAML on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    return value if _WORD.fullmatch(value) and value.lower() not in _WORDS else quoted(value)


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
