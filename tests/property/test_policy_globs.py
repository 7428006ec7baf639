"""Globs against the naive evaluator: nested braces, quoted characters, captures in braces, names that are no
UTF-8, several globs in one automaton."""

from __future__ import annotations

import random

import pytest

from policyfs.domain import Audit
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.globs.paths import GlobError, parse_glob
from policyfs.policy.model import Effect, Policy, Rule
from tests.support.machine.counts import count
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, glob_matches

pytestmark = pytest.mark.timeout(1200)

PIECES = (
    *"abABé78-.Iık?*?*", "\u212a", "\\*", "\\?", "\\{", "\\,", "\\a", "{app}", "{uid}",
)  # fmt: skip
"""Also letters whose other case is no ASCII letter: the Kelvin sign, and i without a dot."""
NAME_PIECES = (*"abABé*?{,7890-.xIıkK\n\udcff\udcc3", "\u212a", "ab", "ba", "79")
CALLERS = (Caller("a", 7), Caller("a", 8), Caller("ab", 79), Caller("b", 9), Caller(None, 50))
APPS = (cases.app("a", ((7, 8),)), cases.app("ab", ((79, 79),)), cases.app("b", ((9, 9),)))


def segment(chance: random.Random, depth: int = 0) -> str:
    text = ""
    for _ in range(chance.choice([1, 1, 1, 2, 2, 3, 4])):
        if depth < 2 and chance.random() < 0.2:
            parts = [chance.choice(["", segment(chance, depth + 1)]) for _ in range(chance.choice([2, 3]))]
            text += "{" + ",".join(parts) + "}"
        else:
            text += chance.choice(PIECES)
    return text


def glob(chance: random.Random) -> str:
    while True:
        parts = [
            chance.choice(["**", "*", segment(chance), segment(chance)])
            for _ in range(chance.choice([1, 1, 2, 3]))
        ]
        text = "/" + "/".join(parts) + chance.choice(["", "", "/**", "/***"])
        try:
            return parse_glob(text).text
        except GlobError:
            continue


def rules(chance: random.Random) -> list[Rule]:
    return [
        cases.plain(
            number, Effect.ALLOW, tuple(glob(chance) for _ in range(chance.choice([1, 1, 2]))),
            ignore_case=chance.random() < 0.3,
        )
        for number in range(chance.choice([1, 3, 6]))
    ]  # fmt: skip


def path(chance: random.Random) -> bytes:
    names = []
    for _ in range(chance.choice([1, 1, 2, 2, 3, 4])):
        name = "".join(chance.choice(NAME_PIECES) for _ in range(chance.choice([1, 1, 2, 2, 3, 4, 5])))
        names.append("a" if name in {".", ".."} else name)
    return "".join(f"/{name}" for name in names).encode("utf-8", "surrogateescape")


def matching(engine: Engine, caller: Caller, at: bytes) -> set[str]:
    """The rules that can match a path for a caller."""
    who = engine.principal(caller.uid)
    assert who.app == caller.app
    return {live.rule.id for live in engine.profile(who, engine.state_of(at)).lives}


def test_globs_match_as_the_text_says():
    chance, matched = random.Random(11), 0
    for _ in range(count(200, 30_000)):
        made = rules(chance)
        policy = Policy("globs", "", APPS, tuple(made), Audit.BEST_EFFORT, Audit.REQUIRED, "")
        engine = compile_policy(policy, remembered=chance.choice([1, 5, 1 << 16]))
        for at in (path(chance) for _ in range(10)):
            for caller in CALLERS:
                wanted = {
                    rule.id
                    for rule in made
                    if any(glob_matches(text, at, rule.ignore_case, caller) for text in rule.paths or ())
                }
                assert matching(engine, caller, at) == wanted, (at, caller, made)
                matched += bool(wanted)
    assert matched > 500, "too few paths match anything"
