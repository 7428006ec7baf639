"""Globs for the places of a trail."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.learn import refusals
from policyfs.policy.learn.evidence import Evidence, Use
from policyfs.policy.learn.globs import Pattern, proposals
from policyfs.policy.replay.recorded import Cause, Recorded
from tests.support.models.naive_policy import Caller, glob_matches

READ = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ())
LIST = READ._replace(operation="list", syscall="opendir")


def globs(*paths: str, recorded: Recorded = READ, more: Evidence | None = None) -> list[str]:
    evidence = more or Evidence()
    for path in paths:
        evidence.add(recorded, path.encode(), 1, lambda: "0:1", denied_by_rule=False)
    return [pattern.glob for rule in proposals(evidence) for pattern in rule.patterns]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/D/a.jpg", "/D/b.jpg"], ["/D/a.jpg", "/D/b.jpg"]),
        (["/D/a.jpg", "/D/b.jpg", "/D/c.jpg"], ["/D/*.jpg"]),
        (["/D/a.jpg", "/D/b.jpg", "/D/c.png"], ["/D/a.jpg", "/D/b.jpg", "/D/c.png"]),
        (["/D/a", "/D/b", "/D/c"], ["/D/*"]),
        ([f"/D/{d}/{n}.jpg" for d in "xyz" for n in "abc"], ["/D/**/*.jpg"]),
        ([f"/D/{d}/{n}.jpg" for d in "xyz" for n in "abc"] + ["/D/one.jpg"], ["/D/**/*.jpg"]),
        ([f"/{d}/{n}.jpg" for d in "xyz" for n in "abc"], ["/x/*.jpg", "/y/*.jpg", "/z/*.jpg"]),
        (["/Android/data/a/x/1.db"], ["/Android/data/{app}/***"]),
        (["/D/[1].jpg", "/D/*{2}?.jpg", "/D/back\\slash"], ["/D/*\\{2\\}\\?.jpg".replace("/*", "/\\*"),
         "/D/\\[1\\].jpg", "/D/back\\\\slash"]),
    ],
)  # fmt: skip
def test_globs(paths: list[str], expected: list[str]):
    assert globs(*paths) == expected


def test_listings_that_other_rules_show_need_no_rule():
    evidence = Evidence()
    globs("/", "/D", "/D/x", "/Other", recorded=LIST, more=evidence)
    assert globs("/D/x/a.jpg", more=evidence) == ["/Other", "/D/x/a.jpg"]


def test_a_name_that_was_a_directory_and_a_file_gets_both():
    evidence = Evidence()
    made = READ._replace(operation="create", syscall="open(O_RDWR|O_CREAT)")
    globs("/D/x", recorded=made, more=evidence)
    assert globs("/D/x", "/D", recorded=LIST, more=evidence) == ["/D/x", "/D/x"]
    assert [rule.use for rule in proposals(evidence)] == [Use.LIST, Use.OWN]


def test_no_rule_is_proposed_where_a_deny_of_the_proposal_holds():
    evidence = Evidence()
    for denied, recorded in (("/D/a.jpg", READ), ("/H", LIST), ("/", LIST)):
        evidence.add(recorded, denied.encode(), 1, lambda: "0:1", denied_by_rule=True)
    found = globs("/D/a.jpg", "/D/b.jpg", "/H/c.jpg", "/H/x/1.jpg", "/H/x/2.jpg", "/H/x/3.jpg", more=evidence)
    assert found == ["/D/a.jpg", "/D/b.jpg"]
    assert [(rule.use, rule.ops) for rule in proposals(evidence)] == [
        (Use.LOOK, Op.SEE),
        (Use.READ, Op.SEE | Op.READ),
    ]


def test_an_app_with_too_many_refused_paths_gets_no_rule(monkeypatch: pytest.MonkeyPatch):
    evidence = Evidence()
    monkeypatch.setattr(refusals, "MOST", 2)
    for number in range(4):
        evidence.add(READ, b"/E/%d.jpg" % number, 1, lambda: "0:1", denied_by_rule=True)
    assert globs("/D/a.jpg", more=evidence) == []


@pytest.mark.parametrize(
    "pattern",
    [
        Pattern(("D",), "jpg"), Pattern(("D",), ""), Pattern(("D",), "jpg", deep=True),
        Pattern(("D",), "x.jpg", whole=True), Pattern(("D",), "", own="{app}"), Pattern((), "", own="{app}"),
    ],
)  # fmt: skip
def test_a_pattern_matches_what_its_glob_matches(pattern: Pattern):
    for path in ("/D", "/D/x.jpg", "/D/x.png", "/D/e/x.jpg", "/D/a", "/D/a/x", "/a", "/a/x.jpg", "/x.jpg"):
        names = tuple(path.split("/")[1:])
        wanted = glob_matches(pattern.glob, path.encode(), False, Caller("a", 7))
        assert pattern.matches(names, ("a", 7)) == wanted, path
