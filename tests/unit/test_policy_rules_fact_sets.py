"""Sets of facts: the facts of which each bit stands for, and those under which a rule matches."""

from __future__ import annotations

from policyfs.domain import Facts, FileType
from policyfs.policy.rules.fact_sets import FactSpace, most_facts
from policyfs.policy.rules.facts import FILE_TYPES, Kinds, fixed_facts, sample_facts
from policyfs.policy.rules.table import told_apart
from tests.support.models.policies import Asked

RULES = """\
- {id: a, allow: [read], when: {type: [image/jpeg, video/*], owner: [camera, none]}}
- {id: b, deny: [read], when: {type: image/*}, unless: {owner: self}}
- {id: c, allow: [see], unless: [{type: inode/directory}, {owner: gallery}]}
- {id: d, require: {redact: [location]}, when: {type: image/*}, raw_types: [text/csv]}
"""


def test_a_rule_matches_under_the_facts_of_its_sets():
    asked = Asked(RULES)
    lives = asked.engine.profile(asked.who("camera"), asked.engine.state_of(b"/x")).lives
    assert [live.rule.id for live in lives] == ["a", "b", "c", "d"]
    for ftype in (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK):
        kinds, owners = told_apart(lives)
        space = FactSpace(kinds, owners, ftype)
        samples = sample_facts(kinds, owners, ftype, unknown=True)
        assert space.everything == (1 << len(samples)) - 1
        for live in lives:
            certain, possible = space.of(live)
            for number, facts in enumerate(samples):
                bit = 1 << number
                assert bool(certain & bit) + bool(possible & bit) == live.match(fixed_facts(ftype, facts))
    assert Facts(None, None) == samples[-1] or ftype is not FileType.REGULAR


def test_raw_kinds_are_a_set_too():
    asked = Asked(RULES)
    (redacting,) = asked.engine.profile(asked.who("camera"), asked.engine.state_of(b"/x")).lives[3:]
    kinds, owners = told_apart([redacting])
    space = FactSpace(kinds, owners, FileType.REGULAR)
    samples = sample_facts(kinds, owners, FileType.REGULAR, unknown=True)
    raw = [facts.kind for number, facts in enumerate(samples) if space.raw(redacting) >> number & 1]
    assert set(raw) == {"text/csv"}


def test_a_space_is_never_larger_than_it_was_said_to_be():
    for names in ((), ("image/*",), ("image/*", "image/png", "*"), ("inode/x-empty", "a/b")):
        kinds = {Kinds(frozenset(names)), Kinds(frozenset({"text/plain"}))}
        for ftype in FILE_TYPES:
            assert FactSpace(kinds, {"self", "a"}, ftype).size <= most_facts(kinds, {"self", "a"}, ftype)
