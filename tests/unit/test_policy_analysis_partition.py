"""Callers with the same rules at a place are together."""

from __future__ import annotations

from policyfs.policy.analysis.files import OWN
from policyfs.policy.analysis.partition import Part, Partition
from policyfs.policy.analysis.sides import numbers_of
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.tracks import Track
from tests.support.models.whole_policies import compiled


def parts(rules: str, *names: str) -> dict[frozenset[str | None], Part]:
    """The parts at a path, by their callers' apps; the new policy has the same rules."""
    both = groups([compiled(rules), compiled(rules)])
    nothing = [frozenset[int]() for _ in both]
    tracks = [Track([group.sides[index] for group in both], nothing) for index in (0, 1)]
    nodes = [track.root(track.everyone) for track in tracks]
    for name in names:
        nodes = [track.step(at, name, track.everyone) for track, at in zip(tracks, nodes, strict=True)]
    found = Partition(tracks).parts(nodes, tracks[0].everyone)
    assert sum(part.callers for part in found) == tracks[0].everyone
    return {
        frozenset(both[at].sides[0].caller.app for at in numbers_of(part.callers)): part for part in found
    }


def test_callers_are_parted_by_the_rules_that_match():
    rules = "- {id: a, allow: [see], who: {app: camera}, paths: '/a'}\n- {id: b, deny: [see], paths: '/a'}\n"
    found = parts(rules, "a")
    ids = {tuple(live.rule.id for live, _ in part.lives[0]) for part in found.values()}
    assert ids == {("a", "b"), ("b",)}
    (camera,) = (who for who, part in found.items() if len(part.lives[0]) == 2)
    assert camera == {"camera"}


def test_apps_that_are_compared_with_the_owner_are_together_until_a_rule_names_one():
    rules = "- {id: a, allow: [see], paths: '/a', when: {owner: self}}\n"
    found = parts(rules + "- {id: b, deny: [see], paths: '/b', when: {owner: camera}}\n", "a")
    (apps,) = (who for who in found if None not in who)
    assert len(apps) > 1
    ((live, _),) = found[apps].lives[0]
    assert live.when is not None
    assert live.when.owners == {OWN}
    found = parts(rules + "- {id: b, deny: [see], paths: '/a', when: {owner: camera}}\n", "a")
    assert frozenset({"camera"}) in found
