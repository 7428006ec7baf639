"""libyaml and ruamel.yaml read the same tree from a policy, place by place, or libyaml leaves it alone.

Texts are stretches of real policies, good and bad, with small changes at random places.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from policyfs.policy.errors import PolicyError
from policyfs.policy.globs.paths import GlobError, check_glob, parse_glob
from policyfs.policy.text import compose as module
from policyfs.policy.text.compose import UnreadableError, compose, decode
from policyfs.policy.text.nodes import Node, Source
from tests.support.machine.counts import count

CHECKOUT = Path(__file__).resolve().parents[2]
PIECES = (
    "\n", "\n\n", "  ", "\t", "- ", "-", ": ", ":", " : ", "?", "? ", "#", " #", '"', "'", "{", "}", "[", "]",
    ",", "|", ">", ">-", "|+\n", "|2", ">1\n", "---\n", "...\n", "&a ", "*a", "!x ", "!", "%", "@", "`", "\\",
    '\\"', "\\x41", "\\u2028", "\\/", "\\ ", "\r\n", "\r", "é", "𝕏", "\u00a0", "\x85", "\u2028", "\ufeff",
    "~", "null", "0", "017", "1.5", '"a\\\n  b"', "'a\n  b'", "a: b\n", "- x\n", "<<: ", "{a,b}", "/**",
    "a" * 1030,
)  # fmt: skip


def texts() -> list[str]:
    bad = (CHECKOUT / "tests/unit/policy_errors").rglob("*.yaml")
    paths = [*(CHECKOUT / "policies").glob("*.yaml"), *bad]
    assert len(paths) > 60
    return [path.read_bytes().decode("utf-8", "replace") for path in sorted(paths)]


def changed(chance: random.Random, text: str) -> str:
    """Some lines of the text, with up to five small changes."""
    lines = text.splitlines(keepends=True)
    if len(lines) > 14:
        first = chance.randrange(len(lines) - 10)
        lines = lines[first : first + chance.randint(3, 14)]
    text = "".join(lines)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 5])):
        at = chance.randint(0, len(text))
        match chance.randrange(4):
            case 0 | 1:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 2:
                text = text[:at] + text[at + chance.randint(1, 6) :]
            case _:
                lines = text.split("\n")
                number, other = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[number] = " " * chance.randint(0, 6) + lines[other].lstrip()
                text = "\n".join(lines)
    return text


def read(source: Source) -> tuple[Node | None, list[PolicyError]]:
    errors: list[PolicyError] = []
    try:
        return compose(source, errors), errors
    except UnreadableError:
        return None, errors


def test_both_parsers_read_the_same(monkeypatch):
    assert module.CParser is not None, "libyaml is not installed: see requirements.lock"
    chance = random.Random(17)
    samples, by_libyaml = texts(), 0
    for _ in range(count(2500, 400_000)):
        text = changed(chance, chance.choice(samples))
        try:
            source = decode("x.yaml", text.encode("utf-8", "surrogatepass"), [])
        except UnreadableError:
            continue
        errors: list[PolicyError] = []
        tree = module._composed_by_libyaml(source, errors)
        if tree is None:
            continue
        by_libyaml += 1
        with monkeypatch.context() as patch:
            patch.setattr(module, "CParser", None)
            expected = read(source)
        assert (repr(tree), errors) == (repr(expected[0]), expected[1]), text
    assert by_libyaml > 500


@pytest.mark.parametrize("name", ["android-scoped-storage", "family-photos"])
def test_shipped_policies_are_read_by_libyaml(name):
    source = decode(name, (CHECKOUT / "policies" / f"{name}.yaml").read_bytes(), [])
    assert module._composed_by_libyaml(source, []) is not None


def test_a_glob_is_checked_as_it_is_parsed():
    chance = random.Random(5)
    pieces = (*"////.?a{}[\\,*é\0\ud800", "**", "***", "..", "{a,b}")
    for _ in range(count(10_000, 1_000_000)):
        text = "/" + "".join(chance.choice(pieces) for _ in range(chance.randint(0, 8)))
        assert fault(check_glob, text) == fault(parse_glob, text), text


def fault(check, text: str) -> tuple[object, ...] | None:
    try:
        check(text)
    except GlobError as error:
        return error.message, error.help, error.offset
    return None
