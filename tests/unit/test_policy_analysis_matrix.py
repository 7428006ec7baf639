"""The matrix of a policy: what depends on what. tests/property/test_policy_matrix.py: that it is exact."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.analysis.matrix import Answer, Cell, matrix
from tests.support.models.whole_policies import policy_of

APPS = """\
apps:
  camera: {uid: 10010}
  gallery: {uid: [10011, 10012]}
  cloud: {}
"""


def cells(rules: str, who: str, *globs: str) -> dict[str, Cell]:
    found = matrix(policy_of(rules, apps=APPS))
    [row] = [row for row in found.rows if row.globs == globs]
    return {(op.name or "").lower(): cell for op, cell in row.cells[who].items()}


def answers(rules: str, who: str, *globs: str) -> dict[str, str]:
    return {op: cell.answer.value for op, cell in cells(rules, who, *globs).items()}


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ('allow: [see, read], paths: "/a/**"', Answer.ALWAYS),
        ('allow: [see, read], who: {app: camera}, paths: "/a/**"', Answer.NEVER),
        ('allow: [see, read], paths: "/a/**", when: {owner: self}', Answer.OWN),
        ('allow: [see, read], paths: "/a/**", when: {type: image/jpeg}', Answer.KIND),
        ('allow: [see, read], paths: "/a/**", when: {owner: none}', Answer.FACTS),
        ('allow: [see, read], paths: "/a/**", when: {owner: self, type: image/jpeg}', Answer.FACTS),
    ],
)
def test_what_reading_depends_on(rule: str, answer: Answer) -> None:
    assert cells(f"- {{id: r, {rule}}}", "gallery", "/a/**")["read"].answer is answer


def test_a_row_has_the_paths_that_no_other_names_more_exactly() -> None:
    rules = """\
- {id: all, allow: [see, read], paths: "/a/**"}
- {id: hide, deny: [all], paths: "/a/x/**"}
- {id: own, allow: [all], paths: "/b/{app}/**"}
"""
    assert answers(rules, "gallery", "/a/**")["read"] == "always"
    assert answers(rules, "gallery", "/a/x/**")["read"] == "never"
    assert answers(rules, "gallery", "/b/{app}/**")["delete"] == "always"
    found = matrix(policy_of(rules, apps=APPS))
    [own] = [row for row in found.rows if row.globs == ("/b/{app}/**",)]
    assert set(own.cells) == {"camera", "cloud", "gallery"}
    assert found.rows[-1].globs == ()
    assert {cell.answer for cell in found.rows[-1].cells["gallery"].values()} == {Answer.NEVER}


def test_globs_that_cross_are_a_row_together() -> None:
    rules = """\
- {id: a, allow: [see, read], paths: "/*/x"}
- {id: b, deny: [read], paths: "/y/*"}
"""
    assert answers(rules, "gallery", "/*/x")["read"] == "always"
    assert answers(rules, "gallery", "/*/x", "/y/*") == answers(rules, "gallery", "/*/x") | {"read": "never"}


def test_a_directory_that_may_be_hidden_by_its_owner_makes_some_paths_hidden() -> None:
    rules = """\
- {id: a, allow: [see, read], paths: "/a/**"}
- {id: b, deny: [see], paths: "/a/*", when: {owner: camera}}
"""
    assert answers(rules, "gallery", "/a/**")["read"] == "by owner, or by kind and owner"


def test_obligations_are_in_the_cell() -> None:
    rules = """\
- {id: a, allow: [see, read, write, create], paths: "/a/**"}
- {id: b, require: {redact: [location]}, unless: {owner: self}}
- {id: c, require: {content: [image/jpeg]}, paths: "/a/**"}
"""
    found = cells(rules, "gallery", "/a/**")
    assert found["read"] == Cell(Answer.ALWAYS, ("location",), False)
    assert found["write"].checked


def test_uids_and_mounts_that_differ_have_columns_of_their_own() -> None:
    rules = '- {id: a, allow: [see, read], who: {uid: 10011}, paths: "/a/**"}'
    found = matrix(policy_of(rules, apps=APPS))
    assert "gallery" in found.columns
    assert any(name.startswith("gallery (") for name in found.columns)
    assert found.columns[-1] == "stranger"


def test_any_case_is_said() -> None:
    rules = '- {id: a, allow: [see], paths: "/a/**", ignore_case: true}'
    assert answers(rules, "gallery", "/a/** (in any case)")["see"] == "always"
    assert Op.SEE in matrix(policy_of(rules, apps=APPS)).rows[0].cells["gallery"]
