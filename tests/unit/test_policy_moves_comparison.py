"""Comparisons of two paths. Paths with the same rules share answers, and each comparison has a budget."""

from __future__ import annotations

import pytest

from policyfs.domain import FileType
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.moves.comparison import Budget, Comparison
from policyfs.policy.rules.profile import Profiles
from policyfs.policy.rules.rights_map import differs
from policyfs.policy.rules.states import Paths
from policyfs.policy.rules.visibility import Sight
from tests.support.models.policies import DIRECTORY, FILE, Asked

RULES = """\
- {id: deep, allow: [see, read], paths: ["/{a,b}/x/**"]}
- {id: one, allow: [see, read], paths: ["/c/**", "/d/**"]}
"""


class Compared:
    def __init__(self, rules: str, budget: Budget | None = None) -> None:
        table = Asked(rules).engine.table
        self.paths = Paths(table, 1000)
        self.comparison = Comparison(
            table, Sight(table, 1000), Profiles(table, 1000, dry_run=False), differs, budget
        )

    def is_worse(self, old: bytes, new: bytes, ftype: FileType = FILE) -> bool:
        return self.comparison.is_worse(self.paths.state_of(old), self.paths.state_of(new), ftype)


def test_paths_with_the_same_rules_may_differ_by_what_is_below():
    compared = Compared(RULES)
    assert compared.is_worse(b"/a", b"/e", DIRECTORY), "/a leads to /a/x/..., which is seen"
    assert not compared.is_worse(b"/e", b"/f", DIRECTORY)
    assert not compared.is_worse(b"/a", b"/b", DIRECTORY)
    assert not compared.is_worse(b"/a", b"/e")
    assert compared.is_worse(b"/c/i", b"/e")
    assert not compared.is_worse(b"/c/i", b"/d/j")


def test_a_comparison_ends_with_its_budget():
    assert Compared(RULES, Budget(100)).is_worse(b"/c/i", b"/e")
    with pytest.raises(TooHardError):
        Compared(RULES, Budget(0)).is_worse(b"/c/i", b"/e")
