"""The cause of an answer, and the nearest miss."""

from __future__ import annotations

import pytest

from policyfs.domain import Facts
from policyfs.policy.explain.explain import explain
from tests.support.models.policies import DIRECTORY, FAMILY, FILE, Asked

PHOTO = Facts("image/jpeg", "camera")


def cause(asked: Asked, name: str, request: str, path: str, ftype=FILE, facts: Facts = PHOTO) -> str:
    return explain(asked.engine, asked.who(name), request, path.encode(), ftype, facts).cause


@pytest.fixture(scope="module")
def family() -> Asked:
    return Asked(FAMILY)


NEAR_OWN = "the nearest rule is media.own (test.yaml:16): who: gallery is not camera"
NEAR_ALL = "the nearest rule is backup.all (test.yaml:36): who: gallery does not have the grant manage"


@pytest.mark.parametrize(
    ("who", "request_", "path", "told"),
    [
        ("maps", "read", "/DCIM/a.jpg", "rule media.read allows the request"),
        ("camera", "read", "/DCIM/a.jpg", "rules media.own and media.read allow the request"),
        (
            "gallery",
            "read",
            "/DCIM/a.jpg",
            "rule media.read allows the request, without location (media.no-location)",
        ),
        ("gallery", "delete", "/DCIM/a.jpg", f"no rule allows delete; {NEAR_OWN}"),
        ("gallery", "read", "/Music/a", f"no rule allows the caller to see the path; {NEAR_ALL}"),
        ("gallery", "read", "/Android/data/maps", "rule app.private denies the request"),
        ("gallery", "read", "/Android/data/maps/a/b", "rule app.private hides /Android/data/maps"),
        ("camera", "stat", "/", "everyone may see the root"),
    ],
)
def test_the_cause_in_one_clause(family: Asked, who: str, request_: str, path: str, told: str) -> None:
    assert cause(family, who, request_, path, DIRECTORY if path == "/" else FILE).startswith(told)


@pytest.mark.parametrize(
    ("request_", "path", "told"),
    [
        ("delete", "/a", "rule tidy allows the request, and the directory leads to paths that the app sees"),
        ("delete", "/", "rule tidy allows the request, and everyone may see the root"),
        ("list", "/", "everyone may see the root"),
        ("chmod", "/", "rule locked denies the request"),
        ("chmod", "/a", "rule locked denies the request"),
        ("mkdir", "/", "no rule allows create; the nearest rule is tidy (test.yaml:10): the rule matches"),
        ("chmod", "/x", "no rule allows the caller to see the path; the nearest rule is deep (test.yaml:9)"),
        ("chmod", "/hidden", "rule hides denies the request"),
    ],
)
def test_the_cause_is_what_refuses_the_path_or_the_operation(request_: str, path: str, told: str) -> None:
    asked = Asked("""\
        - {id: deep, allow: [see], paths: "/a/b/c"}
        - {id: tidy, allow: [delete], paths: ["/a", "/"]}
        - {id: locked, deny: [attr], paths: ["/", "/*"]}
        - {id: hides, deny: [see], paths: "/hidden"}
        """)
    assert cause(asked, "camera", request_, path, DIRECTORY).startswith(told)


def test_a_way_to_something_an_unknown_fact_and_a_dry_run() -> None:
    asked = Asked("""\
        - {id: a, allow: [all], paths: "/a/b/**"}
        - {id: d, deny: [read], paths: "/a/b/**", when: {type: text/plain}}
        - {id: m, deny: [write], paths: "/a/b/**", mode: monitor}
        """)
    told = "the directory leads to paths that the app sees"
    assert cause(asked, "camera", "list", "/a", DIRECTORY) == told
    told = cause(asked, "camera", "read", "/a/b/c", facts=Facts())
    assert (
        told
        == "rule d denies the request, because the content kind is unknown, so the rule counts as matching"
    )
    told = "rule m would deny the request, but in monitor mode policyfs only records this"
    assert cause(asked, "camera", "write", "/a/b/c") == told


def test_the_nearest_miss_has_the_fewest_faults() -> None:
    asked = Asked("""\
        - {id: look, allow: [see], paths: "/**"}
        - {id: other-app, allow: [read], who: {app: maps}, paths: "/x/**"}
        - {id: other-path, allow: [read], paths: "/Photos/2023/**"}
        - {id: other-both, allow: [read], who: {app: maps}, paths: "/y/**"}
        - {id: other-owner, allow: [read], paths: "/own/**", when: {owner: maps}}
        """)
    assert "the nearest rule is other-app" in cause(asked, "camera", "read", "/x/a")
    assert "the nearest rule is other-path" in cause(asked, "camera", "read", "/Photos/2024/a")
    look = Asked('- {id: look, allow: [see], paths: "/**"}')
    told = (
        "no rule allows read; the nearest rule is look (test.yaml:9): the rule matches, but allows only"
        " see"
    )
    assert cause(look, "camera", "read", "/a") == told
    assert "the nearest rule is other-owner" in cause(asked, "camera", "read", "/own/a")
    empty = Asked("- {id: d, deny: [read]}")
    assert cause(empty, "camera", "stat", "/a") == "no rule allows the caller to see the path"
