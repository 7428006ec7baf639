"""Samples in a person's words: each caller's own names in the place of those that stand for them."""

from __future__ import annotations

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.files import GONE, OWN, FileClasses
from policyfs.policy.analysis.samples import Sample, Samples, is_made_up
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.walk import Spot
from tests.support.models.whole_policies import compiled

RULES = "- {id: a, allow: [see], paths: '/a/**', when: {owner: self}}\n"
WAY = (True,)


def test_names_are_the_callers_own():
    policy = compiled(RULES)
    callers = groups([policy])
    live = policy.table.live_for(0, OWN, ())
    assert live is not None
    hidden = {WAY: (OWN, "\0app"), (False,): ("none", "none")}
    spot = Spot((((None, "a"), "d"), "\ue000"), (), 1, hidden, (), False)
    sample = Sample(spot, Op.READ, FileType.REGULAR, Facts("image/jpeg", OWN), WAY, FileClasses([live]))
    samples = Samples(callers)
    apps = set()
    for at, group in enumerate(callers):
        request, app = samples.request(sample, at), group.subjects[0].apps[0]
        assert (request.shown_path, request.facts) == ("/a/d/x", Facts(None, app))
        assert request.owners == (app, GONE)
        apps.add(app)
    assert len(apps) > 1


def test_made_up_names():
    assert is_made_up("\ue000.jpg")
    assert not is_made_up("a.jpg")
