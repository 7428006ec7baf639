"""Parser of the query language of ``policyfs audit`` (pure). docs/audit.md has the grammar.

query = and-part { "or" and-part }
and-part = part { ["and"] part }
part = "not" part | "(" query ")" | FIELD ":" values
values = value { "," value } | RELATION value | [value] ".." [value]
"""

from __future__ import annotations

import difflib
import re
from typing import Final, NoReturn

from policyfs.errors import UsageError
from policyfs.trail.lines.table import shown, width
from policyfs.trail.query.expression import (
    BARE,
    GLOB_FIELDS,
    And,
    Expression,
    Not,
    Span,
    Term,
    Value,
    all_of,
    any_of,
)

DEPTH: Final = 100
"""The limit of the nesting of parentheses and `not`."""

_SPACE: Final = re.compile(r"\s*")
_FIELD: Final = re.compile(r"([A-Za-z_]+):")
_WORD: Final = re.compile(r"[^\s()]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(["\\])')
_RELATION: Final = re.compile(r">=|<=|>|<")


class QueryError(UsageError):
    """Error in a query for events. Its message shows the query, with a mark below the wrong part."""

    def __init__(self, message: str, text: str = "", at: Span = (0, 0)) -> None:
        self.plain = message
        if text and at != (0, 0):
            room = width(shown(text[: at[0]]))
            mark = "^" * max(1, width(shown(text[at[0] : at[1]])))
            message = f"{message}\n  {shown(text)}\n  {' ' * room}{mark}"
        super().__init__(message)


def similar(word: str, known: list[str]) -> str:
    """Return a text that suggests words of *known* that are similar to *word*, for an error message."""
    meant = difflib.get_close_matches(word, known, n=3)
    if meant:
        return f"did you mean {' or '.join(map(shown, meant))}?"
    names = ", ".join(map(shown, known[:30]))
    return f"there are {names}{', ...' * (len(known) > 30)}" if known else "there are none"


class Parser:
    """The parser of one query. names: from the names of fields that it may use to the proper names
    (``operation``: ``op``). numeric: the fields with relations (``>``) and ranges."""

    def __init__(self, text: str, names: dict[str, str], numeric: frozenset[str]) -> None:
        self._text = text
        self._names = names
        self._numeric = numeric
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        """Return the query as a tree of conditions. Raises QueryError."""
        self._skip()
        if self._at == len(self._text):
            return And()
        tree = self._query()
        if self._at < len(self._text):
            self._fail("this parenthesis closes nothing", self._at, self._at + 1)
        return tree

    def _query(self) -> Expression:
        parts = [self._conjunction()]
        while self._keyword("or"):
            parts.append(self._conjunction())
        return any_of(*parts)

    def _conjunction(self) -> Expression:
        parts = [self._part()]
        while True:
            joined = self._keyword("and")
            ended = self._at == len(self._text) or self._text[self._at] == ")" or self._is("or")
            if ended and not joined:
                return all_of(*parts)
            parts.append(self._part())

    def _part(self) -> Expression:
        begin = self._at
        if begin == len(self._text):
            self._fail("a condition is missing here", begin, begin + 1)
        if self._text[begin] == ")":
            self._fail("a condition is missing before this parenthesis", begin, begin + 1)
        if self._text[begin] != "(" and not self._is("not"):
            return self._term()
        self._depth += 1
        if self._depth > DEPTH:
            self._fail(f"more than {DEPTH} parentheses or `not` inside each other", begin, begin + 1)
        if self._keyword("not"):
            tree: Expression = Not(self._part())
        else:
            self._step(1)
            tree = self._query()
            if not self._text.startswith(")", self._at):
                self._fail("this parenthesis is never closed", begin, begin + 1)
            self._step(1)
        self._depth -= 1
        return tree

    def _term(self) -> Term:
        begin = self._at
        match = _FIELD.match(self._text, begin)
        if match is None:
            self._no_term(begin)
        name = self._names.get(match[1].lower())
        if name is None:
            hint = similar(match[1].lower(), sorted(self._names))
            self._fail(f"no field is called {match[1]}: {hint}", begin, match.end(1))
        self._at = match.end()
        relation, values = self._values(name, match.end())
        end = self._at
        if end < len(self._text) and self._text[end] not in "() \t\r\n":
            self._fail("a space is missing here", end, end + 1)
        self._skip()
        return Term(name, values, relation, (begin, end))

    def _values(self, name: str, begin: int) -> tuple[str, tuple[Value, ...]]:
        if name in self._numeric:
            relation = _RELATION.match(self._text, begin)
            if relation is not None:
                self._at = relation.end()
                return relation[0], (self._value(name),)
            word = BARE.match(self._text, begin)
            if word is not None and ".." in word[0]:
                low, _, high = word[0].partition("..")
                self._at = word.end()
                middle = begin + len(low)
                ends = Value(low, at=(begin, middle)), Value(high, at=(middle + 2, word.end()))
                if not (low or high):
                    self._fail("a range needs a number before or after the dots", begin, word.end())
                return "..", ends
        values = [self._value(name)]
        while self._text.startswith(",", self._at):
            self._at += 1
            values.append(self._value(name))
        return "=", tuple(values)

    def _value(self, name: str) -> Value:
        begin = self._at
        quoted = _QUOTED.match(self._text, begin)
        if quoted is not None:
            self._at = quoted.end()
            literal = name not in GLOB_FIELDS
            return Value(_ESCAPE.sub(r"\1", quoted[1]), literal, (begin, self._at))
        if self._text.startswith('"', begin):
            self._fail("this quote is never closed", begin, begin + 1)
        bare = BARE.match(self._text, begin)
        if bare is None:
            self._fail(f"a value is missing after {name}:", begin, begin + 1)
        self._at = bare.end()
        return Value(bare[0], at=(begin, self._at))

    def _no_term(self, begin: int) -> NoReturn:
        word = _WORD.match(self._text, begin)
        end = word.end() if word else begin + 1
        text = self._text[begin:end]
        hint = f"path:{text}" if "/" in text or "." in text else f"app:{text}"
        self._fail(
            f"a condition is FIELD:VALUE, such as {shown(hint)}; put a value with spaces "
            "in double quotes, and the whole query in single quotes for the shell: 'reason:\"a b\"'",
            begin,
            end,
        )

    def _is(self, word: str) -> bool:
        match = _WORD.match(self._text, self._at)
        return match is not None and match[0].lower() == word

    def _keyword(self, word: str) -> bool:
        if not self._is(word):
            return False
        self._step(len(word))
        return True

    def _step(self, count: int) -> None:
        self._at += count
        self._skip()

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _fail(self, message: str, begin: int, end: int) -> NoReturn:
        raise QueryError(message, self._text, (begin, max(end, begin + 1)))
