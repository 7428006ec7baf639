"""Differences between rules that match at a place are found once for all rules that do the same."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.analysis.clues import HIDERS, LEADERS, Clue, Clues
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.analysis.partition import Lives
from tests.support.models.whole_policies import compiled

SHOWN = {(False, False): 0}
BARE = (False, False)


def lives(rules: str, *, watched: bool = True) -> Lives:
    table = compiled(rules).table
    found = (table.live_for(number, "camera", ()) for number in range(len(table.rules)))
    return tuple((live, watched) for live in found if live is not None)


def clues() -> Clues:
    policy = compiled("- {id: a, allow: [see], paths: '/a'}").engine.policy
    return Clues((policy, policy))


def ops(found: list[Clue]) -> set[Op]:
    return {clue.op for clue in found}


def test_a_difference_names_the_places_of_its_rules():
    before, after = (lives(f"- {{id: a, allow: [{words}], paths: '/a'}}") for words in ("see", "see, read"))
    (clue,) = clues().between((before, after), BARE, SHOWN, top=False)
    assert clue.change[:2] == (Direction.WIDER, Aspect.ACCESS)
    assert clue.op is Op.READ
    assert clue.causes == {(1, 0)}


def test_rules_that_do_the_same_are_compared_once():
    one = clues()
    texts = ("id: a, allow: [see], paths: '/a'", "id: b, allow: [see], paths: '/b/**'", "id: a, deny: [see]")
    found = [one.between(((), lives(f"- {{{text}}}")), BARE, SHOWN, top=False) for text in texts]
    assert found[0] is found[1]
    assert found[0] is not found[2]


def test_what_makes_a_directory_bare_and_what_hides_it_are_named_as_such():
    one = clues()
    (bare,) = one.between(((), ()), (False, True), SHOWN, top=False)
    assert (bare.op, bare.causes) == (Op.SEE, {LEADERS})
    same = lives("- {id: a, allow: [see, read], paths: '/a'}", watched=False)
    hidden = one.between((same, same), BARE, {(False, False): 0, (True, False): 1}, top=False)
    assert ops(hidden) == {Op.SEE, Op.READ}
    assert {clue.causes for clue in hidden} == {frozenset({HIDERS})}
