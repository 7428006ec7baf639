"""YAML syntax errors in words for the author of a policy, with advice."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ruamel.yaml.error import MarkedYAMLError

from policyfs.policy.errors import PolicyError, quote
from policyfs.policy.text.nodes import Source, Span


class _Saying(NamedTuple):
    """The message for a syntax error. at_start: True to show where the construct began, not the error.

    ``{token}`` stands for the word at the error, ``{start}`` for the construct's first line.
    """

    message: str
    help: str
    at_start: bool = False


_INDENT: Final = "check this line's indentation, and quotes and brackets in the lines above"
_QUOTE: Final = "put it in quotes: {token}"

_SAYINGS: Final = (
    (
        "'\\t' that cannot start",
        _Saying("YAML does not permit a tab here", "write spaces instead of the tab"),
    ),
    ("'@' that cannot start", _Saying("an unquoted value cannot start with @", _QUOTE)),
    ("'`' that cannot start", _Saying("an unquoted value cannot start with `", _QUOTE)),
    ("'%' that cannot start", _Saying("an unquoted value cannot start with %", _QUOTE)),
    (
        "while scanning an alias",
        _Saying("an unquoted * starts a YAML alias", "a glob needs quotes: {token}", True),
    ),
    (
        "while scanning an anchor",
        _Saying("an unquoted & starts a YAML anchor", _QUOTE, True),
    ),
    (
        "found unknown escape character",
        _Saying(
            "unknown escape in double quotes",
            "for a backslash in a glob use single quotes: '/a\\*b'",
        ),
    ),
    (
        "while scanning a quoted scalar found unexpected end",
        _Saying("a quote is opened here and never closed", "add the closing quote", True),
    ),
    (
        "mapping values are not allowed",
        _Saying("a colon is not allowed here", "put text with a colon in quotes; " + _INDENT),
    ),
    (
        "expected ',' or ']', but got '{'",
        _Saying("an unquoted { starts a YAML mapping", 'a glob with braces needs quotes: "/{a,b}/**"'),
    ),
    (
        "expected ',' or ']'",
        _Saying(
            "the list that begins on line {start} is not closed",
            "close the list with ], or put a comma between its items",
        ),
    ),
    (
        "expected ',' or '}'",
        _Saying(
            "the mapping that begins on line {start} is not closed",
            "close the mapping with }, or put a comma between its keys; put globs with braces in quotes",
        ),
    ),
    ("expected <block end>", _Saying("this line does not belong to the block above", _INDENT)),
    ("could not find expected ':'", _Saying("a key without its colon", "write key: value", True)),
    (
        "expected '<document start>'",
        _Saying("this line does not belong to the document above", _INDENT),
    ),
    ("sequence entries are not allowed", _Saying("a list item is not allowed here", _INDENT)),
    ("expected the node content", _Saying("a value is missing before this", _INDENT)),
)

_TOKEN: Final = re.compile(r"[^\s,\[\]{}]+")


def syntax_error(source: Source, fault: MarkedYAMLError) -> PolicyError:
    """Return a syntax error that ruamel.yaml has found, in words for the author of a policy."""
    told = " ".join(f"{fault.context or ''} {fault.problem or ''}".split())
    saying = next((saying for key, saying in _SAYINGS if key in told), None)
    if saying is None:
        saying = _Saying(f"not valid YAML: {fault.problem or told}", _INDENT)
    mark = fault.problem_mark
    if mark is None or (saying.at_start and fault.context_mark is not None):
        mark = fault.context_mark
    if mark is None:
        return source.error(Span(1, 1, 1), saying.message, saying.help)
    line = source.lines[mark.line] if mark.line < len(source.lines) else ""
    token = _TOKEN.match(line, mark.column)
    help_ = saying.help.replace("{token}", quote(token.group()) if token else '"..."')
    start = (fault.context_mark or mark).line + 1
    message = saying.message.replace("{start}", str(start))
    return source.error(Span(mark.line + 1, mark.column + 1, 1), message, help_)
