"""Variables in compose files, and the files `.env` that give them values, as Compose reads both."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":?[-+?]")
_SETTING: Final = re.compile(
    r"""(?:export[ \t]+)?(?P<name>[A-Za-z0-9_.\[\]-]+)[ \t]*"""
    r"""(?:[=:][ \t]*(?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|"""
    r"""(?P<bare>(?:[^'"\n][^\n]*)?))"""
    r"""|(?:\#[^\n]*)?(?:\n|$))""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\([nrt\"\\])")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_MAX_DEPTH: Final = 20
_NONE: Final[Mapping[str, str]] = MappingProxyType({})

Missing = Callable[[str], str]
"""A function of a variable without a value: returns what replaces it, or raises."""


def interpolated(text: str, values: Mapping[str, str], missing: Missing, depth: int = 0) -> str:
    """Return a text with its variables replaced, such as ``$A``, ``${A:-${B:-c}}``, ``${A:+x}``; ``$$`` is a
    dollar sign.

    Raises ValueError if it has a variable of another form, and what *missing* raises.
    """
    out, at = [], 0
    while (dollar := text.find("$", at)) >= 0:
        out.append(text[at:dollar])
        at = dollar + 1
        if text.startswith("$", at):
            out.append("$")
            at += 1
        elif name := _NAME.match(text, at):
            out.append(values[name[0]] if name[0] in values else missing(name[0]))
            at = name.end()
        else:
            end = _closing(text, at)
            out.append(_braced(text[at + 1 : end], values, missing, depth))
            at = end + 1
    return "".join(out) + text[at:]


def _closing(text: str, at: int) -> int:
    """Return the position of the brace that closes the one at a position. Raises ValueError."""
    level = 0
    for position in range(at, len(text) if text.startswith("{", at) else at):
        level += {"{": 1, "}": -1}.get(text[position], 0)
        if not level:
            return position
    raise ValueError("a dollar sign that begins no variable is written $$")


def _braced(inner: str, values: Mapping[str, str], missing: Missing, depth: int) -> str:
    name = _NAME.match(inner)
    operator = name and _OPERATOR.match(inner, name.end())
    if name is None or (operator is None and name.end() < len(inner)) or depth > _MAX_DEPTH:
        raise ValueError("a variable has the form ${NAME}, ${NAME:-default} or ${NAME:+other}")
    value = values.get(name[0])
    if operator is None:
        return missing(name[0]) if value is None else value
    present = bool(value) if operator[0][0] == ":" else value is not None
    rest = inner[operator.end() :]
    if operator[0][-1] == "+":
        return interpolated(rest, values, missing, depth + 1) if present else ""
    if present:
        return value or ""
    return interpolated(rest, values, missing, depth + 1) if operator[0][-1] == "-" else missing(name[0])


def settings(text: str, given: Mapping[str, str], before: Mapping[str, str] = _NONE) -> dict[str, str]:
    """Return the variables that a file `.env` sets. given: the environment, which counts before the file.
    before: of earlier files. Raises ValueError for a line that is no setting."""
    found: dict[str, str] = {}
    at, text = 0, text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text):
        if text[at].isspace() or text[at] == "#":
            at = at + 1 if text[at] != "#" else (text + "\n").index("\n", at)
            continue
        match = _SETTING.match(text, at)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1} is no setting of the form NAME=value")
        at = match.end()
        name, value = match["name"], _value(match, {**before, **found, **given})
        if value is not None:
            found[name] = value
    return found


def _value(match: re.Match[str], values: Mapping[str, str]) -> str | None:
    single, double, bare = match["single"], match["double"], match["bare"]
    if single is not None:
        return single.replace("\\'", "'")
    if double is None and bare is None:  # a name alone: the environment has the value
        return values.get(match["name"])
    text = re.split(r"\s#", bare)[0].strip() if double is None else double
    expanded = interpolated(text if double is None else text.replace("\\$", "$$"), values, lambda _: "")
    return expanded if double is None else _ESCAPE.sub(lambda one: _ESCAPED.get(one[1], one[1]), expanded)
