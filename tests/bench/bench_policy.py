"""What a decision costs: remembered, and at the first look; with 10 rules and with 10,000.

    python tests/bench/bench_policy.py [--decisions N]

Prints one JSON object; times in microseconds, the best of some rounds: what it costs undisturbed.
Exits 1 if a remembered decision takes more than 3 us, or if 10,000 rules make it more than 1.5
times as dear as 10.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from policyfs.domain import Audit, Facts, FileType, Op
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.model import App, Effect, Policy, Rule, Where, Who

LIMIT_US = 3.0
LIMIT_RATIO = 1.5
ROUNDS = 9
APPS = 10


def rule(number: int) -> Rule:
    """Each rule gives one app a tree of its own, some by pattern."""
    tree = f"/t{number}" if number % 3 else f"/t{number}*/**/x?"
    return Rule(
        id=f"r{number:05}", effect=Effect.ALLOW, ops=Op.SEE | Op.READ,
        who=Who(frozenset({f"app{number % APPS}"}), None, None, None), paths=(f"{tree}/***",),
        ignore_case=False, when=None, unless=(), errno=None, redact=frozenset(), content=frozenset(),
        raw_types=frozenset(), audit=None, monitor=False, description="", where=Where("bench", 1, 1),
    )  # fmt: skip


def policy(count: int) -> Policy:
    apps = tuple(App(f"app{n}", ((1000 + n, 1000 + n),), (), frozenset(), "") for n in range(APPS))
    rules = tuple(rule(number) for number in range(count))
    return Policy("bench", "", apps, rules, Audit.BEST_EFFORT, Audit.REQUIRED, "")


def per_call(calls: int, work) -> float:
    """Microseconds for each of ``calls`` iterations of ``work(calls)``: the best of rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        work(calls)
        times.append((time.perf_counter_ns() - start) / calls / 1000)
    return min(times)


def remembered(engine: Engine, calls: int) -> float:
    state = engine.state_of(b"/t1/a/b/c.jpg")
    who = engine.principal(1001)
    ops, facts, decide = Op.SEE | Op.READ, Facts("image/jpeg", "none"), engine.decide

    def work(count: int) -> None:
        for _ in range(count):
            decide(who, ops, state, FileType.REGULAR, facts)

    assert engine.decide(who, ops, state, FileType.REGULAR, facts).allowed
    return per_call(calls, work)


def steps(engine: Engine, calls: int, *, known: bool) -> float:
    """A child by name: the same few again, or each name new."""
    at = engine.state_of(b"/t1/a")
    serial = 0

    def work(count: int) -> None:
        nonlocal serial
        for number in range(count):
            name = b"n%d" % (number % 50 if known else serial)
            serial += 1
            engine.child(at, name)

    return per_call(calls, work)


def first_looks(engine: Engine, calls: int) -> float:
    """State and decision for a tree not looked at before."""
    who = engine.principal(1001)
    serial = 0

    def work(count: int) -> None:
        nonlocal serial
        for _ in range(count):
            serial += 1
            state = engine.child(engine.child(engine.root, b"t%d" % serial), b"a")
            engine.decide(who, Op.SEE | Op.READ, state, FileType.REGULAR, Facts())

    return per_call(calls, work)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=100_000)
    calls = parser.parse_args().decisions
    found: dict[str, object] = {}
    for count in (10, 10_000):
        start = time.perf_counter()
        engine = compile_policy(policy(count))
        found[f"compile_{count}_ms"] = round((time.perf_counter() - start) * 1000, 1)
        found[f"decide_{count}_us"] = round(remembered(engine, calls), 3)
        found[f"child_known_{count}_us"] = round(steps(engine, calls // 10, known=True), 3)
        found[f"child_new_{count}_us"] = round(steps(engine, calls // 100, known=False), 3)
        found[f"first_{count}_us"] = round(first_looks(engine, calls // 1000), 3)
    ratio = remembered(engine, calls) / remembered(compile_policy(policy(10)), calls)
    found["ratio"] = round(ratio, 3)
    slow = max(float(str(found[f"decide_{count}_us"])) for count in (10, 10_000))
    found["ok"] = slow <= LIMIT_US and ratio <= LIMIT_RATIO
    print(json.dumps(found, indent=1))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
