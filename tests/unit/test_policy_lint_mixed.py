"""Hints on directories in which an app sees only some files."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.mixed import mixed_directories, sample
from policyfs.policy.model import App
from tests.support.models.policies import engine_of

CAMERA = App("camera", ((10010, 10019),), (), frozenset(), "")
ALL = "- {id: all, allow: [see], paths: '/a/***'}\n"
NOBODY = App("own", (), (), frozenset(), "")


@pytest.mark.parametrize(
    ("glob", "directory", "name"),
    [
        ("/a/b", "/a", "b"),
        ("/a", "", "a"),
        ("/a/**", "/a", "x"),
        ("/***", "", "x"),
        ("/**", "", "x"),
        ("/**/b", "", "b"),
        ("/a/**/b", "/a", "b"),
        ("/{one,two}/*.jpg", "/one", "x.jpg"),
        ("/{a,{b,c}d}/x", "/a", "x"),
        ("/{app}/{uid}", "/camera", "10010"),
        ("/a?b/??", "/axb", "x"),
        ("/", "", ""),
    ],
)
def test_a_sample_of_a_glob(glob, directory, name):
    assert sample(glob, CAMERA) == (directory, name)


def test_an_app_without_uids_is_sampled_as_root():
    assert sample("/{uid}/x", NOBODY) == ("/0", "x")


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("- {id: all, allow: [see], paths: '/a/**'}", []),
        ("- {id: some, allow: [see], paths: '/a/*.jpg', who: {app: camera}}", [("some", "camera", "/a")]),
        ("- {id: own, allow: [see], who: {app: camera}, when: {owner: self}}", [("own", "camera", "/")]),
        ("- {id: kind, allow: [see], who: {app: maps}, when: {type: image/*}}", [("kind", "maps", "/")]),
        ("- {id: read, allow: [read], paths: '/a/*.jpg'}", []),
        (
            ALL + "- {id: no, deny: [see], paths: '/a/*.key', who: {app: camera}}",
            [("no", "camera", "/a")],
        ),
        (
            ALL + "- {id: no, deny: [see], paths: '/a/*.key', mode: monitor}",
            [],
        ),
    ],
)
def test_directories(rules, found):
    assert [(one.rule.id, one.app, one.directory) for one in mixed_directories(engine_of(rules))] == found


def test_globs_with_the_name_of_an_app_do_not_end_the_search_of_other_globs() -> None:
    """A glob with {app} is tried for three apps only, the other globs of the rule for all apps."""
    apps = "".join(f"  app{number}: {{uid: {10_100 + number}}}\n" for number in range(6))
    rules = """\
        - {id: all, allow: [see], paths: '/a/***', who: {app: [app0, app1, app2, app3]}}
        - {id: some, allow: [see], paths: ['/own/{app}/***', '/a/*.jpg']}
        """
    found = mixed_directories(engine_of(rules, apps="apps:\n" + apps))
    assert [(one.rule.id, one.app, one.directory) for one in found] == [("some", "app4", "/a")]
