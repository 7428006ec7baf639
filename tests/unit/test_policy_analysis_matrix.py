"""The matrix of a policy: rows, and rights in cells. tests/property/test_policy_matrix.py: exactness."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OTHER, SELF, Rights, matrix
from tests.support.models.whole_policies import policy_of

APPS = """\
apps:
  camera: {uid: 10010}
  gallery: {uid: [10011, 10012]}
  cloud: {}
"""


def rights(rules: str, who: str, *globs: str) -> dict[tuple[str, str], Rights]:
    found = matrix(policy_of(rules, apps=APPS))
    [row] = [row for row in found.rows if globs in row.paths]
    [answers] = row.cells[who]
    return dict(answers)


def readable(rules: str, who: str, *globs: str) -> set[tuple[str, str]]:
    """The files that an app reads: kinds and owners."""
    found = rights(rules, who, *globs)
    return {
        (kind.replace("\0", ""), owner.strip("\0"))
        for (kind, owner), right in found.items()
        if right.ops & Op.READ
    }


@pytest.mark.parametrize(
    ("conditions", "files"),
    [
        ("who: {app: camera}", set()),
        ("when: {owner: self}", {("kind/", "self"), ("inode/x-empty", "self")}),
        ("when: {type: image/jpeg, owner: none}", {("image/jpeg", "none")}),
        ("when: {type: image/*, owner: camera}", {("image/kind", "camera")}),
    ],
)
def test_what_reading_depends_on(conditions: str, files: set[tuple[str, str]]) -> None:
    rules = f'- {{id: r, allow: [see, read], paths: "/a/**", {conditions}}}'
    assert readable(rules, "gallery", *(("/a/**",) if files else ())) == files


def test_a_row_has_the_paths_that_no_other_names_more_exactly() -> None:
    rules = """\
- {id: all, allow: [see, read], paths: "/a/**"}
- {id: hide, deny: [all], paths: "/a/x/**"}
- {id: own, allow: [all], paths: "/b/{app}/**"}
"""
    assert readable(rules, "gallery", "/a/**")
    assert not readable(rules, "gallery", "/a/x/**")
    found = matrix(policy_of(rules, apps=APPS))
    [own] = [row for row in found.rows if row.paths == (("/b/{app}/**",),)]
    assert set(own.cells) == {"camera", "cloud", "gallery"}
    assert found.rows[-1].paths == (("/a/x/**",), ())


def test_paths_that_are_decided_alike_are_one_row() -> None:
    rules = """\
- {id: a, allow: [see, read], paths: ["/a/**", "/b/**", "/c/x", "/c/y"]}
- {id: b, deny: [see], paths: ["/a/**/.inner", "/**/.other/***"], who: {app: gallery}}
"""
    found = matrix(policy_of(rules, apps=APPS))
    assert [row.paths for row in found.rows] == [
        (("/**/.other/***", "/a/**"), ("/**/.other/***", "/b/**"), ("/a/**/.inner/***",)),
        (("/a/**",), ("/b/**",), ("/c/x",), ("/c/y",)),
        (("/**/.other/***",), ()),
    ]


def test_globs_that_cross_are_a_row_together() -> None:
    rules = """\
- {id: a, allow: [see, read], paths: "/*/x"}
- {id: b, deny: [read], paths: "/y/*"}
"""
    assert readable(rules, "gallery", "/*/x")
    assert not readable(rules, "gallery", "/*/x", "/y/*")


def test_a_directory_that_may_be_hidden_by_its_owner_gives_two_answers() -> None:
    rules = """\
- {id: a, allow: [see, read], paths: "/a/**"}
- {id: b, deny: [see], paths: "/a/*", when: {owner: camera}}
"""
    found = matrix(policy_of(rules, apps=APPS))
    [row] = [row for row in found.rows if row.paths == (("/a/*/**",),)]
    assert len(row.cells["gallery"]) == 2


def test_obligations_are_in_the_cell() -> None:
    rules = """\
- {id: a, allow: [see, read, write, create], paths: "/a/**"}
- {id: b, require: {redact: [location]}, unless: {owner: self}}
- {id: c, require: {content: [image/jpeg]}, paths: "/a/**"}
"""
    found = rights(rules, "gallery", "/a/**")
    content = frozenset({frozenset({"image/jpeg"})})
    ops = int(Op.SEE | Op.READ | Op.WRITE | Op.CREATE)
    assert found["\0kind/", OTHER] == Rights(ops, frozenset({"location"}), content)
    assert found["\0kind/", SELF] == Rights(ops, frozenset(), content)


def test_uids_and_mounts_that_differ_have_columns_of_their_own() -> None:
    rules = '- {id: a, allow: [see, read], who: {uid: 10011}, paths: "/a/**"}'
    found = matrix(policy_of(rules, apps=APPS))
    assert "gallery" in found.columns
    assert any(name.startswith("gallery (") for name in found.columns)
    assert found.columns[-1] == "stranger"


def test_any_case_is_said() -> None:
    rules = '- {id: a, allow: [see, read], paths: "/a/**", ignore_case: true}'
    assert readable(rules, "gallery", "/a/** (in any case)")
