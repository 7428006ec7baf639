"""What rules cost in a shared mount."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.costs import Costs, costs
from tests.support.models.policies import APPS, engine_of

ALL = "- {id: all, allow: [all]}\n"


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("{id: r, deny: [see], who: {app: maps}, paths: '/a/**'}", Costs(("r",), ())),
        ("{id: r, deny: [see], who: {app: maps}, paths: '/a/{app}/*.key'}", Costs(("r",), ())),
        ("{id: r, deny: [write], who: {app: maps}, paths: '/a/**'}", Costs((), ())),
        ("{id: r, deny: [see], paths: '/a/**'}", Costs((), ())),
        ("{id: r, require: {redact: location}, who: {app: maps}}", Costs((), ("r",))),
        ("{id: r, require: {redact: location}}", Costs((), ())),
        ("{id: r, require: {content: image/*}, who: {app: maps}, paths: '/a/**'}", Costs((), ("r",))),
    ],
)
def test_a_rule_costs_names_where_it_makes_answers_differ(rule: str, found: Costs) -> None:
    assert costs(engine_of(f"{ALL}- {rule}\n", apps=APPS)) == found


def test_a_rule_about_writing_costs_nothing_beside_one_that_redacts() -> None:
    redact = "- {id: r, require: {redact: location}, who: {app: maps}}\n"
    write = "- {id: w, deny: [write], who: {app: maps}, paths: '/a/**'}\n"
    assert costs(engine_of(ALL + redact + write, apps=APPS)) == Costs((), ("r",))


def test_the_sentence() -> None:
    assert Costs((), ()).line() == ""
    begin, end = "note: in a shared mount each stat asks the daemon where callers get ", "keeps the names"
    told = Costs(("b", "a"), ("c",)).line()
    assert told.startswith(f"{begin}different names (rules: a, b) or different views of a file (rules: c); ")
    assert told.endswith(end)
    assert Costs((), ("c",)).line().startswith(f"{begin}different views of a file (rules: c); ")
