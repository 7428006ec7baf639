"""policyfs against an oracle that was written from docs/policy-language.md alone.

`make soak` draws 10,000 policies, and asks 50 questions about each.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio

from policyfs.cli.policy.view.picture import Entry, Picture
from policyfs.cli.policy.view.walk import Limits, Walk
from policyfs.domain import Lane, Op
from policyfs.policy.analysis.diff import diff
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import in_force
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.model import Policy as PolicyOf
from policyfs.policy.moves import losses, moves
from policyfs.policy.moves.comparison import Budget
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from tests.oracle import compare, draw
from tests.oracle.decide import DIRECTORY, Oracle
from tests.oracle.globs import FRESH, names_of
from tests.oracle.language import Facts, read_policy
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


FILES = {
    "a.jpg": "image/jpeg", "a/a.jpg": "image/jpeg", "a/b/.h": None, "a/b/c": "text/plain",
    "b/ä": "video/mp4", "b/1005": "application/zip", "c/cam/B.JPG": "image/png", "gal/x y/c": None,
}  # fmt: skip
PLACES = sorted({path.rsplit("/", depth)[0] for path in FILES for depth in (1, 2)} - set(FILES))
OWNERS = ("none", "cam", "former", "gal")


class Known(Owners):
    """Owners and kinds that the path tells."""

    def get(self, fd: int, _stat: object) -> str | None:
        return owner_of(self._path(fd))

    async def kind_of_fd(self, fd: int, *, lane: Lane = None) -> str | None:
        return FILES[self._path(fd)]

    async def locate(self, fd: int, _what: frozenset[str], *, lane: Lane = None) -> tuple[str | None, Plan]:
        return await self.kind_of_fd(fd), Plan(Outcome.CLEAN)

    def __init__(self, store: str) -> None:
        super().__init__(trusted=False)
        self.store = store

    def _path(self, fd: int) -> str:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), self.store)


def owner_of(path: str) -> str:
    return OWNERS[len(path) % len(OWNERS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tree, str]]:
    root = tmp_path_factory.mktemp("store").resolve()
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with Tree.open(str(root)) as tree:
        yield tree, str(root)


@pytest.mark.parametrize("block", BLOCKS)
def test_view_shows_what_an_app_sees(block: int, store: tuple[Tree, str]) -> None:
    for seed in seeds(block, 12):
        rng = random.Random(seed)
        drawn = draw.Draw(rng)
        engine, oracle = both(drawn)
        app, uid = draw.who(rng, oracle.policy)
        picture, known = Picture("", "", "", ""), Known(store[1])
        who = compare.principal(engine, app, uid)
        limits = Limits(most=0, alike=0, samples=0)
        trio.run(Walk(store[0], engine, who, known, known, limits).run, picture)
        entries = {entry.path.decode(): entry for entry in picture.entries}
        for name in ("", *PLACES, *FILES):
            told = f"{drawn.text}\nseed {seed}, {app} {uid}, {name!r}"
            assert shown(entries.get(f"/{name}")) == wanted(oracle, app, uid, name), told


def shown(entry: Entry | None) -> tuple[bool, set[str]] | None:
    """Return whether a name is bare, and what may be done with it; None if it is not shown."""
    return entry and (entry.bare, {str(op.name).lower() for op in Op.ALL & ~Op.SEE if op & entry.may})


def wanted(oracle: Oracle, app: str | None, uid: int, name: str) -> tuple[bool, set[str]] | None:
    """Return what `shown` must return."""
    caller, path, is_file = oracle.policy.caller(app, uid), f"/{name}", name in FILES
    parts = names_of(path)
    above = tuple(owner_of("/".join(parts[:depth])) for depth in range(1, len(parts)))
    facts = Facts(FILES[name] if is_file else DIRECTORY, owner_of(name or "."))
    seen = oracle.decide(caller, "see", path, facts, above)
    if seen.errno:
        return None
    operations = ("read", "write", "delete", "attr") if is_file else ("delete", "attr")
    may = {one for one in operations if oracle.decide(caller, one, path, facts, above).errno is None}
    new, inside = "/" + "/".join([*parts, FRESH * 9]), (*above, facts.owner) if parts else ()
    made = [("create write", Facts(None, app or "none")), ("create", Facts(DIRECTORY, app or "none"))]
    made = [(operation, replace(facts, owner=caller.app or "none")) for operation, facts in made]
    if not is_file and any(
        oracle.decide(caller, *one[:1], new, one[1], inside).errno is None for one in made
    ):
        may.add("create")
    return seen.bare, may
