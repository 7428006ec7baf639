"""Steps through an automaton for many callers at once agree with the steps of each."""

from __future__ import annotations

from policyfs.policy.analysis.sides import Side, numbers_of
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.tracks import Track
from tests.support.models.whole_policies import compiled

RULES = """\
- {id: all, allow: [see], paths: "/a/**"}
- {id: camera, allow: [read], who: {app: camera}, paths: "/a/*.jpg"}
- {id: own, allow: [see], who: {app: any}, paths: "/apps/{app}/**"}
- {id: spared, deny: [see], paths: "/d/***", unless: {path: "/**/open/***"}}
"""


def track(watched: frozenset[int] = frozenset()) -> Track:
    sides = [group.sides[0] for group in groups([compiled(RULES)])]
    return Track(sides, [watched & side.rules for side in sides])


def down(track: Track, *names: str) -> tuple[tuple[int, int], ...]:
    nodes = track.root(track.everyone)
    for name in names:
        nodes = track.step(nodes, name, track.everyone)
    return nodes


def matching(side: Side, *names: str) -> set[str]:
    position = side.root
    for name in names:
        position = side.step(position, name)
    return {live.rule.id for live in side.profile(position, top=False).lives}


def test_each_caller_has_the_rules_of_its_own_walk():
    one = track()
    for names in (("a", "x"), ("a", "x.jpg"), ("apps", "camera", "x"), ("apps", "x", "y"), ("d", "x")):
        found = one.matches(down(one, *names), one.everyone)
        for at, side in enumerate(one.sides):
            ids = {one.compiled.table.rules[match.rule].id for match in found if match.callers >> at & 1}
            assert ids == matching(side, *names), (names, side.caller.app)


def test_blocks_of_unless_have_their_own_callers():
    one = track()
    ((match),) = one.matches(down(one, "d", "open"), one.everyone)
    assert match.unless == ((0, one.everyone),)


def test_nodes_of_rules_that_cannot_match_any_more_are_left_out():
    one = track()
    assert len(down(one, "a")) == 1  # not what spares from the deny: that is below /d
    assert len(down(one, "d")) == 2
    assert down(one, "elsewhere") == ()


def test_only_callers_with_a_difference_differ():
    number = next(n for n, rule in enumerate(track().compiled.table.rules) if rule.id == "camera")
    one = track(frozenset({number}))
    apps = {one.sides[at].caller.app for at in numbers_of(one.leading(down(one, "a"), one.watched))}
    assert apps == {"camera"}
    assert one.leading(down(one, "d"), one.watched) == 0


def test_bare_directories_for_each_caller():
    one = track()
    for names in (("apps",), ("apps", "camera"), ("d",)):
        bare = one.below(down(one, *names), one.everyone)
        for at, side in enumerate(one.sides):
            position = side.root
            for name in names:
                position = side.step(position, name)
            assert bool(bare >> at & 1) == side.below(position), (names, side.caller.app)
