"""Parser of PDF's objects (ISO 32000-2, 7.2 and 7.3): tokens, and trees of values with their positions."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.cleaners import TooMuchError

MAX_DEPTH: Final = 60
MAX_TOKENS: Final = 200_000
"""Maximum number of tokens in all objects of a file."""

_TOKEN: Final = re.compile(
    rb"(?P<blank>[\x00\t\n\x0c\r ]+)"
    rb"|(?P<comment>%[^\r\n]*)"
    rb"|(?P<name>/[^\x00\t\n\x0c\r ()<>\[\]{}/%]*)"
    rb"|(?P<ref>\d{1,10}[\x00\t\n\x0c\r ]+\d{1,5}[\x00\t\n\x0c\r ]+R(?![^\x00\t\n\x0c\r ()<>\[\]{}/%]))"
    rb"|(?P<open><<|\[)|(?P<close>>>|\])"
    rb"|(?P<hex><[0-9A-Fa-f\x00\t\n\x0c\r ]*>)"
    rb"|(?P<string>\()"
    rb"|(?P<word>[^\x00\t\n\x0c\r ()<>\[\]{}/%]+)"
)
_HEX_CUT_OFF: Final = re.compile(rb"<[0-9A-Fa-f\x00\t\n\x0c\r ]*")
"""Start of a hexadecimal string that goes on behind the bytes read so far, as signatures do."""
_IN_STRING: Final = re.compile(rb"[^()\\]+|\\.|[()]", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|\r\n|(.))", re.DOTALL)
_HEX_NAME: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_CONTROLS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\r": b"", b"\n": b""}


def is_regular(char: bytes) -> bool:
    """Return True if a byte is a regular character, which continues a word before it (7.2.3). For b"" return
    False.
    """
    return char not in b"\0\t\n\x0c\r ()<>[]{}/%"


class MalformedError(Exception):
    """The bytes are not a PDF object."""


class CutOffError(MalformedError):
    """The object continues behind the bytes that were read."""


@dataclass(slots=True)
class Node:
    """A value, with the range [start, end) of its text.

    kind: ``dict``, ``array``, ``string`` (text: its bytes as written, with delimiters), ``name`` (text:
    decoded), ``ref`` (number), ``word`` (numbers, true, null). members: for each entry of a dictionary its
    key, the position of the key, and the value. items: the values of an array.
    """

    kind: str
    start: int
    end: int = 0
    text: bytes = b""
    number: int = 0
    members: list[tuple[bytes, int, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    _last: dict[bytes, Node] = field(default_factory=dict)
    """The last value of each key, made by the first get()."""

    def get(self, key: bytes) -> Node | None:
        """Return the value of a dictionary's key, or None.

        If the dictionary has the key twice, the last value counts, as for readers.
        """
        if self.members and not self._last:
            self._last = {name: value for name, _, value in self.members}
        return self._last.get(key)

    def name(self, key: bytes) -> bytes:
        """Return the value of a dictionary's key if the value is a name, else no bytes."""
        value = self.get(key)
        return value.text if value is not None and value.kind == "name" else b""

    def integer(self, key: bytes) -> int | None:
        """Return the value of a dictionary's key if the value is a whole number that is not negative, else
        None.
        """
        value = self.get(key)
        if value is None or value.kind != "word" or not value.text.isdigit() or len(value.text) > 12:
            return None
        return int(value.text)


@dataclass(slots=True)
class Reader:
    """Reader of the values in one text. comments: the ranges of comments that were skipped."""

    text: bytes
    at: int = 0
    tokens: int = 0
    comments: list[tuple[int, int]] = field(default_factory=list)

    def next(self) -> re.Match[bytes]:
        """Return the next token; skip white space and comments. Raises MalformedError, TooMuchError."""
        while True:
            found = _TOKEN.match(self.text, self.at)
            if found is None:
                cut = self.at >= len(self.text) - 1 or _HEX_CUT_OFF.fullmatch(self.text, self.at)
                raise CutOffError if cut else MalformedError
            self.at = found.end()
            if found.lastgroup == "blank":
                continue
            self.tokens += 1
            if self.tokens > MAX_TOKENS:
                raise TooMuchError("too many objects")
            if found.lastgroup != "comment":
                return found
            self.comments.append(found.span())

    def value(self, depth: int = MAX_DEPTH) -> Node:
        """Read the value at the reader's position.

        Raises CutOffError if the text ends within the value, MalformedError, TooMuchError.
        """
        return self._value(self.next(), depth)

    def _value(self, token: re.Match[bytes], depth: int) -> Node:
        if depth <= 0:
            raise MalformedError
        kind, start = str(token.lastgroup), token.start()
        if kind == "open":
            return self._dictionary(start, depth) if token[0] == b"<<" else self._array(start, depth)
        if kind == "string":
            self.at = self._string_end(self.at)
            return Node("string", start, self.at, self.text[start : self.at])
        if kind == "hex":
            return Node("string", start, token.end(), token[0])
        if kind == "name":
            return Node("name", start, token.end(), decoded_name(token[0]))
        if kind == "ref":
            return Node("ref", start, token.end(), number=int(token[0].split(None, 1)[0].split(b"\0")[0]))
        if kind == "word":
            return Node("word", start, token.end(), token[0])
        raise MalformedError

    def _dictionary(self, start: int, depth: int) -> Node:
        node = Node("dict", start)
        while (token := self.next())[0] != b">>":
            if token.lastgroup != "name":
                raise MalformedError
            node.members.append((decoded_name(token[0]), token.start(), self.value(depth - 1)))
        node.end = self.at
        return node

    def _array(self, start: int, depth: int) -> Node:
        node = Node("array", start)
        while (token := self.next())[0] != b"]":
            node.items.append(self._value(token, depth - 1))
        node.end = self.at
        return node

    def _string_end(self, at: int) -> int:
        depth = 1
        while depth:
            found = _IN_STRING.match(self.text, at)
            if found is None:
                raise CutOffError
            at = found.end()
            depth += {b"(": 1, b")": -1}.get(found[0], 0)
            if depth > MAX_DEPTH:
                raise MalformedError
        return at


def has_two_values(node: Node, keys: AbstractSet[bytes]) -> bool:
    """Return True if a dictionary has one of the keys twice, with different values."""
    values: dict[bytes, object] = {}
    return any(
        values.setdefault(key, content) != content
        for key, content in ((key, _content(value)) for key, _, value in node.members if key in keys)
    )


def _content(node: Node) -> object:
    members = [(key, _content(value)) for key, _, value in node.members]
    return node.kind, node.text, node.number, members, [_content(item) for item in node.items]


def decoded_name(raw: bytes) -> bytes:
    """Return a name without its slash, with each #xx replaced by its byte."""
    return _HEX_NAME.sub(lambda found: bytes((int(found[1], 16),)), raw[1:])


def string_bytes(raw: bytes) -> bytes:
    """Return the bytes of a string in its written form: (text) or <hex>."""
    if raw.startswith(b"<"):
        digits = re.sub(rb"[^0-9A-Fa-f]", b"", raw)
        return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode())
    return _ESCAPE.sub(_unescape, raw[1:-1])


def _unescape(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes((int(found[1], 8) & 0xFF,))
    if found[2] is None:
        return b""
    return _CONTROLS.get(found[2], found[2])


def blank_string(raw: bytes) -> bytes:
    """Return a string without information. It has the written form, (text) or <hex>, and the length of the
    string *raw*.
    """
    if raw.startswith(b"<"):
        return b"<" + b"0" * (len(raw) - 2) + b">"
    return b"(" + b" " * (len(raw) - 2) + b")"
