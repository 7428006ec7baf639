"""The matrix against the naive evaluator: a cell says of every request what the text of the language says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import OWNER_NONE, Facts, FileType, Op
from policyfs.policy.analysis.matrix import Answer, Matrix, Row, matrix
from policyfs.policy.model import Policy
from tests.property.test_policy_diff import app_of, naive, share
from tests.property.test_policy_engine import CASES, requests
from tests.support.models import policy_cases as cases
from tests.support.models.naive_policy import Caller, Node, glob_matches

pytestmark = pytest.mark.timeout(max(600, CASES // 10))
_FOLDS = " (in any case)"


def globs_of(policy: Policy) -> set[tuple[str, bool]]:
    return {
        (glob, rule.ignore_case)
        for rule in policy.rules
        for block in (None, *rule.unless, *([] if rule.when is None else [rule.when]))
        for glob in (rule.paths if block is None else block.paths) or ()
    }


def rows_of(found: Matrix, policy: Policy, caller: Caller, name: str, path: bytes) -> list[Row]:
    """The rows in which the path of a request may be."""
    here = [row for row in found.rows if name in row.cells]
    if any(glob_matches(glob, path, folds, caller) for glob, folds in globs_of(policy)):
        return [
            row
            for row in here
            if row.globs
            and all(
                glob_matches(glob.removesuffix(_FOLDS), path, glob.endswith(_FOLDS), caller)
                for glob in row.globs
            )
        ]
    return [row for row in here if not row.globs]


@share(0.03)
@given(cases.policies(max_rules=3), st.lists(requests, min_size=8, max_size=8))
def test_a_cell_is_true_of_every_file_of_its_row(policy, asked):
    found = matrix(policy)
    for caller, ops, path, _, facts, owners in asked:
        caller = Caller(app_of(policy, caller.uid), caller.uid)
        name = caller.app or "stranger"
        if path == b"/" or name not in found.columns or any(f"{name} (" in one for one in found.columns):
            continue
        for op in ops:
            known = Facts(facts.kind or "image/jpeg", facts.owner or OWNER_NONE)
            if op is Op.CREATE:
                known = Facts(None, caller.app or OWNER_NONE)
            node = Node(path, FileType.REGULAR, known, owners)
            rows = rows_of(found, policy, caller, name, path)
            assert rows, "no row has this path"
            answers = {row.cells[name][op].answer for row in rows}
            for sure, allowed in ((Answer.ALWAYS, True), (Answer.NEVER, False)):
                if answers == {sure}:
                    said = {
                        naive(policy, rich=rich).decide(caller, Op.SEE | op, node).allowed
                        for rich in (False, True)
                    }
                    assert allowed in said, (name, op, node)
