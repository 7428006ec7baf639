"""The matrix against the naive evaluator: a cell says of every file of its row what the text of the language
says, and callers with different rights never have cells that look alike."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.policy.matrix_text import MatrixText, text_of
from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.matrix import OPS, OTHER, SELF, Answers, Matrix, Rights, Row, matrix
from policyfs.policy.model import Effect, Policy
from tests.property.test_policy_diff import app_of
from tests.property.test_policy_engine import CASES, EVERYONE, naive, share
from tests.support.machine.documents import CHECKOUT
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Naive, Node, glob_matches

pytestmark = pytest.mark.timeout(max(600, CASES // 10))
SHIPPED = sorted((CHECKOUT / "policies").glob("*.yaml"))
COLUMNS = 100


def globs_of(policy: Policy) -> set[tuple[str, bool]]:
    """The globs of a policy, and those of the paths below what a rule can hide."""
    found = set()
    for rule in policy.rules:
        lists = [rule.paths, *(block.paths for block in (*rule.unless, *filter(None, [rule.when])))]
        for paths in lists:
            for glob in paths or ():
                found.add((glob, rule.ignore_case))
                hides = rule.effect is Effect.DENY and rule.ops & Op.SEE
                if hides and not glob.endswith("/**") and glob != "/":
                    found.add((glob.removesuffix("/***") + "/**", rule.ignore_case))
    return found


def row_of(found: Matrix, policy: Policy, caller: Caller, path: bytes) -> Row | None:
    """The row of a path. None: the path is only a directory, such as /P where a glob is /P/**."""
    matching = {
        glob + " (in any case)" * folds
        for glob, folds in globs_of(policy)
        if glob_matches(glob, path, folds, caller)
    }
    return next((row for row in found.rows if matching in row.keys), None)


def said(text: Naive, caller: Caller, path: bytes, owners: tuple[str | None, ...], like: Answers) -> Answers:
    """What the language answers to a caller about the files that a cell distinguishes."""
    answers = []
    for (kind, owner), _ in like:
        ops, redact, content = 0, frozenset[str](), frozenset[frozenset[str]]()
        name = {SELF: caller.app, OTHER: "\0app"}.get(owner, owner)
        for op in OPS:
            facts = Facts(None, caller.app or "none") if op is Op.CREATE else Facts(kind, name)
            answer = text.decide(caller, Op.SEE | op, Node(path, FileType.REGULAR, facts, owners))
            if answer.allowed:
                ops |= op
                redact |= answer.redact
                content |= answer.content if op is Op.WRITE else frozenset()
        answers.append(((kind, owner), Rights(ops, redact, content)))
    return tuple(answers)


def check(policy: Policy, found: Matrix, path: bytes, callers: list[Caller], owner: str | None) -> None:
    text, told = naive(policy), MatrixText(found)
    here: dict[int, list[tuple[tuple[str, ...], dict[tuple[str, str], Rights]]]] = {}
    for caller in callers:
        name = caller.app or "stranger"
        if name not in found.columns or any(one.startswith(f"{name} (") for one in found.columns):
            continue
        row = row_of(found, policy, caller, path)
        if row is None:
            continue
        cell = row.cells[name]
        answers = said(text, caller, path, (owner,) * path.count(b"/"), cell[0])
        assert answers in cell, (name, path, row.paths)
        here.setdefault(found.rows.index(row), []).append((told.terms(row, name), dict(answers)))
    for some in here.values():
        for (terms, one), (others, other) in itertools.combinations(some, 2):
            if any(one[file] != other[file] for file in one.keys() & other.keys()):
                assert terms != others, path


@share(0.04)
@given(cases.policies(max_rules=3), st.lists(cases.some_paths, min_size=6, max_size=6), cases.some_owners)
def test_a_cell_is_true_of_every_file_of_its_row(policy, paths, owner):
    found = matrix(policy)
    callers = [Caller(app_of(policy, caller.uid), caller.uid) for caller in EVERYONE]
    for path in {*paths} - {b"/"}:
        check(policy, found, path, [*dict.fromkeys(callers)], owner)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_matrix_of_a_shipped_policy_is_narrow_and_tells_callers_apart(file):
    policy = load_policy(read_sources(file), at_ns=time.time_ns()).policy
    found = matrix(policy)
    lines = text_of(found, COLUMNS, colours=False).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert lines.index("") <= 24, "no look at one screen shows the rows"
    assert sum(line.startswith(" ") and "stranger" in line for line in lines) == 1, "more than one table"
    names = {segment for glob, _ in globs_of(policy) for segment in glob.split("/")[1:]}
    some = {name.replace("*", "x") for one in names for name in one.strip("{}").split(",")} | {"x"}
    apps = [Caller(app.name, app.uids[0][0] if app.uids else 1000) for app in policy.apps]
    some |= {app.name for app in policy.apps}
    callers = [*apps, Caller(None, 4242)]
    seen: set[object] = set()  # one path for each set of globs
    for length in (1, 2, 3):
        for name in itertools.product(sorted(some), repeat=length):
            path = b"/" + "/".join(name).encode()
            key = tuple(glob for glob in globs_of(policy) if glob_matches(glob[0], path, glob[1], apps[0]))
            if key not in seen:
                seen.add(key)
                check(policy, found, path, callers, "none")
    assert seen
