"""policyfs against an oracle that was written from docs/policy-language.md alone.

`make soak` draws 10,000 policies, and asks 50 questions about each.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from policyfs.policy.analysis.diff import diff
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import in_force
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Policy as PolicyOf
from policyfs.policy.moves import losses, moves
from policyfs.policy.moves.comparison import Budget
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.oracle import compare, draw
from tests.oracle.decide import DIRECTORY, Oracle
from tests.oracle.language import read_policy
from tests.oracle.moves import Move, Mover, TooLargeError, callers
from tests.support.machine.counts import SOAK, count

QUESTIONS, MOVES = 45, 5
BLOCKS = range(count(1, 100))
AT = int(draw.NOW.timestamp() * 10**9)

pytestmark = pytest.mark.timeout(3000 if SOAK else 120)


def seeds(block: int, quick: int) -> range:
    """Return the seeds of a block: 100 in `make soak`."""
    return range(100 * block, 100 * block + (100 if SOAK else quick))


def whole(text: str) -> PolicyOf:
    return parse_policy([SourceText("policy.yaml", text.encode())])


def both(drawn: draw.Draw, *, monitor: bool = False) -> tuple[Engine, Oracle]:
    engine = compile_policy(in_force(whole(drawn.text), AT), monitor=monitor)
    return engine, Oracle(read_policy(drawn.text, draw.NOW))


@pytest.mark.parametrize("block", BLOCKS)
def test_requests(block: int) -> None:
    for seed in seeds(block, 30):
        rng = random.Random(seed)
        monitor = rng.random() < 0.2
        drawn = draw.Draw(rng)
        engine, oracle = both(drawn, monitor=monitor)
        for number in range(QUESTIONS):
            asked = draw.question(rng, oracle.policy, oracle.kinds)
            caller = oracle.policy.caller(asked.app, asked.uid)
            want = oracle.decide(
                caller, asked.operation, asked.path, asked.facts, asked.above, monitor=monitor
            )
            want = replace(want, audit_keys=None, checks=frozenset(map(compare.patterns, want.checks)))
            told = f"{drawn.text}\nseed {seed}, question {number}, --monitor {monitor}: {asked}"
            assert compare.ask(engine, asked) == want, told
            if want.errno is None and asked.facts.kind not in compare.TYPES:
                assert compare.view(engine, asked) == oracle.view(caller, asked.path, monitor=monitor), told


@pytest.mark.parametrize("block", BLOCKS)
def test_renames_and_links(block: int) -> None:
    for seed in seeds(block, 10):
        rng = random.Random(seed)
        drawn = draw.Draw(rng, moves=True)
        engine, oracle = both(drawn)
        mover = Mover(oracle, callers(oracle.policy, draw.UIDS, draw.NAMES))
        for number in range(MOVES):
            asked = draw.move(rng, oracle.policy, oracle.kinds)
            if asked is None:
                continue
            try:
                want = mover.answer(asked)
            except TooLargeError:
                continue
            found = compare.move(engine, asked)
            if found != want and found in ("EXDEV", "EACCES") and asked.facts.kind == DIRECTORY:
                found = patiently(drawn, asked)
            assert found == want, f"{drawn.text}\nseed {seed}, move {number}: {asked}"


def patiently(drawn: draw.Draw, asked: Move) -> str | None:
    """Ask an engine that compares any number of paths: the usual one may refuse to compare so many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (moves, losses):
            patch.setattr(module, "MAX_PAIRS", math.inf)
        patch.setattr(losses, "MAX_FACTS", math.inf)
        patch.setattr(Budget.__init__, "__defaults__", (math.inf,))
        return compare.move(both(drawn)[0], asked)


@pytest.mark.parametrize("block", BLOCKS)
def test_diff_reports_all_differences_and_no_others(block: int) -> None:
    for seed in seeds(block, 8):
        rng = random.Random(seed)
        drawn = draw.Draw(rng)
        texts = drawn.text, json.dumps(drawn.changed(), ensure_ascii=False)
        try:
            found, notes = diff(*map(whole, texts), AT)
        except TooHardError:
            continue
        old, new = (Oracle(read_policy(text, draw.NOW)) for text in texts)
        told = f"{texts[0]}\n{texts[1]}\nseed {seed}"
        reported = set()
        defaults = any(note.text.startswith("defaults.") for note in notes)
        for one in found:
            if one.since_ns is not None:
                continue  # after the end of an exception
            for example in one.examples:
                reported |= {(example.op.name, one.aspect.value, who) for who in one.who}
                if one.aspect.value == "io" or any(example.request.subject.absent):
                    continue
                differ = compare.differences((old, new), compare.asked(example.request))[0]
                assert one.aspect.value in differ, f"{told}: {example}"
        for number in range(QUESTIONS):
            oracle = rng.choice((old, new))
            asked = draw.question(rng, oracle.policy, oracle.kinds)
            names = {one.policy.caller(asked.app, asked.uid).app or "stranger" for one in (old, new)}
            if " " in asked.operation or len(names) > 1:
                continue
            for aspect in compare.differences((old, new), asked)[1]:
                known = (asked.operation.upper(), aspect, *names) in reported
                assert known or (aspect == "record" and defaults), f"{told}, {number}: {asked}"
